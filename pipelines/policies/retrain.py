"""Retrain a policy version from its lineage: the same chunks, in the same order, give the same weights to the bit."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import msgspec
import numpy as np

from headrace.learners.checkpoint import unpack, weights_hash
from headrace.learners.simulate.training import train
from headrace.learners.stream.algorithms import algorithm, begun
from headrace.learners.stream.training import LearnSettings
from headrace.pipelines.policies.cut_short import train_until
from headrace.schemas.errors import CorruptDataError, UnknownPolicyError, UnknownTaskError
from headrace.schemas.ports import PolicyStore
from headrace.schemas.records import UNKNOWN_ROW, PolicyVersion, TaskSpec
from headrace.schemas.scenarios import Scenario
from headrace.sinks.chunks import CachedChunks

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True)
class Retrained:
    """What retraining a version came to. chunks, rows: that went in. code_version: of the code that trained it then."""

    task: str
    version: int
    hash: str
    expected: str
    chunks: int
    rows: int
    updates: int
    code_version: str

    @property
    def equal(self) -> bool:
        """Whether the weights are the same, to the bit."""
        return self.hash == self.expected


def ancestry(store: PolicyStore, task: str, number: int) -> list[PolicyVersion]:
    """Return the versions whose training led to a version, the oldest first, itself last.

    Raises UnknownPolicyError where one is not in the store, CorruptDataError where one's lineage can't be replayed.
    """
    versions = {one.version: one for one in store.versions(task)}
    chain: list[PolicyVersion] = []
    wanted: int | None = number
    while wanted is not None:
        if wanted not in versions:
            needed = "" if wanted == number else f", from which {task}@{number} was trained on,"
            raise UnknownPolicyError(f"{task}@{wanted}{needed} is not in the policy store")
        chain.append(versions[wanted])
        wanted = chain[-1].parent
    for version in chain:
        _require_complete(version)
    return chain[::-1]


def _require_complete(version: PolicyVersion) -> None:
    name = f"{version.task}@{version.version}"
    if version.config.get("source") == "rules":
        raise CorruptDataError(f"{name} is rules, which nothing trained: `headrace rules show {name}` writes them")
    if not version.complete:
        raise CorruptDataError(
            f"{name} can't be retrained: before it, chunks were lost from the index and replay was begun anew"
        )
    if any(entry.first_row == UNKNOWN_ROW for entry in version.lineage):
        raise CorruptDataError(f"{name} can't be retrained: its lineage does not say which rows of a chunk were new")


def retrain(
    store: PolicyStore,
    chunks: CachedChunks,
    task: str,
    spec: TaskSpec | None,
    number: int,
    *,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Retrained:
    """Train anew what led to a version, and compare the weights.

    spec: the task's; a version that was trained in simulation needs none. progress: is told how much is done, and of
    how much. Raises as `ancestry` does, UnknownTaskError, and CorruptDataError, which names the chunk, where the index
    does not hold the rows of one any more.
    """
    chain = ancestry(store, task, number)
    if chain[-1].config.get("source") == "simulation":
        return _from_simulation(chain[-1], progress)
    if spec is None:
        raise UnknownTaskError(f"task {task} was never added: {task}@{number} was learned from its transitions")
    return _from_stream(chain, spec, chunks, progress, lambda other: unpack(store.weights(task, other))[0])


def _from_simulation(version: PolicyVersion, progress: Callable[[int, int], None]) -> Retrained:
    config, steps = version.config, int(version.config["steps"])
    kind = algorithm(version.algorithm)
    training = _part(type(kind.simulated), {**config, "config": _part(type(kind.streamed), config)})
    order = (training, config["environment"], version.seed, steps)
    scenarios = msgspec.convert(config.get("scenarios", ()), tuple[Scenario, ...])
    stopped = config.get("stopped")
    if stopped is None:
        done = train(*order, lambda point: progress(point.steps, steps), scenarios=scenarios)
    else:
        done = train_until(*order, int(stopped), lambda point: progress(point.steps, int(stopped)), scenarios)
    return _compared(version, weights_hash(done.arrays), 0, done.steps, done.updates)


def _from_stream(
    chain: Sequence[PolicyVersion],
    spec: TaskSpec,
    chunks: CachedChunks,
    progress: Callable[[int, int], None],
    arrays_of: Callable[[int], Mapping[str, np.ndarray]],
) -> Retrained:
    """arrays_of: gives a version's weights, where learning went back to one that is not in the chain."""
    kind = type(algorithm(chain[0].algorithm).streamed)
    training = begun(_part(kind, chain[0].config), spec, chain[0].seed, LearnSettings())
    wanted, gone_back_to = {version.went_back_to for version in chain}, dict[int, Mapping[str, np.ndarray]]()
    done, total = 0, sum(len({entry.window for entry in version.lineage}) for version in chain)
    for version in chain:
        # Settings change at versions only: a directive takes effect after one.
        training.counts.version = version.parent or 0
        training.settings = _part(LearnSettings, version.config)
        training.config = _part(kind, version.config)
        if version.went_back_to is not None:
            training.go_back(gone_back_to.get(version.went_back_to) or arrays_of(version.went_back_to))
        for _, entries in groupby(version.lineage, lambda entry: entry.window):
            window = [*entries]
            batches = chunks.transitions([entry.reference for entry in window])
            training.take((batch, entry.first_row) for batch, entry in zip(batches, window, strict=True))
            done += 1
            progress(done, total)
        if version.version in wanted:
            gone_back_to[version.version] = training.policy_arrays()
    found = weights_hash(training.policy_arrays())
    count = sum(len(version.lineage) for version in chain)
    return _compared(chain[-1], found, count, training.counts.rows, training.updates)


def _compared(version: PolicyVersion, found: str, chunks: int, rows: int, updates: int) -> Retrained:
    expected, code_version = version.weights_hash, version.code_version
    return Retrained(version.task, version.version, found, expected, chunks, rows, updates, code_version)


def _part(kind: type[Config], config: Mapping[str, Any]) -> Config:
    """Take a configuration's own fields out of a version's."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type] # each is a dataclass
    return kind(**{name: value for name, value in config.items() if name in names})
