"""explain: promotions and windows in, reports out. One dataflow, top to bottom.

    policies, windows ─► compute ─► narrate ─► commit

A version's report follows its first promotion, an interval's its windows, once `ingest` is past it everywhere. A
report and the offsets that it follows from go out in one commit, and its id depends on what it is about alone: none
is lost, none comes twice. A process whose commit is refused (another one has its partitions) joins again. The commit
on `windows` stays before the intervals that are open or still compared with, so that a restart reads them again. Its
metadata says from where `transitions.rejected` must be read again.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Dataflow

from headrace.learners.explain.facts import version_facts
from headrace.learners.explain.interval import Rejected, interval_facts
from headrace.learners.explain.progress import IngestProgress
from headrace.learners.explain.series import interval_series, version_series
from headrace.learners.explain.template import BARE, TemplateNarrator
from headrace.learners.explain.timeline import ClosedInterval, Closing, Timeline
from headrace.learners.explain.witness import Witness
from headrace.pipelines.explain.items import Finding, Happening, Place
from headrace.pipelines.explain.reported import (
    KnownReports,
    Rejections,
    closing_headers,
    ingest_progress,
    interval_id,
    unworded,
    version_id,
)
from headrace.pipelines.runtime.flow import CallSink, PollSource, run
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.runtime.retry import retried, retrying
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import POLICIES, REPORTS, WINDOWS, decoded
from headrace.schemas.errors import CommitConflictError
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
)
from headrace.schemas.records import Facts, Narrative, Report, ServingPolicy, TaskSpec, WindowSummary
from headrace.sinks.chunks import CachedChunks

logger = logging.getLogger(__name__)

GROUP = "explain"
INTERVAL_MS = 6 * 3_600_000
ASK_INTERVAL_S = 1.0
"""How often `ingest` is asked how far it has come while an interval looks over."""


def dataflow(explainer: "Explainer") -> Dataflow:
    """Wire the steps; the item's shape stands after each."""
    flow = Dataflow("explain")
    step = explainer.stop.guarded
    happenings = op.input("follow", flow, PollSource(explainer.poll, explainer.stop))  # Happening
    findings = op.flat_map("compute", happenings, step(explainer.compute))  # Finding: facts and plots
    worded = op.flat_map("narrate", findings, step(explainer.narrate))  # Finding: with words
    op.output("commit", worded, CallSink(step(explainer.commit)))
    return flow


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
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stop = Stop()
        self.reports = 0
        self.refusals = 0
        self.fallbacks = 0
        self.chunks = chunks
        self._log = retried(log, self.stop)
        self._store = retried(store, self.stop)
        self._tasks = tasks
        self._narrator = narrator
        self._interval_ms = interval_ms
        self._poll_messages = poll_messages
        self._until_caught_up = until_caught_up
        self._policies = Member(self._log, GROUP, POLICIES, on_assign=self._assign)
        self._windows = Member(self._log, GROUP, WINDOWS, on_assign=self._assign_windows)
        self._timelines: dict[int, Timeline] = {}
        self._timer = timer
        self._asked: IngestProgress | None = None
        self._asked_s = -ASK_INTERVAL_S
        self._asked_at_end = False
        self._witness = Witness(self._store.weights, retried(chunks, self.stop).transitions)
        self._rejections = Rejections(self._log)
        self._known = KnownReports(self._log)
        self._under_way: dict[str, Place] = {}
        self._partitions = log.topic(REPORTS).partitions

    def close(self) -> None:
        """Leave the groups."""
        self._policies.close()
        self._windows.close()

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """How far each partition that this process has is read, by topic and partition; from any thread."""
        return self._policies.positions | self._windows.positions

    def catch_up(self) -> None:
        """Aim for the log's present end once more (the embedded run does so at each step)."""
        self.stop.renew()
        self._asked, self._asked_at_end = None, False
        self._policies.aim()
        self._windows.aim()

    def poll(self) -> list[Happening]:
        """Return what happened; raises StopIteration when there is no more to do."""
        caught_up = self._until_caught_up and self._asked_at_end and self._caught_up
        if self.stop.finished or self.stop.requested or caught_up:
            self.stop.finished = True
            raise StopIteration
        found = [item for batch in self._events(self._policies, 0.0) for item in self._promotions(batch)]
        for batch in self._events(self._windows, 0.1):
            self._fold(batch)
        intervals = list(self._intervals())
        if intervals and self._windows.caught_up:  # while it is, what one partition has told of, another may need
            self._forget_rejections()
        return found + intervals

    @property
    def _caught_up(self) -> bool:
        return self._policies.caught_up and self._windows.caught_up

    def _events(self, member: Member, timeout_s: float) -> Iterator[MessageBatch]:
        for item in member.poll(self._poll_messages, timeout_s):
            if isinstance(item, EndOfLog):
                member.advance(item.partition, item.offset)
            else:
                yield item
                member.advance(item.partition, item.next_offset)

    def _assign(self, _event: Assigned) -> None:
        self._known.refresh()  # who had the partition may have reported since this one began

    def _assign_windows(self, event: Assigned) -> None:
        self._assign(event)
        self._timelines[event.partition] = Timeline(self._interval_ms, self._known.closing)
        self._asked_at_end = False
        if event.commit or event.begin < event.end:
            self._rejections.hold(event.commit.metadata if event.commit else "")

    def _promotions(self, batch: MessageBatch) -> Iterator[Happening]:
        for promotion, offset in zip(decoded(batch, ServingPolicy), batch.offsets.tolist(), strict=True):
            if promotion:
                place = Place(
                    POLICIES, batch.partition, Commit(offset + 1), self._policies.generations[batch.partition]
                )
                yield Happening(place, promotion=promotion)

    def _fold(self, batch: MessageBatch) -> None:
        timeline = self._timelines[batch.partition]
        summaries = decoded(batch, WindowSummary)
        for summary, offset, append_ms in zip(summaries, batch.offsets.tolist(), batch.append_ts.tolist(), strict=True):
            spec = self._spec(summary.task) if summary else None
            if spec and summary:
                timeline.add(spec, summary, offset, append_ms)

    def _intervals(self) -> Iterator[Happening]:
        """Close the intervals that ingest was past, as soon as all that it had told then is read."""
        if self._asked is None and self._may_ask():
            grace_ms = self._tasks.layout.grace_ms
            self._asked = ingest_progress(self._log, grace_ms)
            if self._until_caught_up:
                self._windows.aim(self._asked.windows_end)
        if self._asked is None or not self._windows.reached(self._asked.windows_end):
            return
        progress, self._asked = self._asked, None
        for partition in self._windows.offsets:
            yield from self._closed(partition, progress)

    def _may_ask(self) -> bool:
        """Whether an interval looks over: at the end of a run once, else each second."""
        timelines = [self._timelines[partition] for partition in self._windows.offsets]
        if self._until_caught_up:
            asks = self._caught_up and not self._asked_at_end
            self._asked_at_end |= asks
            return asks and any(timeline.looks_over(to_the_end=True) for timeline in timelines)
        now_s = self._timer()
        asks = now_s - self._asked_s >= ASK_INTERVAL_S and any(timeline.looks_over() for timeline in timelines)
        self._asked_s = now_s if asks else self._asked_s
        return asks

    def _closed(self, partition: int, progress: IngestProgress) -> Iterator[Happening]:
        timeline, offset = self._timelines[partition], self._windows.offsets[partition]
        closed = timeline.close(progress, offset)
        if not closed:
            return
        rejected = self._rejected(closed, timeline.append_ms)
        hold = timeline.hold()
        commit = Commit(offset if hold is None else hold, self._rejections.metadata(timeline.untold_ms()))
        place = Place(WINDOWS, partition, commit, self._windows.generations[partition])
        for one, its_rejected in zip(closed, rejected, strict=True):
            yield Happening(place, interval=one, rejected=its_rejected)

    def _rejected(self, closed: list[ClosedInterval], until_ms: int) -> list[Rejected]:
        """Count what was rejected while the windows of each interval were appended."""
        self._rejections.advance(until_ms)
        return [Rejected(self._rejections.counts(*one.appended_ms), *one.appended_ms) for one in closed]

    def _forget_rejections(self) -> None:
        """Let go of the rejections that every partition has told of."""
        untold = [self._timelines[partition].untold_ms() for partition in self._windows.offsets]
        self._rejections.forget(min((ms for ms in untold if ms is not None), default=0))

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
        if report is not None:
            self._under_way[report.report_id] = happening.place
        return [Finding(happening.place, report, happening.interval.closing if happening.interval else None)]

    def _is_reported(self, report_id: str) -> bool:
        """Whether the report is there, or on its way in this batch, to be committed if its partition stays here."""
        place = self._under_way.get(report_id)
        return report_id in self._known or (place is not None and self._current(place))

    def _interval_report(self, closed: ClosedInterval, rejected: Rejected | None) -> Report | None:
        current = closed.current
        report_id = interval_id(closed.spec.task, current.start_ms)
        if self._is_reported(report_id):
            return None
        facts = interval_facts(closed.spec, current, closed.previous, rejected, closed.unreported)
        series = interval_series(closed.spec, current, closed.previous)
        return unworded(report_id, (current.start_ms, current.end_ms), None, facts, series)

    def _version_report(self, serving: ServingPolicy) -> Report | None:
        task, report_id = serving.task, version_id(serving.task, serving.version)
        spec = self._spec(task)
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
        facts = version_facts(spec, version, evidence, parent)
        series = version_series(spec, [*earlier, version], evidence)
        return unworded(report_id, (serving.ts, serving.ts), version.version, facts, series)

    def narrate(self, finding: Finding) -> list[Finding]:
        """Find words for the facts: the narrator has two tries to be grounded, then the template speaks.

        Should it not be grounded either, which is a fault of headrace's own, the report goes out with its facts alone.
        """
        if finding.report is None:
            return [finding]
        narrative = self._words(finding.report.facts)
        return [replace(finding, report=msgspec.structs.replace(finding.report, narrative=narrative))]

    def _words(self, facts: Facts) -> Narrative:
        for narrator in (self._narrator, self._narrator, TemplateNarrator()):
            try:
                narrative = narrator.tell(facts)
                check(narrative, facts)
            except Exception as error:  # noqa: BLE001 whatever a model does must not keep a report back
                self.refusals += 1
                logger.warning("narrator of %s %s: %s", facts.task, facts.subject, error)
            else:
                self.fallbacks += narrator is not self._narrator
                return narrative
        self.fallbacks += 1
        logger.error("%s %s: not even the template is grounded; reported without words", facts.task, facts.subject)
        return BARE

    def commit(self, findings: list[Finding]) -> list[Finding]:
        """Append the reports and move the offsets that they follow from, all or nothing, topic by topic."""
        for member in (self._policies, self._windows):
            done = [f for f in findings if f.place.topic == member.topic and self._current(f.place)]
            if done:
                self._commit(member, done)
        self._under_way.clear()
        return findings

    def _commit(self, member: Member, findings: list[Finding]) -> None:
        commits = {finding.place.partition: finding.place.commit for finding in findings}
        new = self._new(findings)
        try:
            member.commit(commits, [*new.values()])
        except CommitConflictError:
            return
        for report_id in new:
            self._known.add(report_id)
        self.reports += len(new)

    def _new(self, findings: list[Finding]) -> dict[str, Record]:
        """Return, by id, the reports that are not on the log."""
        return {
            finding.report.report_id: self._record(finding.report, finding.closing)
            for finding in findings
            if finding.report is not None and finding.report.report_id not in self._known
        }

    def _current(self, place: Place) -> bool:
        """Whether the partition is still assigned as it was when the item was read."""
        member = self._policies if place.topic == POLICIES else self._windows
        return member.has(place.partition, place.generation)

    def _record(self, report: Report, closing: Closing | None) -> Record:
        """Return a report's record, on its task's partition."""
        place = partition_of(report.task.encode(), self._partitions)
        return Record(REPORTS, report.report_id.encode(), msgspec.json.encode(report), closing_headers(closing), place)


def run_until_caught_up(explainer: Explainer) -> int:
    """Report on everything up to the log's present end; returns how many reports were made. May be called again."""
    before = explainer.reports
    explainer.catch_up()
    run(dataflow(explainer), explainer.stop)
    return explainer.reports - before
