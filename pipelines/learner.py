"""One task's learner: rows go into replay, updates and candidates fall due by counts of rows, never by time."""

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.learners import dqn
from headrace.learners.acting import Policy
from headrace.learners.checkpoint import pack, unpack, weights_hash
from headrace.learners.explain.simulation import Simulator, simulator
from headrace.learners.gate import judge
from headrace.learners.replay import Batch, ReplayBuffer
from headrace.pipelines.topics import POLICIES
from headrace.schemas.errors import CorruptDataError, LearnerDivergedError
from headrace.schemas.ports import Clock, PolicyStore, Record
from headrace.schemas.records import (
    ChunkKey,
    ChunkReference,
    Interval,
    PolicyVersion,
    ServingPolicy,
    TaskSpec,
    WindowSummary,
)
from headrace.schemas.transition import TransitionBatch
from headrace.sinks.cached_index import CachedChunks

logger = logging.getLogger(__name__)

FLOOR = "hpa"
"""The baseline that a first policy must beat."""
GATE_SEED = 15_485_863
"""Of the gate's traces: fixed, and used for nothing else."""
REMEMBERED_CHUNKS = 65_536
"""Of so many chunks it is known which rows were taken; a window that is told again brings only its new ones."""


@dataclass(frozen=True, slots=True)
class LearnSettings:
    """How a learner follows its stream.

    samples_per_row: rows drawn from replay per row that came in (the sample-to-insert ratio). min_rows: new rows
    before an update falls due. learning_starts: rows before the first. candidate_rows: rows between candidates.
    checkpoint_rows: rows between checkpoints. gate: "simulator" promotes what beats the serving policy there, and
    nothing where a task has none; "none" promotes every candidate.
    """

    samples_per_row: float = 8.0
    min_rows: int = 1_024
    learning_starts: int = 5_000
    candidate_rows: int = 25_600
    checkpoint_rows: int = 65_536
    gate: Literal["simulator", "none"] = "simulator"
    gate_traces: int = 512


class _Progress(msgspec.Struct):
    """What a checkpoint holds beside the algorithm's own state.

    inserted: references whose rows replay may still hold, in order, and the first row taken of each. first_row: how
    many rows came before them. base_row: of these, how many this replay never held. pending: policy records that are
    not yet on the log. skipped_updates: those that would have diverged.
    """

    next_offset: int = 0
    rows: int = 0
    sampled: int = 0
    rows_at_update: int = 0
    rows_at_candidate: int = 0
    first_row: int = 0
    base_row: int = 0
    inserted: list[tuple[ChunkReference, int]] = []
    lineage: list[ChunkReference] = []
    version: int = 0
    serving: int | None = None
    pending: list[ServingPolicy] = []
    skipped_updates: int = 0


