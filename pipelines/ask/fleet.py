"""What serves, what agents did, and what was wrong with the data: of a task, from its log and its closed windows."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from msgspec.structs import replace

from headrace.learners.explain.facts import CANARY, GATE, SETTINGS
from headrace.learners.explain.interval import (
    IntervalFold,
    interval_facts,
    moment_text,
    rejected_facts,
    span,
)
from headrace.pipelines.ask.ground import Ground, NotKnownError
from headrace.pipelines.ask.question import Moment, Question
from headrace.pipelines.published import reports
from headrace.pipelines.query.quarantine import origin, rejected
from headrace.pipelines.query.windows import decoded
from headrace.schemas.partition import group_of
from headrace.schemas.policy_versions import acts_by
from headrace.schemas.records import Fact, Facts, ServingPolicy, TaskSpec, WindowSummary

MOST_WINDOWS: Final = 20_000
"""So many rows of windows are read for one question, half of them of the time before."""
MOST_REJECTED: Final = 100_000
"""So many rejected messages are counted for one question."""
USUAL_MS: Final = 3_600_000
"""What is looked at where a question names no time: the last hour, or the last window where that is longer."""

_DECIDED: Final = {GATE: "the gate", SETTINGS: "the settings without a test", CANARY: "a canary"}


def decider(decided_by: str) -> str:
    """Return who decided, without a name that people typed."""
    return _DECIDED.get(decided_by, "a person")


def serving(ground: Ground, question: Question) -> Facts:
    """Tell which version serves a task, since when, and what an agent acts by."""
    assert question.task is not None
    records = ground.serving(question.task)
    now = records[-1]
    run = [*takewhile(lambda one: one.version == now.version, reversed(records))]
    before = records[-len(run) - 1].version if len(run) < len(records) else 0
    found = [
        Fact("asked.serving", f"since {moment_text(run[-1].ts)}, the version that serves", now.version, "version"),
        Fact("serving.decided", f"{decider(run[-1].decided_by)}, let it serve", now.version, "version"),
    ]
    if before:
        found.append(Fact("serving.before", "served before it", before, "version"))
    if question.version not in {None, now.version}:
        found.append(Fact("serving.other", "asked about, does not serve", question.version or 0, "version"))
    return Facts(question.task, question.task, (*found, *_now_facts(now, question.agent)))


def _now_facts(now: ServingPolicy, agent: str | None) -> Iterator[Fact]:
    if now.canary is not None:
        yield Fact("serving.canary", "a canary, which a part of the agents tries", now.canary.version, "version")
        yield Fact("serving.share", "agents that try the canary", 100.0 * now.canary.share, "%")
    if now.held:
        yield Fact("serving.held", "promotion is on hold, the version that stays", now.version, "version")
    if agent is not None:
        yield Fact("serving.agent", f"{agent}, acts by the version", acts_by(now, agent), "version")


def activity(ground: Ground, question: Question) -> Facts:
    """Tell what agents, or one of them, did in a time, beside the time of the same length before it."""
    spec = ground.specs[question.task or ""]
    asked = _whole_windows(ground, spec, question.moment)
    lasts = asked.end_ms - asked.start_ms
    current = _fold(ground, spec, question.agent, asked)
    before = _fold(ground, spec, question.agent, Moment(asked.start_ms - lasts, asked.start_ms, point=False))
    now = current.totals()
    if not now.rows:
        if question.agent is not None and question.agent not in ground.agents(spec.task):
            raise ground.unknown_agent(spec.task, question.agent)
        who = question.agent or spec.task
        when = span(asked.start_ms, asked.end_ms)
        raise NotKnownError(f"no closed window has rows of {who}, {when}; {ground.newest_text(spec.task)}")
    found = interval_facts(spec, now, before.totals())
    who = f"{question.agent}, " if question.agent else ""
    lead = Fact("asked.activity", f"{question.agent or 'all agents'}, transitions looked at", now.rows, "rows")
    counts = _taken(spec, question.actions, now.actions)
    return Facts(spec.task, f"{who}{span(asked.start_ms, asked.end_ms)}", (lead, *counts, *found.facts))


def _taken(spec: TaskSpec, actions: tuple[int, ...], counts: Counter[int]) -> Iterator[Fact]:
    if actions and isinstance(spec.actions, tuple):
        names = " or ".join(spec.actions[place] for place in actions)
        yield Fact("count.taken", f"{names}, taken", sum(counts[place] for place in actions), "times")


def _whole_windows(ground: Ground, spec: TaskSpec, moment: Moment | None) -> Moment:
    """Return the time that the windows take up in which a time lies."""
    if moment is None:
        now_ms = ground.newest_ms(spec.task) + 1
        moment = Moment(now_ms - max(USUAL_MS, spec.window_ms), now_ms, point=False)
    start_ms, end_ms = moment.start_ms, moment.end_ms
    start_ms -= start_ms % spec.window_ms
    end_ms = max(end_ms + -end_ms % spec.window_ms, start_ms + spec.window_ms)
    return Moment(max(0, start_ms), end_ms, point=False)


def _fold(ground: Ground, spec: TaskSpec, agent: str | None, asked: Moment) -> IntervalFold:
    fold = IntervalFold(asked.start_ms, asked.end_ms, len(spec.reward_terms), len(spec.outcomes))
    group = None if agent is None else group_of(agent, spec.groups)
    rows = ground.index.windows(spec.task, asked.start_ms, asked.end_ms)
    for count, row in enumerate(rows):
        if count >= MOST_WINDOWS // 2:
            when = span(asked.start_ms, asked.end_ms)
            raise NotKnownError(f"{when} has more than {count} windows of {spec.task}: ask about a shorter time")
        if group in {None, row.key.group}:
            summary = decoded(row)
            of_agent = summary if agent is None else _of_agent(summary, agent)
            if of_agent is not None:
                fold.add(of_agent)
    return fold


def _of_agent(summary: WindowSummary, agent: str) -> WindowSummary | None:
    stats = next((one for one in summary.agents if one.agent_id == agent), None)
    if stats is None:
        return None
    return replace(summary, rows=stats.rows, duplicates=0, totals=replace(stats, agent_id=""), agents=[stats])


def health(ground: Ground, question: Question) -> Facts:
    """Tell what was rejected, repeated or late: messages by the log's clock, rows by event time."""
    spec = ground.specs[question.task or ""]
    asked = _whole_windows(ground, spec, question.moment)
    counted = _rejected(ground, question)
    now = _fold(ground, spec, question.agent, asked).totals()
    lead = Fact("asked.health", f"{question.agent or 'all agents'}, rows in the index", now.rows, "rows")
    repeated = Fact("rows.duplicates", "duplicates, dropped", now.duplicates, "rows")
    late = _late(ground, spec, asked)
    who = f"{question.agent}, " if question.agent else ""
    found = (lead, repeated, *late, *rejected_facts(counted.counts, counted.label))
    return Facts(spec.task, f"{who}{span(asked.start_ms, asked.end_ms)}", found)


