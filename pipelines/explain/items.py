"""The items of explain's dataflow: what happened, and what was found out about it."""

from dataclasses import dataclass

from headrace.learners.explain.interval import Rejected
from headrace.learners.explain.timeline import ClosedInterval, Closing
from headrace.schemas.ports import Commit
from headrace.schemas.records import Report, ServingPolicy


@dataclass(frozen=True, slots=True)
class Place:
    """What may be committed once an item is done. generation: the assignment that it was read under."""

    topic: str
    partition: int
    commit: Commit
    generation: int


@dataclass(frozen=True, slots=True, eq=False)
class Happening:
    """Something to report on: a policy that serves now, or an interval that is over."""

    place: Place
    promotion: ServingPolicy | None = None
    interval: ClosedInterval | None = None
    rejected: Rejected | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """A happening's report, without words at first; None where there is nothing (new) to report."""

    place: Place
    report: Report | None
    closing: Closing | None = None
