"""A learner's candidates: each is judged, stored as a version under a free number, and promoted if it may be."""

import dataclasses
import logging
from importlib import metadata
from typing import Any, NamedTuple

import msgspec

from headrace.learners import seeds
from headrace.learners.acting import Policy
from headrace.learners.checkpoint import pack, weights_hash
from headrace.learners.explain.simulation import Simulator, simulator
from headrace.learners.judge.data import ESTIMATOR
from headrace.learners.judge.gate import judge
from headrace.learners.judge.trial import Trial
from headrace.learners.stream.training import Config, LearnSettings, Training
from headrace.pipelines.learn.by_data import judged_by_data
from headrace.pipelines.learn.progress import Progress
from headrace.pipelines.published import published
from headrace.schemas.errors import StorageError
from headrace.schemas.judged import DataEvidence
from headrace.schemas.ports import Clock, Log, PolicyStore
from headrace.schemas.records import Interval, PolicyVersion, ServingPolicy, TaskSpec
from headrace.sinks.chunks import CachedChunks

logger = logging.getLogger(__name__)


class _Verdict(NamedTuple):
    """What became of a candidate. trial: its own, where there is a simulator."""

    promoted: bool
    reason: str
    evaluation: dict[str, float]
    difference: Interval | None = None
    trial: Trial | None = None
    by_data: DataEvidence | None = None


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
        self._settings = settings
        self._seed = seed
        self._serving: Trial | None = None

    def candidate(self, training: Training[Any], progress: Progress) -> PolicyVersion:
        """Store what has been learned as a version; what is promoted waits to be sent."""
        weights = pack(training.policy_arrays())
        progress.version += 1
        self.follow(progress)
        held = progress.holding
        verdict = self._judged(weights, progress, training.config)
        if held:
            reason = f"promotion is on hold by {held.decided_by} ({held.reason}); {verdict.reason}"
            verdict = verdict._replace(promoted=False, reason=reason)
        elif verdict.promoted and verdict.trial:
            self._serving = verdict.trial
        version = self._stored(self._version(weights, verdict, training, progress), weights, progress)
        logger.info("%s@%d: %s", version.task, version.version, version.reason)
        if version.promoted and not held:
            progress.serving = version.version
            progress.pending.append(self._record(version))
        return version

    def follow(self, progress: Progress) -> None:
        """Apply what is on `policies` since the record that was applied last: a person may have decided."""
        if progress.apply(published(self._log, self._spec.task)):
            self._serving = None

    def sent(self, progress: Progress) -> None:
        """Note that the pending records are on the log now."""
        if progress.pending and progress.sent(published(self._log, self._spec.task)):
            self._serving = None

    def simulator(self) -> Simulator | None:
        """Return what policies are judged in; none of the simulators takes continuous actions."""
        known = self._spec.discrete
        return simulator(self._spec.environment, self._settings.gate_traces, seeds.GATE.first) if known else None

    def _judged(self, weights: bytes, progress: Progress, config: Config) -> _Verdict:
        gate, found = self._settings.gate, self.simulator()
        if gate == "data" or (gate == "auto" and found is None):
            return self._judged_by_data(weights, progress, config)
        gated = gate != "none"
        ungated = _Verdict(True, "promoted without a gate, as the settings say", {})
        if found is None:
            return _Verdict(False, "no simulator to judge it by", {}) if gated else ungated
        trial, serving = Trial(found, Policy.from_bytes(weights)), self._serving_trial(found, progress.serving)
        verdict = judge(*trial.against(serving))
        evaluation = {name: float(done.returns.mean()) for name, done in found.baselines().items()}
        evaluation["policy"] = trial.mean(verdict.n)
        if serving is not None:
            evaluation["serving"] = serving.mean(verdict.n)
        promoted, reason = (verdict.accepted, verdict.reason) if gated else ungated[:2]
        difference = Interval(verdict.mean_difference, verdict.low, verdict.high)
        return _Verdict(promoted, reason, evaluation, difference, trial)

    def _judged_by_data(self, weights: bytes, progress: Progress, config: Config) -> _Verdict:
        found = judged_by_data(self._spec, self._chunks, self._store, weights, progress, config)
        difference = found.difference and Interval(*found.difference)
        evidence = DataEvidence(ESTIMATOR, found.rows, found.effective_rows, found.groups)
        return _Verdict(found.accepted, found.reason, found.returns, difference, by_data=evidence)

    def _serving_trial(self, simulator: Simulator, serving: int | None) -> Trial | None:
        if self._serving is None and serving is not None:
            self._serving = Trial(simulator, Policy.from_bytes(self._store.weights(self._spec.task, serving)))
        return self._serving

    def _version(self, weights: bytes, verdict: _Verdict, training: Training[Any], progress: Progress) -> PolicyVersion:
        return PolicyVersion(
            task=self._spec.task,
            version=progress.version,
            parent=progress.parent,
            algorithm=training.config.algorithm,
            config=dataclasses.asdict(training.config) | dataclasses.asdict(self._settings),
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
            by_data=verdict.by_data,
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
            decided_by="settings" if self._settings.gate == "none" else "gate",
            reason=version.reason,
            ts=self._clock(),
        )
