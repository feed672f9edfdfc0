"""Rules from history: found in what agents met, judged beside the policy that they stand for, served in its place."""

from collections.abc import Iterable
from importlib import metadata
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.checkpoint import pack, weights_hash
from headrace.learners.explain.simulation import Simulator, acting, task_simulator
from headrace.learners.rules.distil import best_of, examples, fidelity, lists, tried_lists
from headrace.learners.rules.document import RuleList, load_rules, policy_arrays, read, written
from headrace.pipelines.policies.control import Control, find, fitting
from headrace.pipelines.policies.observed import rows_between
from headrace.pipelines.published import published, serving
from headrace.schemas.errors import SettingsError, UnknownPolicyError
from headrace.schemas.ports import Index, Log, PolicyStore
from headrace.schemas.records import PolicyVersion, ServingPolicy, TaskSpec
from headrace.schemas.transition import TransitionBatch, concat

ALGORITHM: Final = "rules"
"""What a version says that learned it, where rules were deployed."""
LEAST_ROWS: Final = 20
"""Fewer show no thresholds."""
MAX_ROWS: Final = 65_536
"""Rows that rules are found in: of more every second one, or fourth, and so on."""
HELD_OUT: Final = 0.2
"""The share of rows, the latest, on which fidelity is told."""


class Fidelity(Struct, frozen=True):
    """How far the rules do as the policy on the latest rows, 1 for entirely; constant: how far one action does.

    discrete: these are shares of rows, and the action is the commonest; else of the actions' variance, and their mean.
    """

    rows: int
    rules: float
    constant: float
    discrete: bool = True

    def told(self, share: float, whose: str, where: str) -> str:
        """Return in words how far some rules do as somebody."""
        if self.discrete:
            return f"as {whose} in {100 * share:.1f} % of {where}"
        return f"{100 * share:.1f} % of the variance of what {whose} did in {where} explained"


class Size(Struct, frozen=True):
    """A list of so many rules. mean_return: on the traces that it was found on; None where it was not simulated."""

    rules: int
    fidelity: float | None
    mean_return: float | None = None


class Synthesis(Struct, frozen=True):
    """What was found. policy: None where the rules do as the agents did. rows: of history that it was found in.

    text: the rules, for a file. sizes: all lists that were found, the shortest first.
    """

    task: str
    policy: str | None
    rows: int
    simulated: bool
    fidelity: Fidelity | None
    sizes: list[Size]
    text: str


class History(Struct, frozen=True):
    """Rows of a task: obs float32[N, D], taken int32[N] or float32[N, A], in order of time."""

    obs: NDArray[np.float32]
    taken: NDArray[Any]

    @property
    def split(self) -> int:
        """Where the latest rows begin."""
        return len(self.obs) - int(HELD_OUT * len(self.obs))


def history(index: Index, spec: TaskSpec, start_ms: int | None, end_ms: int | None) -> History:
    """Read a task's rows with start_ms <= ts < end_ms, at most MAX_ROWS; raises CorruptDataError."""
    rows = _thinned(rows_between(index, spec, start_ms, end_ms))
    if rows is None:
        return History(np.zeros((0, spec.width), np.float32), np.zeros(0, np.int32))
    order = np.argsort(rows.ts, kind="stable")
    return History(rows.obs[order], rows.action[order])


