"""One task's learner: it takes rows in; updates and candidates fall due by counts of rows, never by time."""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from headrace.learners.advice.ledger import Ledger
from headrace.learners.stream.algorithms import algorithm, begun
from headrace.learners.stream.training import Config, LearnSettings
from headrace.pipelines.learn.advice import FITTED_CHUNKS, Advice, AdviceState, Advising, fitted, judging
from headrace.pipelines.learn.checkpoint import Checkpoint, Saved
from headrace.pipelines.learn.feed import Feed
from headrace.pipelines.learn.meters import LearnerMeters
from headrace.pipelines.learn.progress import Progress
from headrace.pipelines.learn.promotion import Promotion
from headrace.pipelines.published import directives
from headrace.pipelines.topics import DIRECTIVES, POLICIES
from headrace.schemas.ports import Clock, Log, PolicyStore, Record
from headrace.schemas.records import PolicyVersion, TaskSpec, WindowSummary
from headrace.sinks.chunks import CachedChunks

logger = logging.getLogger(__name__)


class Ports(NamedTuple):
    """What a learner reads and writes; each call waits until its dependency is up."""

    log: Log
    chunks: CachedChunks
    store: PolicyStore
    clock: Clock


@dataclass(frozen=True, slots=True)
class Learning:
    """How tasks are learned. config: what a task begins with; one with a checkpoint goes on by that one's.

    accept_gap: whether to go on without chunks that are missing from the index.
    """

    config: Config = field(default_factory=lambda: algorithm("dqn").streamed)
    settings: LearnSettings = field(default_factory=LearnSettings)
    advising: Advising = field(default_factory=Advising)
    seed: int = 0
    accept_gap: bool = False


