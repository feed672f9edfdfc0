"""explain: promotions and windows in, reports out. One dataflow, top to bottom.

    policies, windows ─► compute ─► narrate ─► commit

A version's report follows its first promotion, an interval's the windows that close it. A report and the offsets
that it follows from go out in one commit, and its id depends on what it is about alone: none is lost, none comes
twice. The commit on `windows` stays before the intervals that are open or still compared with (so the group's lag
is never 0); a restart reads them again. Its metadata says from where `transitions.rejected` must be read again.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import bytewax.operators as op
import msgspec
import numpy as np
from bytewax.dataflow import Dataflow

from headrace.learners.acting import Policy
from headrace.learners.explain.evidence import Decisions, VersionEvidence
from headrace.learners.explain.facts import version_facts
from headrace.learners.explain.interval import interval_facts
from headrace.learners.explain.series import interval_series, version_series
from headrace.learners.explain.simulation import Simulator, simulator
from headrace.learners.explain.timeline import ClosedInterval, Timeline
from headrace.pipelines.core.tasks import TaskTable
from headrace.pipelines.flow import CallSink, PollSource, Stop, retrying, run
from headrace.pipelines.reported import KnownReports, Rejections, interval_id, version_id
from headrace.pipelines.topics import POLICIES, REPORTS, WINDOWS
from headrace.schemas.errors import CorruptDataError, UnknownPolicyError
from headrace.schemas.grounding import check
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import (
    Assigned,
    Commit,
    EndOfLog,
    Log,
    MessageBatch,
    Narrator,
    PolicyStore,
    Record,
    Revoked,
    Subscription,
)
from headrace.schemas.records import (
    Facts,
    Narrative,
    PolicyVersion,
    Report,
    Series,
    ServingPolicy,
    TaskSpec,
    WindowSummary,
)
from headrace.sinks.cached_index import CachedChunks
from headrace.sinks.narrator_template import TemplateNarrator

logger = logging.getLogger(__name__)

GROUP = "explain"
INTERVAL_MS = 6 * 3_600_000
MAX_DECISIONS = 4_096
"""Decisions that a version is judged by where there is no simulator: the last ones it learned from."""
MAX_CHUNKS = 16

Decoded = TypeVar("Decoded", WindowSummary, ServingPolicy)
_windows_decoder = msgspec.json.Decoder(WindowSummary)
_policies_decoder = msgspec.json.Decoder(ServingPolicy)


@dataclass(frozen=True, slots=True)
class Place:
    """What may be committed once an item is done. life: the assignment that it was read under."""

    topic: str
    partition: int
    commit: Commit
    life: int


@dataclass(frozen=True, slots=True, eq=False)
class Happening:
    """Something to report on: a policy that serves now, or an interval that is over."""

    place: Place
    promotion: ServingPolicy | None = None
    interval: ClosedInterval | None = None
    rejected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """A happening's report, without words at first; None where there is nothing (new) to report."""

    place: Place
    report: Report | None


@dataclass(slots=True)
class _Follower:
    """A subscription, and how far it has read each partition. life counts assignments."""

    subscription: Subscription
    topic: str
    offsets: dict[int, int] = field(default_factory=dict)
    targets: dict[int, int] = field(default_factory=dict)
    lives: dict[int, int] = field(default_factory=dict)

    @property
    def behind(self) -> bool:
        """Whether anything is left before the targets, or nothing is assigned yet."""
        return not self.targets or any(self.offsets.get(p, end) < end for p, end in self.targets.items())


