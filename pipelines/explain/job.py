"""explain: promotions and windows in, reports out. One dataflow, top to bottom.

    policies, windows ─► compute ─► narrate ─► commit

A version's report follows its first promotion, an interval's its windows, once `ingest` is past it everywhere. A
report and the offsets that it follows from go out in one commit, and its id depends on what it is about alone: none
is lost, none comes twice. A process whose commit is refused (another one has its partitions) joins again.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec
from bytewax.dataflow import Dataflow

from headrace.learners.explain.facts import version_facts
from headrace.learners.explain.interval import interval_facts
from headrace.learners.explain.series import interval_series, version_series
from headrace.learners.explain.template import BARE
from headrace.learners.explain.timeline import ClosedInterval
from headrace.learners.explain.witness import Witness
from headrace.pipelines.explain.intervals import Intervals, read_on
from headrace.pipelines.explain.items import Draft, Source, Trigger
from headrace.pipelines.explain.reported import KnownReports, interval_id, version_id
from headrace.pipelines.explain.words import Words
from headrace.pipelines.runtime.flow import run, wired
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.runtime.retry import retried
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import POLICIES, decoded
from headrace.schemas.errors import CommitConflictError
from headrace.schemas.ports import Commit, Log, MessageBatch, Narrator, PolicyStore
from headrace.schemas.records import Report, ServingPolicy
from headrace.sinks.chunks import CachedChunks

logger = logging.getLogger(__name__)

GROUP = "explain"
INTERVAL_MS = 6 * 3_600_000


def dataflow(explainer: "Explainer") -> Dataflow:
    """Wire the steps; `Explainer.steps` tells the item's shape after each."""
    return wired("explain", explainer.stop, ("follow", explainer.poll), explainer.steps(), ("commit", explainer.commit))


