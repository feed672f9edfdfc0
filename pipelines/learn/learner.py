"""One task's learner: it takes rows in; updates and candidates fall due by counts of rows, never by time."""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from headrace.learners.advice.ledger import Ledger
from headrace.learners.checkpoint import unpack
from headrace.learners.stream.algorithms import begun
from headrace.learners.stream.stated import changes, learned_by, stated
from headrace.learners.stream.training import Config, LearnSettings
from headrace.pipelines.learn import canary
from headrace.pipelines.learn.advice import FITTED_CHUNKS, Advice, AdviceState, Advising, fitted, judging
from headrace.pipelines.learn.checkpoint import Checkpoint, Saved, require_newest, warn_of_another
from headrace.pipelines.learn.feed import Feed
from headrace.pipelines.learn.meters import LearnerMeters
from headrace.pipelines.learn.progress import Progress
from headrace.pipelines.learn.promotion import Promotion
from headrace.pipelines.published import directives
from headrace.pipelines.topics import DIRECTIVES, POLICIES
from headrace.schemas.errors import SettingsError
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
    """How tasks are learned that state nothing of it; one with a checkpoint goes on by that one's algorithm and net.

    config: None for the default one of the first algorithm that learns the task's actions. accept_gap: whether to go
    on without chunks that are missing from the index, or from a checkpoint that is older than what was learned since.
    """

    config: Config | None = None
    settings: LearnSettings = field(default_factory=LearnSettings)
    advising: Advising = field(default_factory=Advising)
    seed: int = 0
    accept_gap: bool = False


