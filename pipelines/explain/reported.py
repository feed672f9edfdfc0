"""What is reported already, how far `ingest` is, which messages were rejected when: what `explain` looks up."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator

import msgspec
from typing_extensions import override

from headrace.learners.explain.operations import Ran, Runs, operations_facts, proposal_facts, ran_within, serving_facts
from headrace.learners.explain.timeline import Closing, IngestPosition, IngestProgress
from headrace.pipelines.explain.appended import Appended
from headrace.pipelines.topics import (
    DIRECTIVES,
    INGEST,
    OPERATIONS,
    POLICIES,
    REJECTED,
    REPORTS,
    TRANSITIONS,
    WINDOWS,
    IngestCommit,
    TopicReader,
    decoded,
    header,
)
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import Commit, Log, MessageBatch, Record
from headrace.schemas.records import Directive, Fact, Operation, Report, ServingPolicy

_CLOSING = "closing"
_RULE = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


def version_id(task: str, version: int) -> str:
    """Return the id of a version's report."""
    return f"{_short(task)}.version.{version}"


def interval_id(task: str, start_ms: int) -> str:
    """Return the id of an interval's report."""
    return f"{_short(task)}.interval.{start_ms}"


def _short(task: str) -> str:
    """Return a task's part of an id, which has room for 64 characters in all."""
    return task if len(task) <= 40 else f"{task[:31]}-{hashlib.sha256(task.encode()).hexdigest()[:8]}"


def ingest_progress(log: Log, grace_ms: int) -> IngestProgress:
    """Ask how far ingest has come. The order matters: what a commit says is emitted lies on `windows` afterwards."""
    commits = log.committed(INGEST, TRANSITIONS)
    partitions = range(log.topic(TRANSITIONS).partitions)
    places = tuple(_ingest_place(commits.get(p), *log.bounds(TRANSITIONS, p)) for p in partitions)
    ends = {p: log.bounds(WINDOWS, p)[1] for p in range(log.topic(WINDOWS).partitions)}
    return IngestProgress(places, ends, grace_ms)


def _ingest_place(commit: Commit | None, begin: int, end: int) -> IngestPosition:
    if commit is None:
        return IngestPosition(-1, lags=begin < end)
    return IngestPosition(IngestCommit.of(commit).stream_ms, lags=commit.offset < end)


class KnownReports:
    """The reports on the log, of whichever process: versions by id, intervals by task, and where each closed."""

    def __init__(self, log: Log) -> None:
        self._reader = TopicReader(log, REPORTS)
        self._partitions = log.topic(REPORTS).partitions
        self._versions = set[str]()
        self._latest_ms: dict[str, int] = {}
        self._closings: dict[str, Closing] = {}

    def refresh(self) -> None:
        """Read on to the log's present end: needed whenever a partition is taken over from another process."""
        for batch in self._reader.batches():
            for key, headers in zip(batch.keys, batch.headers, strict=True):
                report_id = (key or b"").decode("utf-8", "replace")
                self.add(report_id)
                self._note_closing(report_id, header(headers, _CLOSING))

    def add(self, report_id: str) -> None:
        """Remember a report that is on the log."""
        task, start_ms = _interval_of(report_id)
        if start_ms is None:
            self._versions.add(report_id)
        else:
            self._latest_ms[task] = max(start_ms, self._latest_ms.get(task, start_ms))

    def _note_closing(self, report_id: str, text: str | None) -> None:
        if text is not None and re.fullmatch(r"[0-9]{1,18},[0-9]{1,18}", text):
            offset, append_ms = map(int, text.split(","))
            self._closings.setdefault(report_id, Closing(offset, append_ms))

    def closing(self, task: str, start_ms: int) -> Closing | None:
        """Return where the interval was closed, if its report was there at the last refresh and says so."""
        return self._closings.get(interval_id(task, start_ms))

    def record(self, report: Report, closing: Closing | None) -> Record:
        """Return a report's record, on its task's partition; of an interval's, headers say where it was closed."""
        headers = () if closing is None else ((_CLOSING, f"{closing.offset},{closing.append_ms}".encode()),)
        partition = partition_of(report.task.encode(), self._partitions)
        return Record(REPORTS, report.report_id.encode(), msgspec.json.encode(report), headers, partition)

    def __contains__(self, report_id: str) -> bool:
        """Whether the report is there, or, for an interval's, one of a later interval of its task."""
        task, start_ms = _interval_of(report_id)
        if start_ms is None:
            return report_id in self._versions
        latest = self._latest_ms.get(task)
        return latest is not None and start_ms <= latest


