"""What a version does, how good it is and why it was let serve or refused: from its report, else from the store."""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from msgspec.structs import replace

from headrace.learners.explain.evidence import controller_name
from headrace.learners.explain.facts import GATE, change, version_facts
from headrace.learners.explain.interval import moment_text
from headrace.learners.explain.witness import Witness
from headrace.learners.judge.statistics import MeanInterval
from headrace.pipelines.ask.fleet import decider
from headrace.pipelines.ask.ground import Ground, NotKnownError
from headrace.pipelines.ask.question import Question
from headrace.pipelines.explain.reported import version_id
from headrace.pipelines.published import published
from headrace.pipelines.topics import REPORTS, messages, records
from headrace.schemas.names import slug
from headrace.schemas.records import Fact, Facts, PolicyVersion, Report, ServingPolicy

MERIT: Final = r"outcome\.|return\.|term\.|traces\.|comparisons\.|gate\.|observed\.|actions\.drawn"
CHANGE: Final = (
    r"version\.previous|outcome\..*serving|return\.vs-serving|term\..*\.vs-serving|"
    r"differs\.serving|apart\.|training\.rows"
)
BEHAVIOUR: Final = r"decisions\.|situation|action\.|margin\.|saturation|smoothness|actions\.drawn"
VERDICT: Final = r"judged\.|refusals\.|weights\.|return\.vs-|gate\.|traces\."
IMPORTANCE: Final = r"relies\."


def told(ground: Ground, version: PolicyVersion, other: int | None = None) -> tuple[Fact, ...]:
    """Return the facts of a version: its report's, else those that need no simulator.

    other: the version that it is compared with, unless that is the one before it.
    """
    before = _before(ground, version)
    if other in {None, before}:
        found = next(_reports(ground, version), None)
        if found is not None:
            return found.facts.facts
    return _computed(ground, version, before if other is None else other)


def _reports(ground: Ground, version: PolicyVersion) -> Iterator[Report]:
    return records(messages(ground.log, REPORTS, version_id(version.task, version.version)), Report)


def _before(ground: Ground, version: PolicyVersion) -> int | None:
    """Return the version that served before it."""
    others = ground.versions(version.task).values()
    return max((one.version for one in others if one.version < version.version and one.promoted), default=None)


def _computed(ground: Ground, version: PolicyVersion, against: int | None) -> tuple[Fact, ...]:
    spec, versions = ground.specs[version.task], ground.versions(version.task)
    witness = Witness(ground.store.weights, ground.chunks.transitions)
    evidence = witness.recorded(spec, version, against)
    parent = versions.get(version.parent or 0)
    found = version_facts(spec, version, evidence, parent, _decided_by(ground, version)).facts
    if against == _before(ground, version):
        return found
    return tuple(replace(fact, label=fact.label.replace("the version before", f"v{against}")) for fact in found)


def _decided_by(ground: Ground, version: PolicyVersion) -> str:
    first = _let_serve(ground, version)
    return first.decided_by if first else GATE


def _let_serve(ground: Ground, version: PolicyVersion) -> ServingPolicy | None:
    """Return the first record by which a version serves, None where it never did."""
    return next((one for one in published(ground.log, version.task) if one.version == version.version), None)


def about(kind: str, pattern: str) -> Callable[[Ground, Question], Facts]:
    """Return the look-up that tells those facts of a version whose ids a pattern matches."""

    def look_up(ground: Ground, question: Question) -> Facts:
        version = ground.version(question)
        chosen = _matching(pattern, told(ground, version, question.other))
        if not chosen:  # of a report that is older than this kind of fact
            chosen = _matching(pattern, _computed(ground, version, _before(ground, version)))
        chosen = [*NARROWED[kind](ground, question, chosen)]
        lead = Fact(f"asked.{kind}", "the version that was asked about", version.version, "version")
        return Facts(version.task, f"v{version.version}", (lead, *chosen))

    return look_up


def _matching(pattern: str, facts: Iterable[Fact]) -> list[Fact]:
    return [fact for fact in facts if re.match(pattern, fact.fact_id)]