class Explainer:
    """The steps of the dataflow. interval_ms: as `Intervals` has it."""

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
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stop = Stop()
        self.reports = 0
        self.chunks = chunks
        self.words = Words(narrator)
        log = retried(log, self.stop)
        self._store = retried(store, self.stop, "policies")
        self._tasks = retried(tasks, self.stop)
        self._witness = Witness(self._store.weights, retried(chunks, self.stop, "index").transitions)
        self._known = KnownReports(log)
        self._policies = Member(log, GROUP, POLICIES, on_assign=lambda _event: self._known.refresh())
        self.intervals = Intervals(
            log, GROUP, self._tasks, self._known, interval_ms=interval_ms, until_caught_up=until_caught_up, timer=timer
        )
        self._poll_messages = poll_messages
        self._under_way: dict[str, Source] = {}

    def steps(self) -> list[tuple[str, Callable[[Any], list[Any]]]]:
        """Return what the dataflow does with each Trigger between its source and its sink."""
        return [
            ("compute", self.compute),  # Draft: facts and plots
            ("narrate", self.narrate),  # Draft: with words
        ]

    def close(self) -> None:
        """Leave the groups."""
        self._policies.close()
        self.intervals.member.close()

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """How far each partition that this process has is read, by topic and partition; from any thread."""
        return self._policies.positions | self.intervals.member.positions

    def catch_up(self) -> None:
        """Aim for the log's present end once more (the embedded run does so at each step)."""
        self.stop.renew()
        self._policies.aim()
        self.intervals.aim()

    def poll(self) -> list[Trigger]:
        """Return what happened; raises StopIteration when there is no more to do."""
        caught_up = self.intervals.through and self._policies.caught_up
        if self.stop.finished or self.stop.requested or caught_up:
            self.stop.finished = True
            raise StopIteration
        batches = read_on(self._policies, self._poll_messages, 0.0)
        promotions = [item for batch in batches for item in self._promotions(batch)]
        return promotions + self.intervals.poll(self._poll_messages, at_end=self._policies.caught_up)

    def _promotions(self, batch: MessageBatch) -> Iterator[Trigger]:
        generation = self._policies.generations[batch.partition]
        for promotion, offset in zip(decoded(batch, ServingPolicy), batch.offsets.tolist(), strict=True):
            if promotion:
                yield Trigger(Source(POLICIES, batch.partition, Commit(offset + 1), generation), promotion=promotion)

    def compute(self, trigger: Trigger) -> list[Draft]:
        """Compute the facts and the plots of a report that is not there yet."""
        report = None
        if trigger.promotion is not None:
            report = self._version_report(trigger.promotion)
        elif trigger.interval is not None:
            report = self._interval_report(trigger.interval, trigger)
        if report is not None:
            self._under_way[report.report_id] = trigger.source
        return [Draft(trigger.source, report, trigger.interval.closing if trigger.interval else None)]

    def _is_reported(self, report_id: str) -> bool:
        """Whether the report is there, or on its way in this batch, to be committed if its partition stays here."""
        source = self._under_way.get(report_id)
        return report_id in self._known or (source is not None and self._current(source))

    def _interval_report(self, closed: ClosedInterval, trigger: Trigger) -> Report | None:
        spec, current = closed.spec, closed.current
        report_id = interval_id(spec.task, current.start_ms)
        if self._is_reported(report_id):
            return None
        rows, learned = self._witness.sampled(spec, closed), self._store.versions(spec.task)
        happened = trigger.rejected, closed.unreported, rows, learned, trigger.operations
        facts = interval_facts(spec, current, closed.previous, *happened)
        series = interval_series(spec, current, closed.previous, rows)
        span_ms = current.start_ms, current.end_ms
        return Report(report_id, spec.task, "interval", *span_ms, None, facts, BARE, series)

    def _version_report(self, serving: ServingPolicy) -> Report | None:
        task, report_id = serving.task, version_id(serving.task, serving.version)
        spec = self._tasks.spec(task)
        if spec is None or not serving.version or self._is_reported(report_id):
            return None
        versions = self._store.versions(task)
        version = next((one for one in versions if one.version == serving.version), None)
        if version is None:
            logger.error("%s@%d serves, but the store does not hold it: no report", task, serving.version)
            return None
        earlier = [one for one in versions if one.version < version.version]
        parent = next((one for one in earlier if one.version == version.parent), None)
        evidence = self._witness.evidence(spec, version, earlier)
        facts = version_facts(spec, version, evidence, parent, serving.decided_by)
        series = version_series(spec, [*earlier, version], evidence)
        return Report(report_id, task, "version", serving.ts, serving.ts, version.version, facts, BARE, series)

    def narrate(self, draft: Draft) -> list[Draft]:
        """Find words for the facts."""
        if draft.report is None:
            return [draft]
        narrative = self.words.of(draft.report.facts)
        return [replace(draft, report=msgspec.structs.replace(draft.report, narrative=narrative))]

    def commit(self, drafts: list[Draft]) -> list[Draft]:
        """Append the reports and move the offsets that they follow from, all or nothing, topic by topic."""
        for member in (self._policies, self.intervals.member):
            done = [f for f in drafts if f.source.topic == member.topic and self._current(f.source)]
            if done:
                self._commit(member, done)
        self._under_way.clear()
        return drafts

    def _commit(self, member: Member, drafts: list[Draft]) -> None:
        commits = {draft.source.partition: draft.source.commit for draft in drafts}
        new = {
            draft.report.report_id: self._known.record(draft.report, draft.closing)
            for draft in drafts
            if draft.report is not None and draft.report.report_id not in self._known
        }
        try:
            member.commit(commits, [*new.values()])
        except CommitConflictError:
            return
        for report_id in new:
            self._known.add(report_id)
        self.reports += len(new)

    def _current(self, source: Source) -> bool:
        """Whether the partition is still assigned as it was when the item was read."""
        member = self._policies if source.topic == POLICIES else self.intervals.member
        return member.has(source.partition, source.generation)


def run_until_caught_up(explainer: Explainer) -> int:
    """Report on everything up to the log's present end; returns how many reports were made. May be called again."""
    before = explainer.reports
    explainer.catch_up()
    run(dataflow(explainer), explainer.stop)
    return explainer.reports - before