def _interval_of(report_id: str) -> tuple[str, int | None]:
    """Return an id's part for the task and, for an interval's report, the interval's start."""
    task, kind, number = (*report_id.rsplit(".", 2), "", "")[:3]
    return task, int(number) if kind == "interval" and re.fullmatch(r"-?[0-9]{1,18}", number) else None


class Rejections(Appended[str]):
    """Rejected messages by rule and by append time: their event time cannot be trusted.

    Of a message only the rule's name is looked at, which is headrace's own; nothing that a producer wrote.
    """

    def __init__(self, log: Log) -> None:
        super().__init__(log, REJECTED, _rules)
        self._begin: dict[int, int] | None = None  # of what is held; a partition that it lacks: from the log's begin

    def hold(self, metadata: str) -> None:
        """Begin where a commit says, or before; without one at the log's begin."""
        offsets = {int(p): offset for p, offset in json.loads(metadata)["rejected"].items()} if metadata else {}
        held = offsets if self._begin is None else self._begin
        earliest = {p: min(offsets.get(p, 0), held.get(p, 0)) for p in {*offsets, *held}}
        if earliest != self._begin:
            self._begin = earliest
            self.begin(earliest)

    @override
    def forget(self, until_ms: int) -> Counter[str]:
        begin, found = self.offsets(until_ms), super().forget(until_ms)
        self._begin = begin if found else self._begin
        return found

    def metadata(self, after_ms: int | None) -> str:
        """Return, for a commit, the offsets from which everything after the append time can be counted again."""
        return json.dumps({"rejected": self.offsets(after_ms)}, sort_keys=True, separators=(",", ":"))


def _rules(batch: MessageBatch) -> Iterator[str]:
    for headers in batch.headers:
        rule = header(headers, "rule") or ""
        yield rule if _RULE.fullmatch(rule) else "unnamed"


class Operations:
    """What the jobs said of themselves, what came to serve each task and what was proposed, by append time.

    How an interval began is known from all that came before: so the topics are read from their begins.
    """

    def __init__(self, log: Log) -> None:
        self._said = Appended(log, OPERATIONS, lambda batch: decoded(batch, Operation))
        self._served = Appended(log, POLICIES, lambda batch: decoded(batch, ServingPolicy))
        self._proposed = Appended(log, DIRECTIVES, _proposals)
        self._runs, self._before = Runs(), dict[str, int]()

    def begin(self) -> None:
        """Read all again: an interval that comes now may begin before what was forgotten."""
        self._runs, self._before = Runs(), {}
        self._said.begin({})
        self._served.begin({})
        self._proposed.begin({})

    def advance(self, until_ms: int) -> None:
        """Read until the append time, or to the log's present end."""
        self._said.advance(until_ms)
        self._served.advance(until_ms)
        self._proposed.advance(until_ms)

    def facts(self, task: str, after_ms: int, until_ms: int) -> tuple[Fact, ...]:
        """Return what is to be told of the time after one append time and until another."""
        ran = ran_within(self._runs, self._said.counts(-1, after_ms), self._said.counts(after_ms, until_ms))
        earlier, within = (
            [one.version for one in served if one.task == task]
            for served in (self._served.counts(-1, after_ms), self._served.counts(after_ms, until_ms))
        )
        before = earlier[-1] if earlier else self._before.get(task, 0)
        return (
            *serving_facts([before, *within]),
            *proposal_facts(self._proposed.counts(after_ms, until_ms)[task]),
            *operations_facts(ran, after_ms, until_ms),
        )

    def forget(self, until_ms: int) -> None:
        """Let go of what came until the append time, but for how all stood then."""
        for record in self._said.forget(until_ms):
            self._runs.take(record, Ran())
        self._before |= {one.task: one.version for one in self._served.forget(until_ms)}
        self._proposed.forget(until_ms)


def _proposals(batch: MessageBatch) -> Iterator[str | None]:
    """Yield the task of each directive that was proposed and not made, None for any other."""
    for one in decoded(batch, Directive):
        yield one.task if one and one.verdict == "proposed" else None