def _narrowed_merit(ground: Ground, question: Question, facts: list[Fact]) -> Iterator[Fact]:
    """Keep one comparison where one is asked for."""
    spec = ground.specs[question.task or ""]
    if question.rule is not None:
        wanted = f"vs-{slug(question.rule)}"
        if not any(fact.fact_id == f"return.{wanted}" for fact in facts):
            own, name = ground.version(question).version, controller_name(spec, question.rule)
            raise NotKnownError(f"v{own} was not compared with {name}: `headrace evaluate` measures each")
        yield from (fact for fact in facts if ".vs-" not in fact.fact_id or fact.fact_id.endswith(wanted))
    elif question.other is None or question.other == _before(ground, ground.version(question)):
        yield from facts
    else:
        yield from _against(ground, question, facts)


def _against(ground: Ground, question: Question, facts: list[Fact]) -> Iterator[Fact]:
    """Compare the returns that the reports of two versions have, both of the same fixed traces."""
    other = ground.versions(question.task or "").get(question.other or 0)
    if other is None:
        raise NotKnownError(f"{question.task} has no version {question.other}")
    pair = [_measured(facts), _measured([*told(ground, other)])]
    own, rival = pair
    if own is None or rival is None or own[1] != rival[1]:
        version = ground.version(question).version
        raise NotKnownError(
            f"v{version} and v{other.version} have no returns on the same traces: `headrace policy diff "
            f"{question.task}@{version} {question.task}@{other.version}` measures them"
        )
    mean = own[0].value - rival[0].value
    widths = [(one.high or 0.0) - (one.low or 0.0) for one, _ in (own, rival)]
    half = math.hypot(*widths) / 2.0
    interval = MeanInterval(mean, mean - half, mean + half, int(own[1]))
    yield change("return.vs-other", f"v{other.version}, difference in return", interval)
    yield from (fact for fact in facts if fact.fact_id in {"return.policy", "traces.count", "actions.drawn"})


def _measured(facts: list[Fact]) -> tuple[Fact, float] | None:
    by_id = {fact.fact_id: fact for fact in facts}
    own, traces = by_id.get("return.policy"), by_id.get("traces.count")
    return (own, traces.value) if own is not None and traces is not None else None


def _narrowed_behaviour(ground: Ground, question: Question, facts: list[Fact]) -> Iterator[Fact]:
    """Keep the situations that name the observation asked about, and the actions asked about."""
    spec = ground.specs[question.task or ""]
    if not facts:
        raise NotKnownError("no rows that the version learned from can be read: what it does is not known")
    feature = question.feature or ""
    situations = [fact for fact in facts if fact.fact_id.startswith("situation.") and feature in fact.label]
    places = {fact.fact_id.partition(".")[2] for fact in situations}
    names = {slug(spec.actions[one]) for one in question.actions} if isinstance(spec.actions, tuple) else set[str]()
    for fact in facts:
        kind, _, rest = fact.fact_id.partition(".")
        place, _, action = rest.partition(".")
        elsewhere = places and kind in {"situation", "action", "margin"} and place not in places
        if not elsewhere and not (names and kind == "action" and action not in names):
            yield fact


def _narrowed_verdict(ground: Ground, question: Question, facts: list[Fact]) -> Iterator[Fact]:
    """Say who let it serve and when, or that it was refused; promotion may be on hold, or no gate have seen it."""
    version = ground.version(question)
    first = _let_serve(ground, version)
    if first is None and not version.refusals:
        name = f"{version.task}@{version.version}"
        raise NotKnownError(f"{name} has not served, and no gate refused it: `headrace policy show {name}` tells why")
    if first is None:
        yield Fact("verdict.refused", "the gate, refused it", version.version, "version")
        yield from (fact for fact in facts if not fact.fact_id.startswith("judged."))
        return
    label = f"{decider(first.decided_by)} on {moment_text(first.ts)}, let it serve"
    yield Fact("verdict.served", label, version.version, "version")
    yield from facts


def _all(_ground: Ground, _question: Question, facts: list[Fact]) -> Iterator[Fact]:
    yield from facts


def _some(ground: Ground, question: Question, facts: list[Fact]) -> Iterator[Fact]:
    if not facts:
        number = ground.version(question).version
        raise NotKnownError(f"v{number}: what it goes by is not known, as no rows that it learned from can be read")
    yield from facts


NARROWED: Final = {
    "merit": _narrowed_merit,
    "behaviour": _narrowed_behaviour,
    "verdict": _narrowed_verdict,
    "change": _all,
    "importance": _some,
}
