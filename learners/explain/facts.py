"""The facts of a promoted version.

Ids are stable and readable: `return.vs-serving`, `term.speed.vs-random`, `action.s1.left`,
`margin.s2`, `differs.serving`. A label is "name, detail" (see schemas/grounding.py).
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from headrace.learners.explain.behaviour import behaviour_facts
from headrace.learners.explain.evidence import Outcomes, VersionEvidence, controller_name
from headrace.learners.explain.outcome_facts import outcome_differences, outcome_levels, rivals
from headrace.learners.judge.distributions import t_below, t_quantile
from headrace.learners.judge.observed import ObservedReturn
from headrace.learners.judge.statistics import MeanInterval, mean_interval, paired_difference
from headrace.schemas.grounding import direction_of
from headrace.schemas.names import slug
from headrace.schemas.records import Fact, Facts, PolicyVersion, TaskSpec

GATE, SETTINGS, CANARY = "gate", "settings", "canary"
"""What lets a version serve, as `policies` has it; any other is a person."""
LEVEL = 0.05
"""Probability that a report calls any direction wrongly where there is no difference; its intervals stay 95 %."""

MAX_RELIED = 8
"""Observations of which it is told how much the decisions rely on them."""


def version_facts(
    spec: TaskSpec,
    version: PolicyVersion,
    evidence: VersionEvidence,
    parent: PolicyVersion | None = None,
    decided_by: str = GATE,
) -> Facts:
    """Compute everything that a version's report may speak of.

    parent: the version that this one was trained from, where it has one and the store still holds it. decided_by: who
    or what lets it serve, as `policies` has it.
    """
    found = [*_identity_facts(version, evidence), *_training_facts(version, parent)]
    found += [_judged_fact(version, decided_by), *_refused(version, parent)]
    if evidence.policy is not None:
        own, others = evidence.policy, evidence.others
        found += _level_facts(spec, own, others)
        known = rivals(evidence)
        found += outcome_levels(spec, own, known)
        changes = [*_return_facts(spec, own, others), *_term_facts(spec, own, others)]
        changes += outcome_differences(spec, own, known)
        found += corrected(changes, len(own.returns))
    else:
        found += _evaluation_facts(spec, version)
    if evidence.observed is not None:
        found.append(observed_fact(evidence.observed))
    if evidence.draws:
        found.append(Fact("actions.drawn", "drawn by agents, as its distribution has it", version.version, "version"))
    if evidence.decisions is not None and len(evidence.decisions.obs):
        found += behaviour_facts(spec, evidence.decisions)
    for name, share in [*evidence.relies.items()][:MAX_RELIED]:
        label = f"{name.replace(',', ' ')}, its share in what the decisions rely on"
        found.append(Fact(f"relies.{slug(name)}", label, share, "%"))
    return Facts(spec.task, f"v{version.version}", tuple(tellable(found)))


def change(fact_id: str, label: str, interval: MeanInterval, unit: str = "return") -> Fact:
    """Make the fact of a change with its interval."""
    mean, low, high, _ = interval
    return Fact(fact_id, label, mean, unit, low, high, direction_of(mean, low, high))


def corrected(changes: Sequence[Fact], count: int) -> Iterator[Fact]:
    """Call flat what does not pass Holm's test, and add the fact of how many comparisons there were.

    changes: facts with 95 % t intervals. count: n of the sample behind each of them.
    """
    from headrace.learners.judge.comparison import holm_adjusted  # noqa: PLC0415 scipy.stats is slow to load

    for fact, p in zip(changes, holm_adjusted([p_value(fact, count) for fact in changes]), strict=True):
        yield fact if p <= LEVEL else replace(fact, direction="flat")
    if changes:
        label = "comparisons, a direction is called where Holm's correction over all of them bears it out"
        yield Fact("comparisons.count", label, len(changes), "comparisons")


def p_value(fact: Fact, count: int) -> float:
    """Return the two-sided p-value of the t test whose 95 % interval the fact has."""
    assert fact.low is not None, fact
    assert fact.high is not None, fact
    half = (fact.high - fact.low) / 2.0
    if half == 0.0:
        return 0.0 if fact.value else 1.0
    statistic = abs(fact.value) / half * t_quantile(count - 1, 0.975)
    return 2.0 * t_below(count - 1, -statistic)


def tellable(facts: Sequence[Fact]) -> Iterator[Fact]:
    """Drop facts that are not finite, and those whose id came before: two long names can be cut to the same slug."""
    seen = set[str]()
    for fact in facts:
        numbers = (fact.value, fact.low, fact.high)
        finite = all(math.isfinite(number) for number in numbers if number is not None)
        if finite and fact.fact_id not in seen:
            seen.add(fact.fact_id)
            yield fact


def _identity_facts(version: PolicyVersion, evidence: VersionEvidence) -> Iterator[Fact]:
    yield Fact("version.policy", "this version", version.version, "version")
    if evidence.previous_version is not None:
        yield Fact("version.previous", "the version before", evidence.previous_version, "version")
    yield Fact("training.steps", "experience so far, all versions", version.environment_steps, "steps")
    yield Fact("training.updates", "updates so far, all versions", version.updates, "updates")


def _training_facts(version: PolicyVersion, parent: PolicyVersion | None) -> Iterator[Fact]:
    """How many rows were new to it.

    The lineage cannot tell: it names a chunk once for each time that the chunk had grown, with all its rows.
    """
    if version.parent is not None and parent is None:
        return
    rows = version.environment_steps - (parent.environment_steps if parent else 0)
    if rows > 0:
        yield Fact("training.rows", "rows new to it, since the version it was trained from", rows, "rows")


def _level_facts(spec: TaskSpec, own: Outcomes, others: Mapping[str, Outcomes]) -> Iterator[Fact]:
    """Returns on the fixed traces: its own, and the others'."""
    yield Fact("traces.count", "fixed traces, that neither training nor the gate saw", len(own.returns), "traces")
    yield _level("return.policy", "return, mean of the traces", own.returns)
    for key, other in others.items():
        yield _level(f"return.{slug(key)}", f"{controller_name(spec, key)}, its own return", other.returns)


