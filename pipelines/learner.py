"""One task's learner: it takes rows in; updates and candidates fall due by counts of rows, never by time."""

import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import msgspec

from headrace.learners.acting import Policy
from headrace.learners.checkpoint import pack, unpack, weights_hash
from headrace.learners.explain.simulation import Simulator, simulator
from headrace.learners.judge.gate import judge
from headrace.learners.judge.trial import Trial
from headrace.learners.stream.algorithms import begun, restored
from headrace.learners.stream.training import Config, Counts, LearnSettings, Training
from headrace.pipelines.advice import FITTED_CHUNKS, Advice, AdviceState, Advising, fitted, judging
from headrace.pipelines.progress import Progress
from headrace.pipelines.service.learner_meters import LearnerMeters
from headrace.pipelines.topics import DIRECTIVES, POLICIES
from headrace.schemas.errors import CorruptDataError, MissingChunkError, StorageError
from headrace.schemas.ports import Clock, PolicyStore, Record
from headrace.schemas.records import (
    ChunkKey,
    ChunkReference,
    Directive,
    Interval,
    PolicyVersion,
    ServingPolicy,
    TaskSpec,
    WindowSummary,
)
from headrace.schemas.transition import TransitionBatch
from headrace.sinks.cached_index import CachedChunks

logger = logging.getLogger(__name__)

GATE_SEED = 15_485_863
"""Of the gate's traces: fixed, and used for nothing else."""
REMEMBERED_CHUNKS = 65_536
"""Of so many chunks it is known which rows were taken; a window that is told again brings only its new ones."""


_FIXED = ("n_step", "priority")


def _kept(own: Config, asked: Config) -> str:
    """Tell the settings that a checkpoint was begun with, where others were asked for: replay depends on them."""
    differing = [name for name in _FIXED if getattr(own, name, None) != getattr(asked, name, None)]
    return ", ".join(f"{name} {getattr(own, name)}" for name in differing)


