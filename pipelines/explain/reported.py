"""What is reported already, how far `ingest` is, which messages were rejected when: what `explain` looks up."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from headrace.learners.explain.timeline import Closing, IngestPosition, IngestProgress
from headrace.pipelines.topics import INGEST, REJECTED, REPORTS, TRANSITIONS, WINDOWS, IngestCommit, TopicReader, header
from headrace.schemas.errors import UnknownTopicError
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import Commit, Log, MessageBatch, Record
from headrace.schemas.records import Report

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


@dataclass(slots=True)
class _Bucket:
    """The messages rejected at one append time; first: the first one's offset, by partition."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[int, int] = field(default_factory=dict)


class Rejections:
    """Rejected messages by rule and by append time: their event time cannot be trusted.

    Read outside the group, by every process in full: a member of the group would see its own partitions only. Of a
    message only the rule's name is looked at, which is headrace's own; nothing that a producer wrote. What is held
    in memory lies between `forget` and `advance`: an interval or two of the log's time.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._begin: dict[int, int] | None = None  # of what is held; a partition that it lacks: from the log's begin
        self._reader = TopicReader(log, REJECTED)
        self._reached_ms: dict[int, int] = {}
        self._buckets: dict[int, _Bucket] = {}

    def hold(self, metadata: str) -> None:
        """Begin where a commit says, or before; without one at the log's begin."""
        offsets = {int(p): offset for p, offset in json.loads(metadata)["rejected"].items()} if metadata else {}
        held = offsets if self._begin is None else self._begin
        earliest = {p: min(offsets.get(p, 0), held.get(p, 0)) for p in {*offsets, *held}}
        if earliest != self._begin:
            self._begin, self._reached_ms, self._buckets = earliest, {}, {}
            self._reader.offsets = dict(earliest)

    def advance(self, until_ms: int) -> None:
        """Read until the append time, or to the log's present end."""
        try:
            partitions = self._log.topic(REJECTED).partitions
        except UnknownTopicError:
            return
        for partition in range(partitions):
            if self._reached_ms.get(partition, until_ms) > until_ms:
                continue
            for batch in self._reader.partition(partition):
                if self._reached_ms.get(partition, until_ms) > until_ms:
                    break
                self._count(batch)

    def _count(self, batch: MessageBatch) -> None:
        for headers, offset, ts in zip(batch.headers, batch.offsets.tolist(), batch.append_ts.tolist(), strict=True):
            bucket = self._buckets.setdefault(ts, _Bucket())
            rule = header(headers, "rule") or ""
            bucket.counts[rule if _RULE.fullmatch(rule) else "unnamed"] += 1
            bucket.first.setdefault(batch.partition, offset)
            self._reached_ms[batch.partition] = ts

    def counts(self, after_ms: int, until_ms: int) -> Mapping[str, int]:
        """Return how many messages each rule rejected after one append time and until another."""
        found = Counter[str]()
        for append_ms, bucket in self._buckets.items():
            if after_ms < append_ms <= until_ms:
                found.update(bucket.counts)
        return found

    def forget(self, until_ms: int) -> None:
        """Let go of what was rejected until the append time."""
        early = [append_ms for append_ms in self._buckets if append_ms <= until_ms]
        if early:
            self._begin = self._offsets(until_ms)
            for append_ms in early:
                del self._buckets[append_ms]

    def metadata(self, after_ms: int | None) -> str:
        """Return, for a commit, the offsets from which everything after the append time can be counted again."""
        return json.dumps({"rejected": self._offsets(after_ms)}, sort_keys=True, separators=(",", ":"))

    def _offsets(self, after_ms: int | None) -> dict[int, int]:
        first = dict(self._reader.offsets)
        for append_ms, bucket in self._buckets.items():
            if after_ms is not None and append_ms > after_ms:
                first.update({p: min(offset, first.get(p, offset)) for p, offset in bucket.first.items()})
        return first