def _thinned(batches: Iterable[TransitionBatch]) -> TransitionBatch | None:
    kept: list[TransitionBatch] = []
    every, count = 1, 0
    for batch in batches:
        kept.append(batch.take(np.arange(0, len(batch), every)))
        count += len(kept[-1])
        if count > 2 * MAX_ROWS:
            joined = concat(kept)
            kept, every = [joined.take(np.arange(0, len(joined), 2))], 2 * every
            count = len(kept[0])
    if not kept:
        return None
    rows = concat(kept)
    return rows.take(np.arange(0, len(rows), -(-len(rows) // MAX_ROWS)))


class Synthesiser:
    """Finds rules for a task. number: the version that they stand for, None for the one that serves."""

    def __init__(self, log: Log, store: PolicyStore, spec: TaskSpec, number: int | None) -> None:
        """Raise UnknownPolicyError, SettingsError for a version of another task."""
        self.spec, now = spec, serving(log).get(spec.task)
        self.number = number if number is not None else (now.version or None) if now else None
        self._policy = None if self.number is None else fitting(store, spec, spec.task, self.number)[1]

    def found(self, rows: History, most: int, *, simulate: bool) -> Synthesis:
        """Return what is found in history, and, where asked, in what rules lead to in the task's simulator.

        Raises SettingsError where there is nothing to find rules in, EnvironmentFailedError.
        """
        seed, spec = seeds.RULE_SEARCH.first, self.spec
        earlier, later = slice(0, rows.split), slice(rows.split, None)
        returns: list[float | None]
        if simulate:
            world, policy, number = self._world()
            done = tried_lists(rows.obs[earlier], policy, world, spec, number, most, seed)
            best, found, returns = best_of(done).rules, [one.rules for one in done], [one.mean_return for one in done]
        else:
            if not len(rows.obs):
                raise SettingsError(
                    f"task {spec.task} has no rows in this time: `headrace query windows --task {spec.task}` shows "
                    "when it has; --simulate needs none"
                )
            if len(rows.obs) < LEAST_ROWS:
                raise SettingsError(
                    f"task {spec.task} has {len(rows.obs)} rows in this time; rules need {LEAST_ROWS}: send more, or "
                    "name a longer time; --simulate needs none"
                )
            given = examples(rows.obs[earlier], self._policy, rows.taken[earlier], seed)
            found = lists(given, spec, self.number, most, seed)
            best, returns = found[-1], [None] * len(found)
        scores = [faithful(one, spec, self._policy, rows.obs[later], rows.taken[later]) for one in found]
        sizes = [
            Size(len(one.rules), score.rules if score else None, mean)
            for one, score, mean in zip(found, scores, returns, strict=True)
        ]
        score, count = scores[found.index(best)], len(rows.obs[earlier])
        name = None if self.number is None else f"{spec.task}@{self.number}"
        text = written(best, spec, _notes(name, count, score, simulate=simulate))
        return Synthesis(spec.task, name, count, simulate, score, sizes, text)

    def _world(self) -> tuple[Simulator, Policy | BoxPolicy, int]:
        world = task_simulator(self.spec, seed=seeds.RULES.first)
        if world is None:
            raise SettingsError(f"task {self.spec.task} names no environment: leave out --simulate")
        if self._policy is None or self.number is None:
            raise SettingsError(f"no version of {self.spec.task} serves: name one, such as {self.spec.task}@1")
        return world, self._policy, self.number


def _notes(name: str | None, rows: int, score: Fidelity | None, *, simulate: bool) -> list[str]:
    where = f"{rows:,} rows of history" + (", and in what the rules lead to in the simulator" if simulate else "")
    whose, do, their = (name, "does", "its") if name else ("the agents", "do", "their")
    notes = [f"What {whose} {do}, as rules; found in {where}."]
    if score:
        told = score.told(score.rules, whose, f"{score.rows:,} later rows")
        constant = f"; {their} commonest action alone: {100 * score.constant:.1f} %" if score.discrete else ""
        notes.append(f"The rules: {told}{constant}.")
    return notes


def faithful(
    rules: RuleList, spec: TaskSpec, policy: Policy | BoxPolicy | None, obs: NDArray[np.float32], taken: NDArray[Any]
) -> Fidelity | None:
    """Tell how far rules do as a policy, or, without one, as was done; None where there are no rows."""
    if not len(obs):
        return None
    wanted = acting(policy)(obs) if policy is not None else taken
    done = acting(load_rules(rules, spec))(obs)
    constant = np.full(len(obs), np.bincount(wanted).argmax()) if spec.discrete else wanted.mean(axis=0)
    return Fidelity(len(obs), fidelity(wanted, done), fidelity(wanted, constant), spec.discrete)


def deploy(control: Control, spec: TaskSpec, text: str, reason: str, share: float | None) -> ServingPolicy:
    """Store rules as the task's next version, and let it serve, or a share of the agents try it.

    Raises InvalidRulesError, UnknownPolicyError where they stand for a version that there is not, SettingsError.
    """
    rules, task = read(text, spec), spec.task
    if rules.policy is not None:
        find(control.store, task, rules.policy)
    weights = pack(policy_arrays(rules, spec))
    newest = max((one.version for one in control.store.versions(task)), default=0)
    if share is not None:
        control.beside(task, newest + 1)  # before anything is stored
    stands_for = None if rules.policy is None else f"{task}@{rules.policy}"
    version = PolicyVersion(
        task=task,
        version=newest + 1,
        parent=None,
        algorithm=ALGORITHM,
        config={"source": "rules", "policy": stands_for, "rules": text},
        seed=seeds.RULE_SEARCH.first,
        code_version=metadata.version("headrace"),
        weights_hash=weights_hash(weights),
        environment_steps=0,
        updates=0,
        lineage=[],
        evaluation={},
        difference=None,
        promoted=False,
        reason=f"{len(rules.rules)} rules, deployed by {control.who}: {reason}",
    )
    control.store.put(version, weights)
    if share is not None:
        return control.canary(task, version.version, share, reason)
    return control.promote(task, version.version, reason)


def withdraw(control: Control, task: str, reason: str) -> ServingPolicy:
    """Let the version serve again that served before the rules; raises SettingsError where no rules serve."""
    ruled = {one.version for one in control.store.versions(task) if one.algorithm == ALGORITHM}
    records = published(control.log, task)
    now = records[-1].version if records else 0
    if now not in ruled:
        raise SettingsError(f"no rules serve {task}" + (f": {task}@{now} does, and is a learned policy" if now else ""))
    before = [one.version for one in records if one.version and one.version not in ruled]
    if not before:
        raise SettingsError(f"no version of {task} served before its rules: `headrace policy rollback` names another")
    return control.rollback(task, reason, before[-1])


def shown(log: Log, store: PolicyStore, task: str, number: int | None) -> str:
    """Return the text of rules that were deployed, of those that serve (None); raises UnknownPolicyError."""
    if number is None:
        now = serving(log).get(task)
        number = now.version if now else 0
        if not number:
            raise UnknownPolicyError(
                f"no version of {task} serves: name one, such as {task}@1 (`headrace policy list`)"
            )
    version = find(store, task, number)
    if version.algorithm != ALGORITHM:
        raise UnknownPolicyError(
            f"{task}@{number} is no rules but a policy: `headrace rules synthesise {task}@{number}` finds rules for it"
        )
    return str(version.config["rules"])
