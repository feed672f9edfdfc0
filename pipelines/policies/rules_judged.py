"""Rules beside the policy that they stand for: in the task's simulator, or else by the rows that agents sent."""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.explain.simulation import task_simulator
from headrace.learners.judge.data import judge_by_data
from headrace.learners.judge.statistics import paired_difference
from headrace.learners.rules.document import RuleList, load_rules
from headrace.pipelines.policies.control import fitting
from headrace.pipelines.policies.observed import rows_between
from headrace.pipelines.policies.rules import Fidelity, faithful, history
from headrace.schemas.ports import Index, PolicyStore
from headrace.schemas.records import Interval, TaskSpec
from headrace.schemas.transition import TransitionBatch, concat

DATA_ROWS = 51_200
"""So many of the latest rows judge rules where there is no simulator, as `learn` has it for policies."""
DISCOUNT = 0.99


class Beside(Struct, frozen=True):
    """A controller that the rules were compared with.

    difference: the rules' return less its, paired. gain: which share of the policy's gain over it the rules reach;
    None of the policy itself, and where the policy does not beat it.
    """

    name: str
    mean_return: float
    difference: Interval
    gain: float | None


class Judged(Struct, frozen=True):
    """What was found of rules. fidelity: on the latest rows; None where there are none.

    traces: in a simulator, 0 where there is none; there mean_return is the rules' own. by_data: what the rows say
    where there is no simulator.
    """

    task: str
    policy: str | None
    rules: int
    fidelity: Fidelity | None
    traces: int = 0
    mean_return: float | None = None
    beside: list[Beside] = []
    by_data: str | None = None


def judged(
    index: Index,
    store: PolicyStore,
    spec: TaskSpec,
    rules: RuleList,
    start_ms: int | None,
    end_ms: int | None,
    traces: int,
) -> Judged:
    """Judge rules. start_ms, end_ms: of the rows; of these the latest count.

    Raises UnknownPolicyError, SettingsError, EnvironmentFailedError, CorruptDataError.
    """
    policy = None if rules.policy is None else fitting(store, spec, spec.task, rules.policy)[1]
    rows = history(index, spec, start_ms, end_ms)
    score = faithful(rules, spec, policy, rows.obs[rows.split :], rows.taken[rows.split :])
    name = None if rules.policy is None else f"{spec.task}@{rules.policy}"
    found = Judged(spec.task, name, len(rules.rules), score)
    if spec.environment is None:
        said = _by_data(_latest(index, spec, start_ms, end_ms), rules, policy, spec)
        return Judged(found.task, found.policy, found.rules, score, by_data=said)
    own, others = _returns(spec, rules, policy, traces)
    beside = [_beside(name, own, returns, others.get("policy")) for name, returns in others.items()]
    return Judged(found.task, found.policy, found.rules, score, len(own), float(own.mean()), beside)


def _returns(
    spec: TaskSpec, rules: RuleList, policy: Policy | BoxPolicy | None, traces: int
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Return the rules' returns float64[N] on traces of their own, and those of the policy and the baselines."""
    world = task_simulator(spec, traces, seeds.RULES_JUDGE.first)
    assert world is not None
    others = {} if policy is None else {"policy": world.outcomes(policy).returns}
    others |= {name: one.returns for name, one in world.baselines().items()}
    return world.outcomes(load_rules(rules, spec)).returns, others


def _beside(
    name: str, own: NDArray[np.float64], other: NDArray[np.float64], policy: NDArray[np.float64] | None
) -> Beside:
    found = paired_difference(own, other)
    gained = 0.0 if policy is None else float((policy - other).mean())
    gain = float((own - other).mean()) / gained if gained > 0.0 else None
    return Beside(name, float(other.mean()), Interval(found.mean, found.low, found.high), gain)


def _latest(index: Index, spec: TaskSpec, start_ms: int | None, end_ms: int | None) -> TransitionBatch | None:
    """Return the latest rows, each once, whole: what is done next counts too."""
    kept: list[TransitionBatch] = []
    count = 0
    for batch in rows_between(index, spec, start_ms, end_ms):
        kept.append(batch)
        count += len(batch)
        if count > 4 * DATA_ROWS:
            kept = [_newest(concat(kept))]
            count = len(kept[0])
    return _newest(concat(kept)) if kept else None


def _newest(rows: TransitionBatch) -> TransitionBatch:
    _, first = np.unique(np.stack([rows.agent, rows.episode, rows.step], axis=1), axis=0, return_index=True)
    rows = rows.take(np.sort(first))
    return rows.take(np.argsort(rows.ts, kind="stable")[-DATA_ROWS:])


def _by_data(rows: TransitionBatch | None, rules: RuleList, policy: Policy | BoxPolicy | None, spec: TaskSpec) -> str:
    actions = spec.action_count if spec.discrete else 0
    return judge_by_data(rows, load_rules(rules, spec), policy, actions, DISCOUNT).reason
