"""What serves beside the rules and the version before: the returns that its report holds, on one axis."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headrace.pipelines.serve.view import ReportPlace, TaskView
from headrace.schemas.errors import HeadraceError
from headrace.schemas.grounding import format_fact, format_interval
from headrace.schemas.ports import Log
from headrace.schemas.records import Fact, Report

logger = logging.getLogger(__name__)

MOST_REPORTS: Final = 64
RETURN: Final = "return."
AGAINST: Final = "return.vs-"
_VERDICTS: Final = {"up": "this version is better", "down": "this version is worse", "flat": "no clear difference"}


@dataclass(frozen=True, slots=True)
class Bar:
    """A return and its interval. place, low, high: in % of a common axis. difference: of the version to it."""

    name: str
    text: str
    interval: str
    place: float
    low: float
    high: float
    own: bool
    difference: str
    verdict: str


class Reports:
    """Reports by their place on the log, the ones read last kept."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: dict[str, Report] = {}

    def read(self, place: ReportPlace) -> Report | None:
        """Return a report; None where the log holds it no longer. Raises as a log does."""
        known = self._kept.get(place.head.report_id)
        if known is None:
            known = place.read(self._log)
            if known is not None:
                if len(self._kept) >= MOST_REPORTS:
                    self._kept.clear()
                self._kept[place.head.report_id] = known
        return known

    def of_serving(self, task: TaskView, version: int) -> Report | None:
        """Return the newest report of a version that served, the one that serves before others."""
        found = [one for one in [*task.reports.values()] if one.head.kind == "version"]
        own = [one for one in found if one.head.policy_version == version]
        if not (own or found):
            return None
        try:
            return self.read((own or found)[-1])
        except HeadraceError as error:
            logger.warning("the report %s can't be read: %s", (own or found)[-1].head.report_id, error)
            return None


def bars(report: Report) -> list[Bar]:
    """Return the returns of a version's report, the best first; [] where it has none to compare."""
    facts = {fact.fact_id: fact for fact in report.facts.facts}
    returns = [fact for key, fact in facts.items() if key.startswith(RETURN) and not key.startswith(AGAINST)]
    if len(returns) < 2:
        return []
    low, high = _axis([bound for fact in returns for bound in (fact.value, fact.low, fact.high) if bound is not None])
    made = [_bar(fact, facts.get(AGAINST + fact.fact_id.removeprefix(RETURN)), low, high) for fact in returns]
    return sorted(made, key=lambda one: -one.place)


def _axis(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.06 * ((high - low) or 1.0)
    return low - room, high + room


def _bar(fact: Fact, against: Fact | None, low: float, high: float) -> Bar:
    def place(value: float | None) -> float:
        return round(100.0 * ((fact.value if value is None else value) - low) / (high - low), 2)

    own = fact.fact_id == "return.policy"
    return Bar(
        "this version" if own else fact.label.split(",", 1)[0],
        format_fact(fact, "value", typographic=True).removesuffix(" return"),
        format_interval(fact),
        place(fact.value),
        place(fact.low),
        place(fact.high),
        own,
        "" if against is None else format_fact(against, "value", typographic=True).removesuffix(" return"),
        "" if against is None or against.direction is None else _VERDICTS[against.direction],
    )