@dataclass(frozen=True, slots=True)
class _Counted:
    """Messages rejected by rule; label: of which time and of whom."""

    counts: Counter[str]
    label: str


def _rejected(ground: Ground, question: Question) -> _Counted:
    """Count what the quarantine holds of a time by the log's clock, of one producer where an agent is named."""
    moment, counts = question.moment, Counter[str]()
    start_ms, end_ms = (moment.start_ms, moment.end_ms) if moment else (None, None)
    for count, message in enumerate(rejected(ground.log, (), start_ms, end_ms)):
        if count >= MOST_REJECTED:
            raise NotKnownError(f"more than {count:,d} messages were rejected in that time: ask about a shorter one")
        if question.agent is None or origin(message)[1] == question.agent:
            counts[message.rule] += 1
    when = "as far as the log goes back"
    if moment is not None:
        when = f"from {moment_text(moment.start_ms)} to {moment_text(moment.end_ms)}"
    of = f"of {question.agent}" if question.agent else "of all tasks"
    return _Counted(counts, f"{when} by the log's clock and {of}")


def _late(ground: Ground, spec: TaskSpec, asked: Moment) -> Iterator[Fact]:
    """Sum up the late rows of the reports on intervals that lie in the time."""
    found = {
        one.report_id: fact.value
        for one in reports(ground.log, spec.task)
        if one.kind == "interval" and one.start_ms < asked.end_ms and one.end_ms > asked.start_ms
        for fact in one.facts.facts
        if fact.fact_id == "rows.late"
    }
    if found:
        yield Fact("rows.late", "late rows, by the reports on intervals of that time", sum(found.values()), "rows")