def _return_facts(spec: TaskSpec, own: Outcomes, others: Mapping[str, Outcomes]) -> Iterator[Fact]:
    """Paired differences on the fixed traces."""
    for key, other in others.items():
        difference = paired_difference(own.returns, other.returns)
        yield change(f"return.vs-{slug(key)}", f"{controller_name(spec, key)}, difference in return", difference)


def _level(fact_id: str, label: str, values: NDArray[np.float64]) -> Fact:
    mean, low, high, _ = mean_interval(values)
    return Fact(fact_id, label, mean, "return", low, high)


def _term_facts(spec: TaskSpec, own: Outcomes, others: Mapping[str, Outcomes]) -> Iterator[Fact]:
    """Where the return comes from: each reward term against the version before and the baselines."""
    for column, term in enumerate(spec.reward_terms[: own.terms.shape[1]]):
        for key, other in others.items():
            interval = paired_difference(own.terms[:, column], other.terms[:, column])
            label = f"{term}, against {controller_name(spec, key)}"
            yield change(f"term.{slug(term)}.vs-{slug(key)}", label, interval)


def _judged_fact(version: PolicyVersion, decided_by: str) -> Fact:
    """By what it was let serve: the id says it to the sentences, the label to people."""
    if decided_by not in {GATE, SETTINGS, CANARY}:
        ungated = version.promoted or "source" in version.config  # trained elsewhere, or rules: no gate has seen it
        kind, label = ("person", "a person") if ungated else ("overruled", "a person, over the gate's head")
    elif decided_by == GATE and version.by_data is not None:
        kind, label = "data", "the gate, by recorded rows"
    elif decided_by == GATE and version.difference is not None and version.difference.low <= 0.0:
        kind, label = "close", "the gate, in a simulator, within the margin of the best version"
    else:
        kind, label = {
            SETTINGS: ("untested", "the settings, without a test"),
            CANARY: ("canary", "a canary, which a part of the agents tried"),
            GATE: ("gate", "the gate, in a simulator"),
        }[decided_by]
    return Fact(f"judged.{kind}", f"let serve by {label}", version.version, "version")


def _refused(version: PolicyVersion, parent: PolicyVersion | None) -> Iterator[Fact]:
    """What the gate refused before it; itself too where people let it serve."""
    if version.refusals:
        return refusal_facts(version.refusals, "this version included", [version])
    return refusal_facts(parent.refusals if parent else 0, "before this version", [version])


def refusal_facts(count: int, which: str, versions: Sequence[PolicyVersion]) -> Iterator[Fact]:
    """Say how many candidates in a row the gate refused, and where learning went back to.

    which: says where they stand. versions: of which the last that went back counts.
    """
    if count:
        yield Fact("refusals.count", f"{which}, candidates that the gate refused in a row", count, "candidates")
    back = [version.went_back_to for version in versions if version.went_back_to is not None]
    if back:
        yield Fact("weights.back", "version, whose weights learning went back to", back[-1], "version")


def observed_fact(observed: ObservedReturn) -> Fact:
    """Make the fact of what agents earned by a version."""
    name, count = f"v{observed.version}", observed.episodes
    if observed.measure == "return":
        label = f"{name}, mean return of {count} episodes of its agents, exploration and all"
        return Fact(f"observed.{observed.version}", label, observed.mean, "return", observed.low, observed.high)
    label = f"{name}, mean reward of its agents, exploration and all"
    return Fact(f"observed.{observed.version}", label, observed.mean, "per step", observed.low, observed.high)


def _evaluation_facts(spec: TaskSpec, version: PolicyVersion) -> Iterator[Fact]:
    """What the gate measured, or estimated from rows, where nothing can be measured here and now."""
    unit, by = "return", "return as the gate measured it"
    if version.by_data is not None:
        unit, by = "discounted return", "discounted return as rows let the gate estimate it"
        label = f"recorded rows, that the gate judged it by: {version.by_data.estimator}"
        yield Fact("gate.rows", label, version.by_data.rows, "rows")
    if version.difference is not None:
        opponents = (name for name in ("serving", "best", "agents") if name in version.evaluation)
        yield _gate_difference(spec, version, next(opponents, "floor"), unit, by)
    for key, value in sorted(version.evaluation.items()):
        name = "its own" if key == "policy" else controller_name(spec, key)
        yield Fact(f"return.{slug(key)}", f"{name}, {by}", value, unit)


def _gate_difference(spec: TaskSpec, version: PolicyVersion, opponent: str, unit: str, by: str) -> Fact:
    """Make the fact of what the gate went by. Its interval has the level that its error asked for, not 95 %."""
    assert version.difference is not None
    mean, low, high = version.difference.mean, version.difference.low, version.difference.high
    fact_id, label = f"return.vs-{opponent}", f"{controller_name(spec, opponent)}, difference in {by}"
    shown = direction_of(mean, low, high)
    if version.judged is None and version.by_data is None:
        return Fact(fact_id, label, mean, unit, low, high, shown)
    return Fact(fact_id, label, mean, unit, direction=None if shown == "flat" else shown)
