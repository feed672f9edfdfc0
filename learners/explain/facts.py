"""The facts of a promoted version.

Ids are stable and readable: `return.vs-serving`, `term.latency.vs-hpa`, `action.rising.plus-2`,
`margin.falling`, `differs.rate_rule`. A label is "name, detail" (see schemas/grounding.py).
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from headrace.learners.explain.evidence import Outcomes, RecordedDecisions, Situation, VersionEvidence, situations, slug
from headrace.learners.judge.statistics import MeanInterval, mean_interval, paired_difference
from headrace.learners.simulate.environments import CALLED, environment_of
from headrace.schemas.grounding import direction_of
from headrace.schemas.records import Fact, Facts, PolicyVersion, TaskSpec

LEVEL = 0.05
"""Probability that a report calls any direction wrongly where there is no difference; its intervals stay 95 %."""
MAX_ACTIONS = 6
"""Actions, the most frequent overall, that every situation's facts tell of beside its own commonest one."""


def controllers(spec: TaskSpec) -> Mapping[str, str]:
    """Return what text calls the baselines of the task's environment."""
    own = environment_of(spec.environment)
    return own.called if own else CALLED


def controller_name(spec: TaskSpec, key: str) -> str:
    """Return a controller's name for text; what is unknown is called by its own name."""
    return "the version before" if key == "serving" else controllers(spec).get(key, key.replace(",", " "))


def split_by_situation(spec: TaskSpec, decisions: RecordedDecisions) -> list[Situation]:
    """Split the decisions as the task's environment, or else their features, suggest."""
    own = environment_of(spec.environment)
    return situations(spec.observations, decisions.obs, spec.bounds, own.load if own else ())


def version_facts(
    spec: TaskSpec, version: PolicyVersion, evidence: VersionEvidence, parent: PolicyVersion | None = None
) -> Facts:
    """Compute everything that a version's report may speak of.

    parent: the version that this one was trained from, where it has one and the store still holds it.
    """
    found = [*_identity_facts(version, evidence), *_training_facts(version, parent)]
    if evidence.policy is not None:
        own, others = evidence.policy, evidence.others
        found += _level_facts(spec, own, others)
        changes = [*_return_facts(spec, own, others), *_term_facts(spec, own, others)]
        found += corrected(changes, len(own.returns))
    else:
        found += _evaluation_facts(spec, version)
    if evidence.decisions is not None and len(evidence.decisions.obs):
        split = split_by_situation(spec, evidence.decisions)
        found += _action_facts(spec, evidence.decisions, split)
        found += _margin_facts(evidence.decisions, split)
        found += _difference_facts(spec, evidence.decisions, split)
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
    statistic = abs(fact.value) / half * float(stdtrit(count - 1, 0.975))
    return 2.0 * float(stdtr(count - 1, -statistic))


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


def _evaluation_facts(spec: TaskSpec, version: PolicyVersion) -> Iterator[Fact]:
    """What the gate measured, for tasks that nothing here can simulate."""
    if version.difference is not None:
        mean, low, high = version.difference.mean, version.difference.low, version.difference.high
        label = f"{controller_name(spec, 'serving')}, difference in return as the gate measured it"
        yield Fact("return.vs-serving", label, mean, "return", low, high, direction_of(mean, low, high))
    for key, value in sorted(version.evaluation.items()):
        name = "return" if key == "policy" else controller_name(spec, key)
        yield Fact(f"return.{slug(key)}", f"{name}, as the gate measured it", value, "return")


def _action_facts(spec: TaskSpec, decisions: RecordedDecisions, split: list[Situation]) -> Iterator[Fact]:
    """How often each action is taken, by situation, in % of the situation's decisions."""
    names = spec.actions if isinstance(spec.actions, tuple) else ()
    if len(names) != decisions.values.shape[1]:
        return
    yield Fact("decisions.count", "decisions looked at", len(decisions.obs), "decisions")
    actions = decisions.actions
    frequent = _most_frequent(actions, len(names))[:MAX_ACTIONS]
    for situation in split:
        label = f"{situation.name}, share of all decisions"
        yield Fact(f"situation.{situation.key}", label, percent(situation.mask), "%")
        commonest = _most_frequent(actions[situation.mask], len(names))[0]
        # The commonest comes first, so that it is the one kept when another has the same slug.
        for action in (commonest, *sorted({*frequent} - {commonest})):
            label = f"{names[action]}, share of decisions with {situation.name}"
            fact_id = f"action.{situation.key}.{slug(names[action])}"
            yield Fact(fact_id, label, percent(actions[situation.mask] == action), "%")


def _most_frequent(actions: NDArray[np.int64], count: int) -> list[int]:
    """Return the actions 0 to count, the most frequent first."""
    return [int(action) for action in np.argsort(-np.bincount(actions, minlength=count), kind="stable")]


def percent(mask: NDArray[np.bool_]) -> float:
    """Return the share of true entries in %; of none, 0."""
    return 100.0 * float(mask.mean()) if len(mask) else 0.0


def margins(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the best action's value minus the second best's: float64[M] of float64[M, A]."""
    assert values.ndim == 2, values.shape
    if values.shape[1] < 2:
        return np.zeros(len(values))
    top = np.partition(values, -2, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0], np.float64)


def _margin_facts(decisions: RecordedDecisions, split: list[Situation]) -> Iterator[Fact]:
    margin = margins(decisions.values)
    for situation in split:
        label = f"{situation.name}, {decisions.measure} of the best action minus the second best's"
        yield Fact(f"margin.{situation.key}", label, float(margin[situation.mask].mean()))


def _difference_facts(spec: TaskSpec, decisions: RecordedDecisions, split: list[Situation]) -> Iterator[Fact]:
    """Where the policy decides otherwise than the rules that it could be replaced by."""
    actions = decisions.actions
    for key, shadow in decisions.shadows.items():
        name, part = controller_name(spec, key), slug(key)
        yield Fact(f"differs.{part}", f"{name}, decisions in which it would differ", percent(actions != shadow), "%")
        for situation in split:
            label = f"{situation.name}, decisions in which {name} would differ"
            value = percent((actions != shadow)[situation.mask])
            yield Fact(f"differs.{part}.{situation.key}", label, value, "%")
        if decisions.order:
            size = np.array(decisions.order)
            for word, mask in (("larger", size[actions] > size[shadow]), ("smaller", size[actions] < size[shadow])):
                label = f"{word} step here, than {name} would take, share of all decisions"
                yield Fact(f"differs.{part}.{word}", label, percent(mask), "%")