class Learner:
    """A DQN that follows one task's windows, from its checkpoint on."""

    def __init__(
        self,
        spec: TaskSpec,
        chunks: CachedChunks,
        store: PolicyStore,
        clock: Clock,
        config: dqn.DQNConfig,
        settings: LearnSettings,
        seed: int = 0,
        *,
        retry: Callable[[Callable[[], Any]], Any] = lambda call: call(),
    ) -> None:
        self.spec = spec
        self.settings = settings
        self.seed = seed
        self._chunks = chunks
        self._store = store
        self._clock = clock
        self._retry = retry
        self._taken: dict[ChunkKey, ChunkReference] = {}
        self._serving_returns: NDArray[np.float64] | None = None
        saved = retry(lambda: store.load(spec.task))
        if saved is None:
            self._start(config)
        else:
            self._restore(saved)
        self._saved_rows = self.progress.rows
        self._saved_offset = self.progress.next_offset

    def _start(self, config: dqn.DQNConfig) -> None:
        """Begin anew; versions that are there (their checkpoint was lost) keep their numbers."""
        versions = self._retry(lambda: self._store.versions(self.spec.task))
        promoted = [one.version for one in versions if one.promoted]
        self.state = dqn.init(config, self.spec.width, self.spec.action_count, self.seed)
        self.progress = _Progress(
            version=max((one.version for one in versions), default=0), serving=promoted[-1] if promoted else None
        )
        self.replay = ReplayBuffer(config.replay_capacity, self.spec.width)

    @property
    def next_offset(self) -> int:
        """The offset in `windows` from which messages are new to this learner."""
        return self.progress.next_offset

    @property
    def due(self) -> bool:
        """Whether a checkpoint should be saved: enough rows came in, or there is something to say."""
        rows = self.progress.rows - self._saved_rows
        return bool(self.progress.pending) or rows >= self.settings.checkpoint_rows

    def take(self, summary: WindowSummary, offset: int) -> None:
        """Take in a window's new rows; update, and make a candidate, where that falls due."""
        progress = self.progress
        self._insert(summary.references)
        progress.next_offset = offset + 1
        self._update()
        if progress.rows - progress.rows_at_candidate >= self.settings.candidate_rows and self.state.updates:
            progress.rows_at_candidate = progress.rows
            self._candidate()

    def _insert(self, references: list[ChunkReference]) -> None:
        new = [r for r in references if (had := self._taken.get(r.key)) is None or had.rows < r.rows]
        for reference, batch in zip(new, self._read(new), strict=True):
            had = self._taken.pop(reference.key, None)
            start = had.rows if had else 0
            self.replay.add(_replay_rows(batch, start))
            self._taken[reference.key] = reference
            self.progress.rows += reference.rows - start
            self.progress.inserted.append((reference, start))
            self.progress.lineage.append(reference)
        while len(self._taken) > REMEMBERED_CHUNKS:
            del self._taken[next(iter(self._taken))]
        self._forget_overwritten()

    def _read(self, references: list[ChunkReference]) -> list[TransitionBatch]:
        batches: list[TransitionBatch] = self._retry(lambda: self._chunks.transitions(references))
        return batches

    def _forget_overwritten(self) -> None:
        progress, count = self.progress, 0
        for reference, start in progress.inserted:
            if progress.first_row + reference.rows - start > progress.rows - self.replay.capacity:
                break
            progress.first_row += reference.rows - start
            count += 1
        del progress.inserted[:count]

    def _update(self) -> None:
        progress, settings = self.progress, self.settings
        fresh = progress.rows - progress.rows_at_update
        if progress.rows < settings.learning_starts or fresh < settings.min_rows or not len(self.replay):
            return
        progress.rows_at_update = progress.rows
        batch_size = self.state.config.batch_size
        wanted = (progress.rows - settings.learning_starts) * settings.samples_per_row
        while progress.sampled + batch_size <= wanted:
            batch = self.replay.sample(self.state.rng, batch_size)
            progress.sampled += batch_size
            try:
                self.state, _ = dqn.update(self.state, batch)
            except LearnerDivergedError as error:
                # The state is as it was. One agent's absurd rewards must not stop the learning from all others.
                progress.skipped_updates += 1
                logger.warning("%s: an update was skipped: %s", self.spec.task, error)

    def _candidate(self) -> None:
        """Store what has been learned as a version, and promote it if it passes the gate."""
        progress = self.progress
        weights = pack(dqn.policy_arrays(self.state))
        parent = progress.version or None
        progress.version += 1
        version = self._stored(self._judged(weights, parent), weights)
        progress.lineage = []
        logger.info("%s@%d: %s", version.task, version.version, version.reason)
        if version.promoted:
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

    def _stored(self, version: PolicyVersion, weights: bytes) -> PolicyVersion:
        """Store a version, unless one of the same weights is there: from before a kill, maybe by older code."""
        versions = self._retry(lambda: self._store.versions(self.spec.task))
        for one in versions:
            if (one.version, one.weights_hash) == (version.version, version.weights_hash):
                found: PolicyVersion = one
                return found
        newest = max((one.version for one in versions), default=0)
        if version.version <= newest:  # another learner was here, from the same checkpoint
            version = msgspec.structs.replace(version, version=newest + 1)
            self.progress.version = newest + 1
        self._retry(lambda: self._store.put(version, weights))
        return version

    def _judged(self, weights: bytes, parent: int | None) -> PolicyVersion:
        world = simulator(self.spec.environment, self.settings.gate_traces, GATE_SEED)
        evaluation: dict[str, float] = {}
        difference = None
        if world is None or self.settings.gate == "none":
            promoted = self.settings.gate == "none"
            reason = "promoted without a gate, as the settings say" if promoted else "no simulator to judge it by"
        if world is not None:
            returns = world.outcomes(Policy.from_bytes(weights)).returns
            serving = self._returns_of_serving(world)
            floor = world.baselines()[FLOOR].returns
            verdict = judge(returns, serving, floor)
            difference = Interval(verdict.mean_difference, verdict.low, verdict.high)
            evaluation = {name: float(done.returns.mean()) for name, done in world.baselines().items()}
            evaluation["policy"] = float(returns.mean())
            if serving is not None:
                evaluation["serving"] = float(serving.mean())
            if self.settings.gate == "simulator":
                promoted, reason = verdict.accepted, verdict.reason
            if promoted:
                self._serving_returns = returns
        return PolicyVersion(
            task=self.spec.task,
            version=self.progress.version,
            parent=parent,
            algorithm="dqn",
            config=dataclasses.asdict(self.state.config) | dataclasses.asdict(self.settings),
            seed=self.seed,
            code_version=metadata.version("headrace"),
            weights_hash=weights_hash(weights),
            environment_steps=self.progress.rows,
            updates=self.state.updates,
            lineage=list(self.progress.lineage),
            evaluation=evaluation,
            difference=difference,
            promoted=promoted,
            reason=reason,
        )

    def _returns_of_serving(self, world: Simulator) -> NDArray[np.float64] | None:
        serving = self.progress.serving
        if self._serving_returns is None and serving is not None:
            policy = Policy.from_bytes(self._retry(lambda: self._store.weights(self.spec.task, serving)))
            self._serving_returns = world.outcomes(policy).returns
        return self._serving_returns

    def outputs(self) -> list[Record]:
        """Return the policy records that are not yet on the log."""
        key = self.spec.task.encode()
        return [Record(POLICIES, key, msgspec.json.encode(serving)) for serving in self.progress.pending]

    def save(self) -> None:
        """Save the checkpoint, if anything was taken in since the last one."""
        if self._saved_offset == self.progress.next_offset:
            return
        arrays, meta = dqn.state_to_arrays(self.state)
        taken = [*self._taken.values()]
        progress: dict[str, Any] = msgspec.to_builtins(self.progress)
        extra = {"dqn": meta, "progress": progress, "taken": msgspec.to_builtins(taken)}
        self._retry(lambda: self._store.save(self.spec.task, pack(arrays, extra)))
        self._saved_rows = self.progress.rows
        self._saved_offset = self.progress.next_offset

    def sent(self, versions: set[int] | None = None) -> None:
        """Note that the pending records, or those of the versions given, are on the log now."""
        pending = self.progress.pending
        self.progress.pending = [one for one in pending if versions is not None and one.version not in versions]

    def _restore(self, saved: bytes) -> None:
        try:
            arrays, meta = unpack(saved)
            self.state = dqn.state_from_arrays(arrays, meta["dqn"])
            self.progress = msgspec.convert(meta["progress"], _Progress)
            self._taken = {r.key: r for r in msgspec.convert(meta["taken"], list[ChunkReference])}
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptDataError(
                f"the checkpoint of {self.spec.task} is not one of this headrace ({error}): go on with the headrace "
                "that wrote it, or move it away, and the task is learned again from the windows that the log holds"
            ) from error
        self._refill()

    def _refill(self) -> None:
        """Fill replay with the rows that it held. Where some are gone from the index it begins after them."""
        progress = self.progress
        self.replay = ReplayBuffer(self.state.config.replay_capacity, self.spec.width)
        self.replay.added = progress.first_row - progress.base_row
        try:
            batches = self._read([reference for reference, _ in progress.inserted])
        except CorruptDataError as error:
            logger.warning("%s: replay begins anew, with what comes now: %s", self.spec.task, error)
            self.replay.added = 0
            progress.inserted, progress.first_row, progress.base_row = [], progress.rows, progress.rows
            return
        for (_, start), batch in zip(progress.inserted, batches, strict=True):
            self.replay.add(_replay_rows(batch, start))


def _replay_rows(batch: TransitionBatch, start: int) -> Batch:
    """Return the rows from `start` on as replay takes them."""
    rows = batch.slice(start, len(batch))
    return Batch(rows.obs, rows.action.astype(np.int64), rows.reward, rows.next_obs, rows.terminated)