class Learner:
    """A training that follows one task's windows, from its checkpoint on."""

    def __init__(self, spec: TaskSpec, ports: Ports, learning: Learning, *, lost: bool = False) -> None:
        """lost: whether the task had a checkpoint once: where it has none now, no earlier version is this one's."""
        self.spec = spec
        self.settings = settings = learning.settings
        self.meters = LearnerMeters()
        self._ports = ports
        self._promotion = Promotion(spec, ports.log, ports.chunks, ports.store, ports.clock, settings, learning.seed)
        self._checkpoint = Checkpoint(spec, ports.store)
        saved = self._checkpoint.load(settings, self._learned)
        if saved is None:
            self.training = begun(learning.config, spec, learning.seed, settings, self._learned)
            self.progress = self._begun(lost=lost)
        else:
            self.training, self.progress = saved.training, saved.progress
        advice = saved.advice if saved else AdviceState(Ledger.begin(dataclasses.asdict(learning.config)))
        self.advice = Advice(spec.task, learning.advising, advice, ports.clock)
        taken = saved.taken if saved else ()
        self._feed = Feed(spec.task, ports.chunks, taken, accept_gap=learning.accept_gap)
        if saved is not None:
            self._feed.refill(self.training, self.progress)
            self._warn_of_another(learning.config)
            self._warn_if_old()
        self._catch_up_with_the_log()

    def _catch_up_with_the_log(self) -> None:
        """Note what is on the log already, of what a checkpoint holds as pending; agents follow the log."""
        known = directives(self._ports.log, self.spec.task)
        if not self.training.counts.rows:
            self.advice.disown(known)
        elif self.outputs():
            self.follow()
            self.advice.sent(known)

    def _begun(self, *, lost: bool) -> Progress:
        """Begin anew; versions that are there keep their numbers, also where their checkpoint was lost.

        What was learned before a first checkpoint is learned again, to the same versions.
        """
        versions = self._ports.store.versions(self.spec.task)
        promoted = [one.version for one in versions if one.promoted]
        newest = max((one.version for one in versions if lost), default=0)
        return Progress(version=newest, serving=promoted[-1] if promoted else None)

    def _warn_of_another(self, asked: Config) -> None:
        """Tell of a checkpoint that does not go on as was asked for: replay depends on what it was begun with."""
        own, begun_with = self.training.config, ("n_step", "priority")
        if own.algorithm != asked.algorithm:
            logger.warning("%s: its checkpoint is of %s: it goes on by that", self.spec.task, own.algorithm)
            return
        differing = [name for name in begun_with if getattr(own, name, None) != getattr(asked, name, None)]
        if differing:
            kept = ", ".join(f"{name} {getattr(own, name)}" for name in differing)
            logger.warning("%s: its checkpoint goes on with what it was begun with: %s", self.spec.task, kept)

    def _warn_if_old(self) -> None:
        """Tell of a checkpoint from a backup: the commit says nothing of it. One version may be newer, after a kill."""
        versions = self._ports.store.versions(self.spec.task)
        learned = [one.version for one in versions if one.config.get("source") != "simulation"]
        newest = max(learned, default=0)
        if newest > self.progress.version + 1:
            logger.warning(
                "%s: the checkpoint is of version %d, but there is version %d: windows between are never learned from. "
                "Move it away, and the task is learned again from the first window that the log holds",
                *(self.spec.task, self.progress.version, newest),
            )

    @property
    def due(self) -> bool:
        """Whether a checkpoint should be saved: enough rows came in, or there is something to say."""
        rows = self.training.counts.rows - self._checkpoint.rows
        something = self.progress.pending or self.advice.state.pending
        return bool(something) or rows >= self.settings.checkpoint_rows

    def take(self, summary: WindowSummary, offset: int) -> None:
        """Take in a window's new rows; update, and make a candidate, where that falls due."""
        progress, actions = self.progress, self.spec.action_count if self.spec.discrete else 0
        for rows in self._feed.take(summary.references, self.training, progress):
            self.meters.took(rows, progress.version)
            self.advice.state.meter.saw(rows.action, actions, rows.reward_terms)
        progress.next_offset = offset + 1
        count = self.training.counts.rows
        if count - progress.rows_at_candidate < self.settings.candidate_rows:
            return
        learned = self.training.updates > progress.updates_at_candidate
        if not learned and self.training.let_go():
            progress.lineage = []  # of nothing that will ever be
            progress.rows_at_candidate = count
        elif self.training.updates:
            progress.rows_at_candidate, progress.updates_at_candidate = count, self.training.updates
            self._candidate()

    def _candidate(self) -> None:
        """Store what has been learned as a version, promote it if it may be, and take advice on how to go on."""
        version = self._promotion.candidate(self.training, self.progress)
        self.progress.parent = self.training.counts.version = version.version
        self._advise(version)
        self.progress.lineage = []
        self.meters.judged(promoted=version.promoted, now_ms=self._ports.clock())

    def _advise(self, version: PolicyVersion) -> None:
        """Let directives change the configuration for what is learned after the version."""
        task, newest = self.spec.task, [entry.reference for entry in self.progress.lineage[-FITTED_CHUNKS:]]
        standing = self.advice.state.ledger.standing
        self.advice.at_version(
            version,
            self.training,
            judging(self._promotion.simulator(), lambda number: self._ports.store.weights(task, number)),
            [one for one in directives(self._ports.log, task) if one.verdict == "undo"] if standing else [],
            lambda place: fitted(self._ports.chunks.transitions(newest), place),
        )

    def _learned(self, metrics: Mapping[str, float]) -> None:
        self.advice.state.meter.learned(metrics)
        self.meters.learned(metrics)

    def follow(self) -> None:
        """Apply what is on `policies` since the record that was applied last: a person may have decided."""
        self._promotion.follow(self.progress)

    def outputs(self) -> list[Record]:
        """Return the policy records and directives that are not yet on the log."""
        key = self.spec.task.encode()
        policies = [Record(POLICIES, key, msgspec.json.encode(one)) for one in self.progress.pending]
        return policies + [Record(DIRECTIVES, key, msgspec.json.encode(one)) for one in self.advice.state.pending]

    def save(self) -> None:
        """Save the checkpoint, if anything was taken in since the last one.

        Raises CommitConflictError where another learner has saved one since.
        """
        self._checkpoint.save(Saved(self.training, self.progress, self.advice.state, self._feed.taken))

    def sent(self) -> None:
        """Note that the pending records are on the log now."""
        self.advice.sent(self.advice.state.pending)
        self._promotion.sent(self.progress)