class Explainer:
    """The steps of the dataflow, and the intervals of the partitions that this process has.

    interval_ms: length of a reporting interval, in event time, aligned at multiples of itself.
    """

    def __init__(
        self,
        log: Log,
        store: PolicyStore,
        chunks: CachedChunks,
        tasks: TaskTable,
        narrator: Narrator,
        *,
        interval_ms: int = INTERVAL_MS,
        poll_messages: int = 256,
        until_caught_up: bool = False,
    ) -> None:
        self.stop = Stop()
        self.reports = 0
        self._log = log
        self._store = store
        self._chunks = chunks
        self._tasks = tasks
        self._narrator = narrator
        self._interval_ms = interval_ms
        self._poll_messages = poll_messages
        self._until_caught_up = until_caught_up
        self._policies = _Follower(log.subscribe(GROUP, POLICIES), POLICIES)
        self._windows = _Follower(log.subscribe(GROUP, WINDOWS), WINDOWS)
        self._timelines: dict[int, Timeline] = {}
        self._rejections = Rejections(log, interval_ms)
        self._known = KnownReports(log)
        self._partitions = log.topic(REPORTS).partitions

    def close(self) -> None:
        """Leave the groups."""
        self._policies.subscription.close()
        self._windows.subscription.close()

    def catch_up(self) -> None:
        """Aim for the log's present end once more (the embedded run does so at each step)."""
        self.stop = Stop()
        for follower in (self._policies, self._windows):
            follower.targets = {p: self._log.bounds(follower.topic, p)[1] for p in follower.offsets}

    def poll(self) -> list[Happening]:
        """Return what happened; raises StopIteration when there is no more to do."""
        caught_up = self._until_caught_up and not (self._policies.behind or self._windows.behind)
        if self.stop.finished or self.stop.requested or caught_up:
            self.stop.finished = True
            raise StopIteration
        found = [item for batch in self._events(self._policies, 0.0) for item in self._promotions(batch)]
        return found + [item for batch in self._events(self._windows, 0.1) for item in self._intervals(batch)]

    def _events(self, follower: _Follower, timeout_s: float) -> Iterator[MessageBatch]:
        subscription = follower.subscription
        for event in retrying(lambda: subscription.poll(self._poll_messages, timeout_s), self.stop):
            if isinstance(event, Assigned):
                self._assign(follower, event)
            elif isinstance(event, Revoked):
                follower.offsets.pop(event.partition, None)
                follower.targets.pop(event.partition, None)
                follower.lives[event.partition] += 1
            elif isinstance(event, EndOfLog):
                follower.offsets[event.partition] = max(event.offset, follower.offsets[event.partition])
            else:
                yield event
                follower.offsets[event.partition] = int(event.offsets[-1]) + 1

    def _assign(self, follower: _Follower, event: Assigned) -> None:
        follower.offsets[event.partition] = event.commit.offset if event.commit else event.begin
        follower.targets[event.partition] = event.end
        follower.lives[event.partition] = follower.lives.get(event.partition, 0) + 1
        if follower is self._windows:
            self._timelines[event.partition] = Timeline(self._interval_ms)
            if event.commit or event.begin < event.end:
                self._rejections.hold(event.commit.metadata if event.commit else "")

    def _promotions(self, batch: MessageBatch) -> Iterator[Happening]:
        for value, offset in zip(batch.values, batch.offsets.tolist(), strict=True):
            promotion = _decoded(_policies_decoder, value)
            if promotion:
                place = Place(POLICIES, batch.partition, Commit(offset + 1), self._policies.lives[batch.partition])
                yield Happening(place, promotion=promotion)

    def _intervals(self, batch: MessageBatch) -> Iterator[Happening]:
        timeline, life = self._timelines[batch.partition], self._windows.lives[batch.partition]
        for value, offset, append_ms in zip(
            batch.values, batch.offsets.tolist(), batch.append_ts.tolist(), strict=True
        ):
            summary = _decoded(_windows_decoder, value)
            spec = self._spec(summary.task) if summary else None
            closed = timeline.add(spec, summary, offset, append_ms) if spec and summary else []
            if not closed:
                continue
            retrying(self._rejections.advance, self.stop)
            hold = timeline.hold()
            commit = Commit(offset + 1 if hold is None else hold, self._rejections.metadata(timeline.earliest_ms()))
            for one in closed:
                place = Place(WINDOWS, batch.partition, commit, life)
                yield Happening(place, interval=one, rejected=self._rejections.counts(one.current.start_ms))

    def _spec(self, task: str) -> TaskSpec | None:
        if task not in self._tasks.specs:
            retrying(self._tasks.refresh, self.stop)
        return self._tasks.specs.get(task)

    def compute(self, happening: Happening) -> list[Finding]:
        """Compute the facts and the plots of a report that is not there yet."""
        report = None
        if happening.promotion is not None:
            report = self._version_report(happening.promotion)
        elif happening.interval is not None:
            report = self._interval_report(happening.interval, happening.rejected)
        return [Finding(happening.place, report)]

    def _interval_report(self, closed: ClosedInterval, rejected: Mapping[str, int]) -> Report | None:
        current = closed.current
        if not self._known.add_interval(closed.spec.task, current.start_ms):
            return None
        facts = interval_facts(closed.spec, current, closed.previous, rejected, closed.unreported)
        series = interval_series(closed.spec, current, closed.previous)
        report_id = interval_id(closed.spec.task, current.start_ms)
        return _unworded(report_id, (current.start_ms, current.end_ms), None, facts, series)

    def _version_report(self, serving: ServingPolicy) -> Report | None:
        task, report_id = serving.task, version_id(serving.task, serving.version)
        spec = self._spec(task)
        if spec is None or report_id in self._known:
            return None
        versions = retrying(lambda: self._store.versions(task), self.stop)
        version = next((one for one in versions if one.version == serving.version), None)
        if version is None:
            logger.error("%s@%d serves, but the store does not hold it: no report", task, serving.version)
            return None
        earlier = [one for one in versions if one.version < version.version]
        evidence = self._evidence(spec, version, earlier)
        facts = version_facts(spec, version, evidence)
        series = version_series(spec, [*earlier, version], evidence)
        self._known.add(report_id)
        return _unworded(report_id, (serving.ts, serving.ts), version.version, facts, series)

    def _evidence(self, spec: TaskSpec, version: PolicyVersion, earlier: list[PolicyVersion]) -> VersionEvidence:
        """Run the version and the one that served before it where a simulator is; else look at what it decides."""
        before = next((one.version for one in reversed(earlier) if one.promoted), None)
        policy = self._policy(spec, version.version)
        world = simulator(spec.environment)
        if policy is None:
            return VersionEvidence(version.version, before)
        if world is None:
            return VersionEvidence(version.version, before, decisions=self._decisions(policy, version))
        return _simulated(
            world, version.version, before, policy, None if before is None else self._policy(spec, before)
        )

    def _policy(self, spec: TaskSpec, version: int) -> Policy | None:
        """Return a version that can be asked for values; None for one that is of another kind, or gone."""
        try:
            policy = Policy.from_bytes(retrying(lambda: self._store.weights(spec.task, version), self.stop))
        except (ValueError, CorruptDataError, UnknownPolicyError) as error:
            logger.warning("%s@%d cannot be asked what it would do: %s", spec.task, version, error)
            return None
        return policy if (policy.observation_width, policy.actions) == (spec.width, spec.action_count) else None

    def _decisions(self, policy: Policy, version: PolicyVersion) -> Decisions | None:
        """Let the version decide on the last rows that it learned from."""
        references = version.lineage[-MAX_CHUNKS:]
        try:
            batches = retrying(lambda: self._chunks.transitions(references), self.stop)
        except CorruptDataError as error:
            logger.warning("%s@%d: its last rows cannot be read: %s", version.task, version.version, error)
            return None
        if not batches:
            return None
        obs = np.concatenate([batch.obs for batch in batches])
        obs = obs[:: -(-len(obs) // MAX_DECISIONS)]
        return Decisions(obs, policy.q_values(obs).astype(np.float64))

    def narrate(self, finding: Finding) -> list[Finding]:
        """Find words for the facts: the narrator has two tries to be grounded, then the template speaks."""
        if finding.report is None:
            return [finding]
        narrative = self._words(finding.report.facts)
        return [Finding(finding.place, msgspec.structs.replace(finding.report, narrative=narrative))]

    def _words(self, facts: Facts) -> Narrative:
        for narrator in (self._narrator, self._narrator, TemplateNarrator()):
            try:
                narrative = narrator.tell(facts)
                check(narrative, facts)
            except Exception as error:  # noqa: BLE001 whatever a model does must not keep a report back
                logger.warning("narrator of %s %s: %s", facts.task, facts.subject, error)
            else:
                return narrative
        raise AssertionError(f"the template is not grounded in the facts of {facts.task} {facts.subject}")

    def commit(self, findings: list[Finding]) -> list[Finding]:
        """Append the reports and move the offsets that they follow from, all or nothing, topic by topic."""
        for follower in (self._policies, self._windows):
            done = [f for f in findings if f.place.topic == follower.topic and self._current(follower, f.place)]
            commits = {finding.place.partition: finding.place.commit for finding in done}
            outputs = [self._record(finding.report) for finding in done if finding.report is not None]
            if commits:
                _commit(follower.subscription, commits, outputs, self.stop)
                self.reports += len(outputs)
        return findings

    @staticmethod
    def _current(follower: _Follower, place: Place) -> bool:
        return place.partition in follower.offsets and follower.lives[place.partition] == place.life

    def _record(self, report: Report) -> Record:
        """Return a report's record, on its task's partition."""
        partition = partition_of(report.task.encode(), self._partitions)
        return Record(REPORTS, report.report_id.encode(), msgspec.json.encode(report), partition=partition)


def _decoded(decoder: msgspec.json.Decoder[Decoded], value: bytes | None) -> Decoded | None:
    """Return a message's record; a tombstone, or what is none, is passed over."""
    try:
        return decoder.decode(value) if value else None
    except msgspec.MsgspecError as error:
        logger.warning("a message is no %s: %s", decoder.type, error)
        return None


def _commit(subscription: Subscription, commits: Mapping[int, Commit], outputs: list[Record], stop: Stop) -> None:
    retrying(lambda: subscription.commit(commits, outputs), stop)


def _simulated(
    world: Simulator, version: int, before: int | None, policy: Policy, previous: Policy | None
) -> VersionEvidence:
    return VersionEvidence(
        version,
        before,
        world.outcomes(policy),
        None if previous is None else world.outcomes(previous),
        world.baselines(),
        world.decisions(policy),
        {"episode": world.episode(policy, f"v{version}")},
    )


def _unworded(
    report_id: str, span_ms: tuple[int, int], version: int | None, facts: Facts, series: dict[str, list[Series]]
) -> Report:
    """Make a report that has yet to be narrated."""
    silent = Narrative("", headline=TemplateNarrator().tell(facts).headline, sentences=())
    kind: Literal["version", "interval"] = "interval" if version is None else "version"
    return Report(report_id, facts.task, kind, *span_ms, version, facts, silent, series)


def dataflow(explainer: Explainer) -> Dataflow:
    """Wire the steps; the item's shape stands after each."""
    flow = Dataflow("explain")
    step = explainer.stop.guarded
    happenings = op.input("follow", flow, PollSource(explainer.poll, explainer.stop))  # Happening
    findings = op.flat_map("compute", happenings, step(explainer.compute))  # Finding: facts and plots
    worded = op.flat_map("narrate", findings, step(explainer.narrate))  # Finding: with words
    op.output("commit", worded, CallSink(step(explainer.commit)))
    return flow


def run_until_caught_up(explainer: Explainer) -> int:
    """Report on everything up to the log's present end; returns how many reports were made. May be called again."""
    before = explainer.reports
    explainer.catch_up()
    run(dataflow(explainer), explainer.stop)
    return explainer.reports - before
