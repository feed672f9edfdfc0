"""What is reported already, and which messages were rejected when: what `explain` looks up on the log."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace.pipelines.topics import REJECTED, REPORTS, messages
from headrace.schemas.errors import UnknownTopicError
from headrace.schemas.ports import Log, MessageBatch

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


class KnownReports:
    """The reports that are there: ids, and the last interval of each task."""

    def __init__(self, log: Log) -> None:
        self._ids = set[str]()
        self._latest_ms: dict[str, int] = {}
        for batch in messages(log, REPORTS):
            for key in batch.keys:
                self._note((key or b"").decode("utf-8", "replace"))

    def _note(self, report_id: str) -> None:
        self._ids.add(report_id)
        task, kind, number = (*report_id.rsplit(".", 2), "", "")[:3]
        if kind == "interval" and number.lstrip("-").isdigit():
            self._latest_ms[task] = max(int(number), self._latest_ms.get(task, int(number)))

    def __contains__(self, report_id: str) -> bool:
        return report_id in self._ids

    def add(self, report_id: str) -> None:
        """Remember a report that is on its way."""
        self._ids.add(report_id)

    def add_interval(self, task: str, start_ms: int) -> bool:
        """Remember an interval's report; False if it, or one of a later interval, is there."""
        latest = self._latest_ms.get(_short(task))
        if latest is not None and start_ms <= latest:
            return False
        self._note(interval_id(task, start_ms))
        return True


@dataclass(slots=True)
class _Bucket:
    """The messages rejected in an interval of append time; first: the first one's offset, by partition."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[int, int] = field(default_factory=dict)


class Rejections:
    """Rejected messages by rule and by interval of append time: their event time cannot be trusted.

    Read outside the group, by every process in full: a member of the group would see its own partitions only. Of a
    message only the rule's name is looked at, which is headrace's own; nothing that a producer wrote.
    """

    def __init__(self, log: Log, interval_ms: int) -> None:
        self._log = log
        self._interval_ms = interval_ms
        self._next: dict[int, int] = {}
        self._buckets: dict[int, _Bucket] = {}

    def hold(self, metadata: str) -> None:
        """Begin where a commit says, or before; without one at the log's begin."""
        offsets = {int(p): offset for p, offset in json.loads(metadata)["rejected"].items()} if metadata else {}
        if self._next and all(self._next.get(p, 0) <= offset for p, offset in offsets.items()) and offsets:
            return
        earlier = {p: min(offset, self._next.get(p, offset)) for p, offset in offsets.items()}
        self._next, self._buckets = earlier, {}

    def advance(self) -> None:
        """Read to the log's present end."""
        try:
            partitions = self._log.topic(REJECTED).partitions
        except UnknownTopicError:
            return
        for partition in range(partitions):
            begin, end = self._log.bounds(REJECTED, partition)
            offset = max(begin, self._next.get(partition, begin))
            while offset < end:
                batch = self._log.read(REJECTED, partition, offset, 500)
                self._count(batch)
                offset = int(batch.offsets[-1]) + 1 if len(batch) else end
            self._next[partition] = offset

    def _count(self, batch: MessageBatch) -> None:
        for headers, offset, ts in zip(batch.headers, batch.offsets.tolist(), batch.append_ts.tolist(), strict=True):
            bucket = self._buckets.setdefault(ts - ts % self._interval_ms, _Bucket())
            rule = dict(headers).get("rule", b"").decode("utf-8", "replace")
            bucket.counts[rule if _RULE.fullmatch(rule) else "unnamed"] += 1
            bucket.first.setdefault(batch.partition, offset)

    def counts(self, start_ms: int) -> Mapping[str, int]:
        """Return how many messages each rule rejected in the interval."""
        bucket = self._buckets.get(start_ms)
        return dict(bucket.counts) if bucket else {}

    def metadata(self, earliest_ms: int | None) -> str:
        """Return, for a commit, the offsets from which everything since `earliest_ms` can be counted again."""
        first = dict(self._next)
        for start_ms, bucket in self._buckets.items():
            if earliest_ms is not None and start_ms >= earliest_ms:
                first.update({p: min(offset, first.get(p, offset)) for p, offset in bucket.first.items()})
        return json.dumps({"rejected": first}, sort_keys=True, separators=(",", ":"))