class Learner:
    """A training that follows one task's windows, from its checkpoint on."""

    def __init__(
        self,
        spec: TaskSpec,
        chunks: CachedChunks,
        store: PolicyStore,
        clock: Clock,
        config: Config,
        settings: LearnSettings,
        seed: int = 0,
        *,
        lost: bool = False,
        accept_gap: bool = False,
        published: Callable[[], list[ServingPolicy]] = list,
        advising: Advising | None = None,
        undo: Callable[[], list[Directive]] = list,
        retry: Callable[[Callable[[], Any]], Any] = lambda call: call(),
    ) -> None:
        """lost: whether the task had a checkpoint once: where it has none now, no earlier version is this one's.

        accept_gap: whether to go on without chunks that are missing from the index.
        published: gives the task's records on `policies`, which people write too.
        undo: gives the directives whose undoing people have asked for.
        """
        self.spec = spec
        self.settings = settings
        self.seed = seed
        self._chunks = chunks
        self._store = store
        self._clock = clock
        self._published = published
        self._advising = advising or Advising()
        self._undo = undo
        self._retry = retry
        self._accept_gap = accept_gap
        self.meters = LearnerMeters()
        self._taken: dict[ChunkKey, ChunkReference] = {}
        self._serving: Trial | None = None
        saved = retry(lambda: store.load(spec.task))
        self._follows = hashlib.sha256(saved).hexdigest() if saved is not None else ""
        if saved is None:
            self._start(config, lost=lost)
        else:
            self._restore(saved)
            own = self.training.config.algorithm
            if own != config.algorithm:
                logger.warning("%s: its checkpoint is of %s: it goes on by that", spec.task, own)
            elif kept := _kept(self.training.config, config):
                logger.warning("%s: its checkpoint goes on with what it was begun with: %s", spec.task, kept)
            self._warn_if_old()
        self._saved_rows = self.training.counts.rows
        self._saved_offset = self.progress.next_offset

    def _start(self, config: Config, *, lost: bool) -> None:
        """Begin anew; versions that are there keep their numbers, also where their checkpoint was lost.

        What was learned before a first checkpoint is learned again, to the same versions.
        """
        versions = self._retry(lambda: self._store.versions(self.spec.task))
        promoted = [one.version for one in versions if one.promoted]
        self.training: Training = begun(config, self.spec, self.seed, self.settings, self._learned)
        self.advice = Advice.begin(self.spec.task, self._advising, dataclasses.asdict(config), self._clock)
        self.progress = Progress(
            version=max((one.version for one in versions if lost), default=0),
            serving=promoted[-1] if promoted else None,
        )

    def _warn_if_old(self) -> None:
        """Tell of a checkpoint from a backup: the commit says nothing of it. One version may be newer, after a kill."""
        versions = self._retry(lambda: self._store.versions(self.spec.task))
        newest = max((one.version for one in versions if one.config.get("source") != "simulation"), default=0)
        if newest > self.progress.version + 1:
            logger.warning(
                "%s: the checkpoint is of version %d, but there is version %d: windows between are never learned from. "
                "Move it away, and the task is learned again from the first window that the log holds",
                *(self.spec.task, self.progress.version, newest),
            )

    @property
    def next_offset(self) -> int:
        """The offset in `windows` from which messages are new to this learner."""
        return self.progress.next_offset

    @property
    def due(self) -> bool:
        """Whether a checkpoint should be saved: enough rows came in, or there is something to say."""
        rows = self.training.counts.rows - self._saved_rows
        something = self.progress.pending or self.advice.state.pending
        return bool(something) or rows >= self.settings.checkpoint_rows

    def take(self, summary: WindowSummary, offset: int) -> None:
        """Take in a window's new rows; update, and make a candidate, where that falls due."""
        self._insert(summary.references)
        progress, rows = self.progress, self.training.counts.rows
        progress.next_offset = offset + 1
        if rows - progress.rows_at_candidate < self.settings.candidate_rows:
            return
        learned = self.training.updates > progress.updates_at_candidate
        if not learned and self.training.let_go():
            progress.lineage = []  # of nothing that will ever be
            progress.rows_at_candidate = rows
        elif self.training.updates:
            progress.rows_at_candidate, progress.updates_at_candidate = rows, self.training.updates
            self._candidate()

    def _insert(self, references: list[ChunkReference]) -> None:
        wanted = [r for r in references if (had := self._taken.get(r.key)) is None or had.rows < r.rows]
        new, batches = self._found(wanted)
        first_rows = []
        for reference in new:
            had = self._taken.pop(reference.key, None)
            self._taken[reference.key] = reference
            first_rows.append(had.rows if had else 0)
        self.training.take(zip(batches, first_rows, strict=True))
        for batch, first_row in zip(batches, first_rows, strict=True):
            rows = batch.slice(first_row, len(batch))
            self.meters.took(rows, self.progress.version)
            self.advice.saw(rows, self.spec.action_count if self.spec.discrete else 0, self.progress.version)
        self.progress.took([*zip(new, first_rows, strict=True)])
        while len(self._taken) > REMEMBERED_CHUNKS:
            del self._taken[next(iter(self._taken))]
        self._forget_overwritten()

    def _found(self, references: list[ChunkReference]) -> tuple[list[ChunkReference], list[TransitionBatch]]:
        """Read chunks; those that are missing are passed over where that is accepted: lineage does not name them."""
        try:
            return references, self._read(references)
        except MissingChunkError as error:
            if not self._accept_gap:
                raise MissingChunkError(f"{error}. Give --accept-gap to learn without it") from error
        found: list[tuple[ChunkReference, TransitionBatch]] = []
        for reference in references:
            try:
                found += zip([reference], self._read([reference]), strict=True)
            except MissingChunkError as error:
                logger.warning("%s: %s; learned without it", self.spec.task, error)
        return [reference for reference, _ in found], [batch for _, batch in found]

    def _read(self, references: list[ChunkReference]) -> list[TransitionBatch]:
        batches: list[TransitionBatch] = self._retry(lambda: self._chunks.transitions(references))
        return batches

    def _forget_overwritten(self) -> None:
        progress, count = self.progress, 0
        for reference, start in progress.inserted:
            if progress.first_row + reference.rows - start > self.training.counts.rows - self.training.held_rows:
                break
            progress.first_row += reference.rows - start
            count += 1
        del progress.inserted[:count]

    def _candidate(self) -> None:
        """Store what has been learned as a version, and promote it if it passes the gate."""
        progress = self.progress
        weights = pack(self.training.policy_arrays())
        progress.version += 1
        self.follow()
        held = progress.holding
        version = self._stored(self._judged(weights, held), weights)
        progress.parent = self.training.counts.version = version.version
        self._advise(version)
        progress.lineage = []
        self.meters.judged(promoted=version.promoted, now_ms=self._clock())
        logger.info("%s@%d: %s", version.task, version.version, version.reason)
        if version.promoted and not held:
            progress.serving = version.version
            progress.pending.append(
                ServingPolicy(
                    task=version.task,
                    version=version.version,
                    weights_hash=version.weights_hash,
                    decided_by="gate" if self.settings.gate == "simulator" else "settings",
                    reason=version.reason,
                    ts=self._clock(),
                )
            )

    def _advise(self, version: PolicyVersion) -> None:
        """Let directives change the configuration for what is learned after the version."""
        newest = [entry.reference for entry in self.progress.lineage[-FITTED_CHUNKS:]]
        self.advice.at_version(
            version,
            self.training,
            judging(
                self._world(),
                lambda number: self._retry(lambda: self._store.weights(self.spec.task, number)),
            ),
            self._retry(self._undo) if self.advice.state.ledger.standing else [],
            lambda place: fitted(self._read(newest), place),
        )

    def _learned(self, metrics: Mapping[str, float]) -> None:
        self.advice.learned(metrics)
        self.meters.learned(metrics)

    def follow(self) -> None:
        """Heed what is on `policies` since the record that was heeded last: a person may have decided."""
        if self.progress.heed(self._retry(self._published)):
            self._serving = None

    def _stored(self, version: PolicyVersion, weights: bytes) -> PolicyVersion:
        """Store a version, unless one of the same weights is there: from before a kill, maybe by older code."""
        versions = self._retry(lambda: self._store.versions(self.spec.task))
        for one in versions:
            if one.version >= version.version and one.weights_hash == version.weights_hash:
                found: PolicyVersion = one
                self.progress.version = found.version
                return found
        newest = max((one.version for one in versions), default=0)
        if version.version <= newest:  # another learner was here, from the same checkpoint
            version = msgspec.structs.replace(version, version=newest + 1)
            self.progress.version = newest + 1
        try:
            self._retry(lambda: self._store.put(version, weights))
        except StorageError:
            taken = {one.version for one in self._retry(lambda: self._store.versions(self.spec.task))}
            if version.version not in taken:
                raise
            return self._stored(version, weights)  # another learner took the number just now
        return version

    def _world(self) -> Simulator | None:
        """Return what policies are judged in; none of the simulators takes continuous actions."""
        known = self.spec.discrete
        return simulator(self.spec.environment, self.settings.gate_traces, GATE_SEED) if known else None

    def _judged(self, weights: bytes, held: ServingPolicy | None) -> PolicyVersion:
        world = self._world()
        evaluation: dict[str, float] = {}
        difference = None
        if world is None or self.settings.gate == "none":
            promoted = self.settings.gate == "none"
            reason = "promoted without a gate, as the settings say" if promoted else "no simulator to judge it by"
        if world is not None:
            trial, serving = Trial(world, Policy.from_bytes(weights)), self._serving_trial(world)
            verdict = judge(*trial.against(serving))
            difference = Interval(verdict.mean_difference, verdict.low, verdict.high)
            evaluation = {name: float(done.returns.mean()) for name, done in world.baselines().items()}
            evaluation["policy"] = trial.mean(verdict.n)
            if serving is not None:
                evaluation["serving"] = serving.mean(verdict.n)
            if self.settings.gate == "simulator":
                promoted, reason = verdict.accepted, verdict.reason
            if promoted and not held:
                self._serving = trial
        if held:
            promoted, reason = False, f"promotion is on hold by {held.decided_by} ({held.reason}); {reason}"
        training = self.training
        return PolicyVersion(
            task=self.spec.task,
            version=self.progress.version,
            parent=self.progress.parent,
            algorithm=training.config.algorithm,
            config=dataclasses.asdict(training.config) | dataclasses.asdict(self.settings),
            seed=self.seed,
            code_version=metadata.version("headrace"),
            weights_hash=weights_hash(weights),
            environment_steps=training.counts.rows,
            updates=training.updates,
            lineage=list(self.progress.lineage),
            complete=self.progress.complete,
            evaluation=evaluation,
            difference=difference,
            promoted=promoted,
            reason=reason,
        )

    def _serving_trial(self, world: Simulator) -> Trial | None:
        serving = self.progress.serving
        if self._serving is None and serving is not None:
            weights = self._retry(lambda: self._store.weights(self.spec.task, serving))
            self._serving = Trial(world, Policy.from_bytes(weights))
        return self._serving

    def outputs(self) -> list[Record]:
        """Return the policy records and directives that are not yet on the log."""
        key = self.spec.task.encode()
        policies = [Record(POLICIES, key, msgspec.json.encode(one)) for one in self.progress.pending]
        return policies + [Record(DIRECTIVES, key, msgspec.json.encode(one)) for one in self.advice.state.pending]

    def save(self) -> None:
        """Save the checkpoint, if anything was taken in since the last one.

        Raises CommitConflictError where another learner has saved one since.
        """
        if self._saved_offset == self.progress.next_offset:
            return
        arrays, meta = self.training.state_to_arrays()
        taken = [*self._taken.values()]
        progress: dict[str, Any] = msgspec.to_builtins(self.progress)
        counts = msgspec.to_builtins(self.training.counts)
        extra = {meta["algorithm"]: meta, "counts": counts, "progress": progress, "taken": msgspec.to_builtins(taken)}
        extra["advice"] = msgspec.to_builtins(self.advice.state)
        checkpoint = pack(arrays, extra)
        self._retry(lambda: self._store.save(self.spec.task, checkpoint, self._follows))
        self._follows = hashlib.sha256(checkpoint).hexdigest()
        self._saved_rows = self.training.counts.rows
        self._saved_offset = self.progress.next_offset

    def sent(self) -> None:
        """Note that the pending records are on the log now."""
        self.advice.sent(None)
        if self.progress.pending and self.progress.sent(self._retry(self._published)):
            self._serving = None

    def _restore(self, saved: bytes) -> None:
        try:
            arrays, meta = unpack(saved)
            counts = msgspec.convert(meta["counts"], Counts)
            self.training = restored(arrays, meta, self.spec, self.settings, counts, self._learned)
            self.progress = Progress.read(meta["progress"])
            advice = msgspec.convert(meta["advice"], AdviceState)
            self.advice = Advice(self.spec.task, self._advising, advice, self._clock)
            self._taken = {r.key: r for r in msgspec.convert(meta["taken"], list[ChunkReference])}
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptDataError(
                f"the checkpoint of {self.spec.task} is not one of this headrace ({error}): go on with the headrace "
                "that wrote it, or move it away, and the task is learned again from the windows that the log holds"
            ) from error
        self._refill()

    def _refill(self) -> None:
        """Give the training the rows that it held. Where some are gone from the index it begins after them."""
        progress, training = self.progress, self.training
        training.begin_refill(progress.first_row - progress.base_row)
        try:
            batches = self._read([reference for reference, _ in progress.inserted])
        except CorruptDataError as error:
            logger.warning("%s: learning goes on without the rows that it held: %s", self.spec.task, error)
            training.begin_anew()
            progress.inserted, progress.first_row, progress.base_row = [], training.counts.rows, training.counts.rows
            progress.complete = False
            return
        for (_, first_row), batch in zip(progress.inserted, batches, strict=True):
            training.refill(batch, first_row)
        training.end_refill()
