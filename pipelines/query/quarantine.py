"""The quarantine: what was rejected, why, and by whom it was sent; the newest first."""

import heapq
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import msgspec

from headrace.pipelines.topics import KEPT_BYTES, READ_MESSAGES, REJECTED, header, partition_messages
from headrace.schemas import codec_arrow
from headrace.schemas.checker import BadMessageError
from headrace.schemas.errors import UnknownRecordError
from headrace.schemas.ports import Log, MessageBatch

PREVIEW_CHARACTERS: Final = 120
MOST_SUMMARIES: Final = 10_000
"""More (rule, task, producer) are counted under the producer OTHERS: a key may be anything."""
MOST_ROWS: Final = 8_192
"""Of a message that is shown."""
OTHERS: Final = "(others)"

_TASK: Final = re.compile(rb'"task"\s*:\s*"([^"\\]{1,64})"')
_AGENT: Final = re.compile(rb'"agent_id"\s*:\s*"([^"\\]{1,64})"')


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """A message of the quarantine.

    topic, partition, offset: where it was rejected. ts: when. kept: the bytes kept of it.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    rule: str
    reason: str
    kept: bytes | None
    content_type: str | None
    replayed: str | None
    ts: int

    @property
    def place(self) -> str:
        """Where it was rejected, as it is typed."""
        return f"{self.partition}:{self.offset}"

    @property
    def cut(self) -> bool:
        """Whether more of it may lie at its source."""
        return self.kept is not None and len(self.kept) == KEPT_BYTES


@dataclass(slots=True)
class Rejections:
    """What one producer had rejected by one rule. first_ts, last_ts: when. example: the newest one's place."""

    messages: int
    rule: str
    task: str
    producer: str
    first_ts: int
    last_ts: int
    example: str
    reason: str


def rejected(
    log: Log, rules: Sequence[str] = (), start_ms: int | None = None, end_ms: int | None = None
) -> Iterator[RejectedMessage]:
    """Stream the quarantine, the newest first.

    rules: only these, or all. start_ms, end_ms: only what was rejected in start_ms <= time < end_ms.
    """
    partitions = range(log.topic(REJECTED).partitions)
    for message in heapq.merge(*(_backwards(log, partition) for partition in partitions), key=lambda one: -one.ts):
        in_time = (start_ms is None or message.ts >= start_ms) and (end_ms is None or message.ts < end_ms)
        if in_time and (not rules or message.rule in rules):
            yield message


def _backwards(log: Log, partition: int) -> Iterator[RejectedMessage]:
    begin, end = log.bounds(REJECTED, partition)
    while end > begin:
        start = max(begin, end - READ_MESSAGES)
        for batch in reversed([*partition_messages(log, REJECTED, partition, start, end)]):
            yield from (rejected_message(batch, i) for i in reversed(range(len(batch))))
        end = start


def summary(found: Iterable[RejectedMessage]) -> list[Rejections]:
    """Count by rule, task and producer, the most messages first; found: the newest first."""
    counted: dict[tuple[str, str, str], Rejections] = {}
    for message in found:
        task, producer = origin(message)
        key = (message.rule, task, producer)
        if key not in counted and len(counted) >= MOST_SUMMARIES:
            key = (message.rule, task, OTHERS)
        known = counted.get(key)
        if known is None:
            counted[key] = Rejections(1, *key, message.ts, message.ts, message.place, message.reason)
        else:
            known.messages += 1
            known.first_ts = min(known.first_ts, message.ts)
    return sorted(counted.values(), key=lambda one: (-one.messages, one.rule, one.task, one.producer))


def origin(message: RejectedMessage) -> tuple[str, str]:
    """Return what a message says of its task and its producer (its agent, else its key), "" where it says nothing.

    A message may be cut, or no JSON at all; so its text is searched.
    """
    kept = message.kept or b""
    if message.content_type == codec_arrow.CONTENT_TYPE:
        rows = _arrow_rows(kept, 1)
        first = rows[0] if rows else {}
        task, agent = str(first.get("task") or ""), str(first.get("agent_id") or "")
    else:
        task, agent = (found[1].decode("utf-8", "replace") if found else "" for found in _named(kept))
    return safe_text(task.encode()) or "", safe_text(agent.encode() or message.key) or ""


def _named(kept: bytes) -> Iterator[re.Match[bytes] | None]:
    return (pattern.search(kept) for pattern in (_TASK, _AGENT))


def _arrow_rows(value: bytes, most: int = MOST_ROWS) -> list[dict[str, Any]]:
    """Return an Arrow message's rows, of each of its batches so many; [] where it can't be read."""
    try:
        batches = codec_arrow.read(value, MOST_ROWS).batches
    except BadMessageError:
        return []
    return [*chain.from_iterable(batch.slice(0, most).to_pylist() for batch in batches)]


def find(found: Iterable[RejectedMessage], partition: int, offset: int) -> RejectedMessage:
    """Return the newest rejection of the message at a place; raises UnknownRecordError. found: the newest first."""
    for message in found:
        if (message.partition, message.offset) == (partition, offset):
            return message
    told = f"no message {partition}:{offset} was rejected: `headrace rejected list` shows those that were"
    raise UnknownRecordError(told)


def whole(log: Log, message: RejectedMessage) -> dict[str, Any]:
    """Return all that there is to know of a message. value: its rows or its JSON where it is such, else its text."""
    value, complete = original(log, message)
    task, producer = origin(message)
    return {
        "place": message.place,
        "topic": message.topic,
        "rejected_ms": message.ts,
        "key": safe_text(message.key, 200),
        "task": task,
        "producer": producer,
        "rule": message.rule,
        "reason": message.reason,
        "content_type": message.content_type,
        "replay_of": message.replayed,
        "bytes": len(value or b""),
        "complete": complete,
        "value": _readable(value, message.content_type),
    }


def _readable(value: bytes | None, content_type: str | None) -> Any:  # noqa: ANN401 whatever JSON may be
    if value is None:
        return None
    read: Callable[[bytes], Any] = _arrow_rows if content_type == codec_arrow.CONTENT_TYPE else msgspec.json.decode
    try:
        return read(value) or safe_text(value, 4 * len(value))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return safe_text(value, 4 * len(value))


def rejected_message(batch: MessageBatch, i: int) -> RejectedMessage:
    """Return a message of the topic `transitions.rejected`, by its place in a batch."""
    headers = batch.headers[i]
    return RejectedMessage(
        topic=header(headers, "topic") or "",
        partition=_number(header(headers, "partition")),
        offset=_number(header(headers, "offset")),
        key=batch.keys[i],
        rule=header(headers, "rule") or "",
        reason=header(headers, "reason") or "",
        kept=batch.values[i],
        content_type=header(headers, "content-type"),
        replayed=header(headers, "replayed"),
        ts=int(batch.append_ts[i]),
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else -1


def original(log: Log, message: RejectedMessage) -> tuple[bytes | None, bool]:
    """Return the message's whole value; False where it was cut and the log holds it no longer."""
    if not message.cut:
        return message.kept, True
    source = log.read(message.topic, message.partition, message.offset, 1)
    if not len(source) or int(source.offsets[0]) != message.offset:
        return message.kept, False
    return source.values[0], True


def safe_text(data: bytes | None, limit: int = PREVIEW_CHARACTERS) -> str | None:
    """Return bytes as text that a terminal can be shown: whatever is not printable is escaped."""
    if data is None:
        return None
    text = data[:limit].decode("utf-8", "backslashreplace")[:limit]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
