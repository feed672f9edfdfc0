"""A learner's candidates: each is judged, stored as a version under a free number, and promoted if it may be."""

import dataclasses
import logging
from collections.abc import Mapping
from importlib import metadata
from typing import Any, NamedTuple

import msgspec

from headrace.learners import seeds
from headrace.learners.acting import load_policy
from headrace.learners.checkpoint import pack, weights_hash
from headrace.learners.explain.simulation import Simulator, fresh_simulator, task_simulator
from headrace.learners.judge.data import ESTIMATOR
from headrace.learners.judge.trial import Candidate, tried
from headrace.learners.stream.algorithms import Algorithm, algorithm
from headrace.learners.stream.training import Config, LearnSettings, Training
from headrace.pipelines.learn.by_data import judged_by_data
from headrace.pipelines.learn.progress import Progress
from headrace.pipelines.published import published
from headrace.pipelines.topics import POLICIES, TopicReader
from headrace.schemas.errors import EnvironmentFailedError, StorageError
from headrace.schemas.outcomes import measures
from headrace.schemas.ports import Clock, Log, PolicyStore
from headrace.schemas.records import DataEvidence, Interval, Judgement, PolicyVersion, ServingPolicy, TaskSpec
from headrace.sinks.chunks import CachedChunks

logger = logging.getLogger(__name__)


class _Verdict(NamedTuple):
    """What became of a candidate; judged: how, where there is a simulator. best: whether it beats what was best."""

    promoted: bool
    reason: str
    evaluation: dict[str, float]
    difference: Interval | None = None
    judged: Judgement | None = None
    best: bool = True
    by_data: DataEvidence | None = None
    outcomes: Mapping[str, dict[str, float]] = {}

    @property
    def refused(self) -> bool:
        """Whether it was tried and not found good enough."""
        return (self.judged or self.difference) is not None and not self.promoted


