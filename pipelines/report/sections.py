"""What a digest tells, task by task: what serves now, how far it has come in the period, and what people must decide.

Pure, and of reports alone: the same reports give the same sections.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from headrace.learners.explain.template_outcomes import levels
from headrace.pipelines.report import render
from headrace.schemas.grounding import format_fact
from headrace.schemas.records import Fact, Report

MANY_REFUSALS: Final = 3
"""Candidates refused in a row of which a person should know."""
MAX_DECISIONS: Final = 12
MAX_RULES: Final = 3
_ORDER: Final = {"down": 0, "up": 1, "flat": 2}


@dataclass(frozen=True, slots=True)
class Section:
    """One task in a digest. versions: reports of those that came to serve, oldest first. intervals: oldest first."""

    task: str
    versions: tuple[Report, ...]
    intervals: tuple[Report, ...]

    @property
    def lead(self) -> Report:
        """What is told first: what serves now, else what the agents did last."""
        return self.versions[-1] if self.versions else self.intervals[-1]

    @property
    def latest(self) -> Report | None:
        """The last interval, where a version leads."""
        return self.intervals[-1] if self.versions and self.intervals else None


def sections(reports: Sequence[Report]) -> list[Section]:
    """Group reports by task: what serves now before what is only told of agents, what went wrong first."""
    found = [_section(task, reports) for task in sorted({report.task for report in reports})]
    return sorted(found, key=lambda one: (not one.versions, _ORDER[render.direction(one.lead)], one.task))


def _section(task: str, reports: Sequence[Report]) -> Section:
    by_id = {report.report_id: report for report in reports if report.task == task}
    versions = [one for one in by_id.values() if one.kind == "version"]
    intervals = [one for one in by_id.values() if one.kind == "interval"]
    return Section(
        task,
        tuple(sorted(versions, key=lambda one: (one.policy_version or 0, one.end_ms))),
        tuple(sorted(intervals, key=lambda one: (one.end_ms, one.report_id))),
    )


def course(section: Section) -> str:
    """Say how far the task has come from the first of the period's versions to the last; "" where there is but one."""
    if len(section.versions) < 2:
        return ""
    first, last = section.versions[0], section.versions[-1]
    names = ", ".join(one.facts.subject for one in section.versions)
    before, now = _facts(first), _facts(last)
    told = [*levels(now), *(now[key] for key in ("return.policy",) if key in now)]
    steps = [_step(before[fact.fact_id], fact) for fact in told if fact.fact_id in before]
    same = "traces.count" in now and before.get("traces.count") == now["traces.count"]
    text = f"{len(section.versions)} versions came to serve in this period ({names})."
    return f"{text} From {first.facts.subject} to now: {'; '.join(steps)}." if same and steps else text


def _step(before: Fact, now: Fact) -> str:
    name = "" if now.fact_id == "return.policy" else f"{format_fact(now, 'name', typographic=True)} "
    old, new = (format_fact(one, "value", typographic=True) for one in (before, now))
    return f"{name}{old} to {new}"


class Decision(NamedTuple):
    """What people must decide or look at, and the command that helps."""

    what: str
    command: str


def decisions(found: Sequence[Section]) -> list[Decision]:
    """Return what needs a decision, what is worse now first."""
    all_of_them = [*_worse(found), *_refused(found), *_proposed(found), *_rejected(found)]
    more = len(all_of_them) - MAX_DECISIONS
    rest = [Decision(f"{more} more; all reports:", "headrace report list")] if more > 0 else []
    return all_of_them[:MAX_DECISIONS] + rest


def _worse(found: Sequence[Section]) -> Iterator[Decision]:
    for one in found:
        if one.versions and render.direction(one.lead) == "down":
            what = f"{one.task}: {one.lead.facts.subject} serves and is worse than what it is compared with. Go back:"
            yield Decision(what, f"headrace policy rollback {one.task}")


def _refused(found: Sequence[Section]) -> Iterator[Decision]:
    for one in found:
        reports = [report for report in (one.latest, one.lead) if report is not None]
        fact = next(
            (_facts(report)["refusals.count"] for report in reports if "refusals.count" in _facts(report)), None
        )
        if fact is not None and fact.value >= MANY_REFUSALS:
            what = f"{one.task}: the gate refused {format_fact(fact)} in a row; learning may be stuck. See why:"
            yield Decision(what, f"headrace policy list --task {one.task}")


def _proposed(found: Sequence[Section]) -> Iterator[Decision]:
    for one in found:
        count = sum(_value(report, "directives.proposed") for report in one.intervals)
        if count:
            changes = "change" if count == 1 else "changes"
            what = (
                f"{one.task}: the advisor proposed {count:,.0f} {changes} of learning, which nobody has made. See them:"
            )
            yield Decision(what, f"headrace directive list --task {one.task}")


def _rejected(found: Sequence[Section]) -> Iterator[Decision]:
    """Of all tasks at once: an interval's count is of all of them, so that of the tasks the largest sum stands."""
    sums = [_rejections(one) for one in found]
    most = max(sums, key=lambda one: one["total"], default=Counter[str]())
    if most["total"]:
        rules = [f"{rule} {count:,.0f}" for rule, count in most.most_common() if rule != "total"][:MAX_RULES]
        by = f" (by rule: {', '.join(rules)})" if rules else ""
        yield Decision(
            f"Rejected as bad data: {most['total']:,.0f} messages{by}. See why:", "headrace rejected summary"
        )


def _rejections(section: Section) -> Counter[str]:
    found = Counter[str]()
    for report in section.intervals:
        for fact in report.facts.facts:
            if fact.fact_id.startswith("rejected."):
                found[fact.fact_id.removeprefix("rejected.")] += int(fact.value)
    return found


def _facts(report: Report) -> dict[str, Fact]:
    return {fact.fact_id: fact for fact in report.facts.facts}


def _value(report: Report, fact_id: str) -> float:
    fact = _facts(report).get(fact_id)
    return fact.value if fact else 0.0