class Learner:
    """A training that follows one task's windows, from its checkpoint on."""

    def __init__(
        self,
        spec: TaskSpec,
        ports: Ports,
        learning: Learning,
        *,
        lost: bool = False,
        from_start: bool = False,
        emitted: int = 0,
    ) -> None:
        """Go on from the task's checkpoint, where it has one; raises CorruptDataError for one that is too old.

        lost: whether the task had a checkpoint once: where it has none now, no earlier version is this one's.
        from_start: whether to leave the checkpoint that it has: it is replaced when this one's is saved. emitted: the
        offset up to which the log says that the task was learned.
        """
        self.spec = spec
        self._learning = learning
        now = stated(spec, directives(ports.log, spec.task))
        config, settings = learned_by(spec, now, learning.config, learning.settings)
        self.meters = LearnerMeters()
        self._ports = ports
        self._promotion = Promotion(spec, ports.log, ports.chunks, ports.store, ports.clock, settings, learning.seed)
        self._checkpoint = Checkpoint(spec, ports.store)
        saved = self._checkpoint.load(settings, self._learned, from_start=from_start)
        if saved is None:
            self.training = begun(config, spec, learning.seed, settings, self._learned)
            self.progress = self._begun(lost=lost)
            self.progress.stated, self.progress.from_start = now, from_start
        else:
            self.training, self.progress = saved.training, saved.progress
            settings = learned_by(spec, self.progress.stated, learning.config, learning.settings).settings
        self._set(settings)
        advice = saved.advice if saved else AdviceState(Ledger.begin(dataclasses.asdict(config)))
        self.advice = Advice(spec.task, learning.advising, advice, ports.clock)
        taken = saved.taken if saved else ()
        self._feed = Feed(spec.task, ports.chunks, taken, accept_gap=learning.accept_gap)
        if saved is not None:
            self._feed.refill(self.training, self.progress)
            warn_of_another(spec.task, self.training.config, config)
            versions = ports.store.versions(spec.task)
            require_newest(spec.task, self.progress, versions, emitted, accept_gap=learning.accept_gap)
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

    @property
    def missing_rows(self) -> int:
        """How many rows must come in before the next candidate is made; it needs an update too."""
        return self.progress.missing_rows(self.training.counts.rows, self.settings)

    @property
    def due(self) -> bool:
        """Whether a checkpoint should be saved: enough rows came in, or there is something to say."""
        rows = self.training.counts.rows - self._checkpoint.rows
        something = self.progress.pending or self.advice.state.pending
        return bool(something) or rows >= self.settings.checkpoint_rows

    def take(self, summary: WindowSummary, offset: int, append_ms: int) -> None:
        """Take in a window's new rows; update, and make a candidate, where that falls due."""
        progress, actions = self.progress, self.spec.action_count if self.spec.discrete else 0
        if progress.saw(summary.start_ms, self.training.counts.rows):
            self._promotion.follow_on(progress)
            self.meters.canary = canary.at_window(progress, append_ms, self._ports.clock)
        for rows in self._feed.take(summary.references, self.training, progress):
            self.meters.took(rows, progress.version)
            self.advice.state.meter.saw(rows.action, actions, rows.reward_terms)
            if progress.canary and progress.canary.begun:
                progress.canary.saw(rows)
        progress.next_offset = offset + 1
        count = self.training.counts.rows
        if self.missing_rows > 0:
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
        self._restate()
        back = self._back_to()
        again = self.progress.refusals > self.settings.refusals
        self._advise(version, careful=again and back is not None)
        self.progress.lineage = []
        self.progress.went_back_to = None if back is None else self._gone_back(back)
        self.meters.judged(promoted=version.promoted, now_ms=self._ports.clock())

    def _set(self, settings: LearnSettings) -> None:
        self.settings = self.training.settings = self._promotion.settings = settings

    def _restate(self) -> None:
        """Let what people have stated since the last version hold from here on, but for what holds from the start."""
        before, now = self.progress.stated, stated(self.spec, directives(self._ports.log, self.spec.task))
        if now == before:
            return
        try:
            old, new = (
                learned_by(self.spec, values, self._learning.config, self._learning.settings)
                for values in (before, now)
            )
        except SettingsError as error:
            logger.warning("%s: goes on as before: %s", self.spec.task, error)
            return
        self.progress.stated = now
        self._set(new.settings)
        own = self.training.config
        if new.config.algorithm == own.algorithm:
            changed = changes(own, old.config, new.config)
            self.training.config = dataclasses.replace(own, **changed)
            self.advice.restate(changed)
        warn_of_another(self.spec.task, own, new.config)
        logger.info("%s: from version %d on by what was stated: %s", self.spec.task, self.progress.version, now)

    def _back_to(self) -> int | None:
        """Return the version to go back to, as enough candidates in a row were refused; None where there is no need.

        Enough are each time twice as many more: what is near the best needs a longer way to become better.
        """
        first, count = self.settings.refusals, self.progress.refusals
        times, rest = divmod(count, first) if first and count else (0, 0)
        return self.progress.serving if times and not rest and not times & (times + 1) else None

    def _gone_back(self, version: int) -> int | None:
        """Go on from a version's weights; None where they are of another net, and learning goes on as it was."""
        task, count = self.spec.task, self.progress.refusals
        try:
            self.training.go_back(unpack(self._ports.store.weights(task, version))[0])
        except ValueError as error:
            logger.warning("%s: %d candidates in a row were refused; %s@%d: %s", task, count, task, version, error)
            return None
        logger.warning(
            "%s: %d candidates in a row were refused: learning goes on from the weights of %s@%d, which serves",
            *(task, count, task, version),
        )
        return version

    def _advise(self, version: PolicyVersion, *, careful: bool) -> None:
        """Let directives change the configuration for what is learned after the version."""
        task, newest = self.spec.task, [entry.reference for entry in self.progress.lineage[-FITTED_CHUNKS:]]
        self.advice.at_version(
            version,
            self.training,
            judging(self._promotion.simulator(), lambda number: self._ports.store.weights(task, number)),
            directives(self._ports.log, task),
            lambda place: fitted(self._ports.chunks.transitions(newest), place),
            careful=careful,
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
