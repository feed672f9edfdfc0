"""The items of explain's dataflow: what happened, and what was found out about it."""

from dataclasses import dataclass

from headrace.learners.explain.interval import RejectedCounts
from headrace.learners.explain.timeline import ClosedInterval, Closing
from headrace.schemas.ports import Commit
from headrace.schemas.records import Fact, Report, ServingPolicy


@dataclass(frozen=True, slots=True)
class Source:
    """What may be committed once an item is done. generation: the assignment that it was read under."""

    topic: str
    partition: int
    commit: Commit
    generation: int


@dataclass(frozen=True, slots=True, eq=False)
class Trigger:
    """Something to report on: a policy that serves now, or an interval that is over."""

    source: Source
    promotion: ServingPolicy | None = None
    interval: ClosedInterval | None = None
    rejected: RejectedCounts | None = None
    operations: tuple[Fact, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """A trigger's report, without words at first; None where there is nothing (new) to report."""

    source: Source
    report: Report | None
    closing: Closing | None = None