class Promotion:
    """Judges a task's candidates against what serves, and follows what people decide."""

    def __init__(
        self,
        spec: TaskSpec,
        log: Log,
        chunks: CachedChunks,
        store: PolicyStore,
        clock: Clock,
        settings: LearnSettings,
        seed: int,
    ) -> None:
        self._spec = spec
        self._chunks = chunks
        self._log = log
        self._store = store
        self._clock = clock
        self.settings = settings
        self._seed = seed
        self._simulator: Simulator | None = None
        self._policies = TopicReader(log, POLICIES, spec.task)

    def candidate(self, training: Training[Any], progress: Progress) -> PolicyVersion:
        """Store what has been learned as a version; what is promoted waits to be sent."""
        weights = pack(training.policy_arrays())
        progress.version += 1
        self.follow(progress)
        held = progress.holding
        verdict = self._judged(weights, progress, training.config)
        progress.refusals = progress.refusals + 1 if verdict.refused else 0
        if held:
            reason = f"promotion is on hold by {held.decided_by} ({held.reason}); {verdict.reason}"
            verdict = verdict._replace(promoted=False, reason=reason)
        version = self._stored(self._version(weights, verdict, training, progress), weights, progress)
        logger.info("%s@%d: %s", version.task, version.version, version.reason)
        if version.promoted and not held:
            progress.promoted(version.version, best=verdict.best)
            progress.pending.append(self._record(version))
        return version

    def follow(self, progress: Progress) -> None:
        """Apply what is on `policies` since the record that was applied last: a person may have decided."""
        progress.apply(published(self._log, self._spec.task))

    def follow_on(self, progress: Progress) -> None:
        """Follow, where `policies` has got something since the last call: that costs little when nothing has."""
        if [*self._policies.batches()]:
            self.follow(progress)

    def sent(self, progress: Progress) -> None:
        """Note that the pending records are on the log now."""
        if progress.pending:
            progress.sent(published(self._log, self._spec.task))

    def simulator(self) -> Simulator | None:
        """Return what versions' returns are told by; None where the task has none that can be made here."""
        try:
            return self._made_simulator()
        except EnvironmentFailedError as error:
            logger.warning("task %s has no simulator: %s", self._spec.task, error)
            return None

    def _made_simulator(self) -> Simulator | None:
        if self._simulator is None:
            self._simulator = task_simulator(self._spec, self.settings.gate_traces, seeds.GATE.first)
        return self._simulator

    def _judged(self, weights: bytes, progress: Progress, config: Config) -> _Verdict:
        gate = self.settings.gate
        if gate == "data" or (gate == "auto" and self._spec.environment is None):
            return self._judged_by_data(weights, progress, config)
        return self._judged_by_trial(weights, progress, algorithm(config.algorithm), gated=gate != "none")

    def _judged_by_trial(self, weights: bytes, progress: Progress, kind: Algorithm, *, gated: bool) -> _Verdict:
        ungated = _Verdict(True, "promoted without a gate, as the settings say", {})
        # What an on-policy learner learns from is what serves: behind a gate that wants better it would starve.
        margin = self.settings.margin if kind.needs_log_prob else 0.0
        try:
            found = self._made_simulator()
            if found is None:
                return _Verdict(False, "no simulator to judge it by", {}) if gated else ungated
            done = tried(self._candidate(weights, progress), found, self._fresh, margin, measures(self._spec))
        except EnvironmentFailedError as error:  # of an environment that is anybody's: the next candidate may do
            return _Verdict(False, f"it could not be judged: {error}", {}) if gated else ungated
        verdict = done.verdict
        promoted, reason = (verdict.accepted, verdict.reason) if gated else ungated[:2]
        difference = Interval(verdict.mean_difference, verdict.low, verdict.high)
        best = verdict.low > 0.0 or not gated
        return _Verdict(promoted, reason, done.evaluation, difference, done.judgement, best, outcomes=done.outcomes)

    def _judged_by_data(self, weights: bytes, progress: Progress, config: Config) -> _Verdict:
        found = judged_by_data(self._spec, self._chunks, self._store, weights, progress, config)
        difference = found.difference and Interval(*found.difference)
        evidence = DataEvidence(ESTIMATOR, found.rows, found.effective_rows, found.groups)
        return _Verdict(found.accepted, found.reason, found.returns, difference, by_data=evidence)

    def _candidate(self, weights: bytes, progress: Progress) -> Candidate:
        number = progress.opponent
        opponent = number and (number, load_policy(self._store.weights(self._spec.task, number)))
        name = "serving" if number == progress.serving else "best"
        return Candidate(progress.version, load_policy(weights), opponent or None, name)

    def _fresh(self, count: int, seed: int) -> Simulator:
        assert self._spec.environment_id is not None
        return fresh_simulator(self._spec.environment_id, count, seed, measures(self._spec))

    def _version(self, weights: bytes, verdict: _Verdict, training: Training[Any], progress: Progress) -> PolicyVersion:
        return PolicyVersion(
            task=self._spec.task,
            version=progress.version,
            parent=progress.parent,
            algorithm=training.config.algorithm,
            config=dataclasses.asdict(training.config) | dataclasses.asdict(self.settings),
            seed=self._seed,
            code_version=metadata.version("headrace"),
            weights_hash=weights_hash(weights),
            environment_steps=training.counts.rows,
            updates=training.updates,
            lineage=list(progress.lineage),
            complete=progress.complete,
            evaluation=verdict.evaluation,
            difference=verdict.difference,
            promoted=verdict.promoted,
            reason=verdict.reason,
            judged=verdict.judged,
            by_data=verdict.by_data,
            refusals=progress.refusals,
            went_back_to=progress.went_back_to,
            outcomes=dict(verdict.outcomes) or msgspec.UNSET,
        )

    def _stored(self, version: PolicyVersion, weights: bytes, progress: Progress) -> PolicyVersion:
        """Store a version, unless one of the same weights is there: from before a kill, maybe by older code."""
        versions = self._store.versions(self._spec.task)
        for one in versions:
            if one.version >= version.version and one.weights_hash == version.weights_hash:
                progress.version = one.version
                return one
        newest = max((one.version for one in versions), default=0)
        if version.version <= newest:  # another learner was here, from the same checkpoint
            version = msgspec.structs.replace(version, version=newest + 1)
            progress.version = newest + 1
        try:
            self._store.put(version, weights)
        except StorageError:
            if version.version not in {one.version for one in self._store.versions(self._spec.task)}:
                raise
            return self._stored(version, weights, progress)  # another learner took the number just now
        return version

    def _record(self, version: PolicyVersion) -> ServingPolicy:
        return ServingPolicy(
            task=version.task,
            version=version.version,
            weights_hash=version.weights_hash,
            decided_by="settings" if self.settings.gate == "none" else "gate",
            reason=version.reason,
            ts=self._clock(),
        )
