"""A user's own data onto the log: lines of JSON as they are, or packed into Arrow messages.

Bytes that can't be read are sent too: what is wrong with them is for ingest to say, in the quarantine.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Final, TypeVar

import msgspec
import numpy as np

from headrace.pipelines.runtime.heartbeat import close_ms, heartbeats
from headrace.pipelines.runtime.retry import retried
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import TRANSITIONS
from headrace.schemas import codec, codec_arrow
from headrace.schemas.errors import SettingsError
from headrace.schemas.ports import Clock, Log, MessageBatch, Record
from headrace.schemas.records import Layout, TaskSpec
from headrace.schemas.transition import TransitionBatch, concat

BLOCK_LINES: Final = 2_000
BLOCK_BYTES: Final = 4 << 20
MAX_LINE_BYTES: Final = 64 << 20
MAX_PENDING_ROWS: Final = 1 << 18
"""Rows that wait until their agent's message is full; above it all are sent as they stand."""
AGENT_ID: Final = "headrace-produce"
"""Who sends the closing heartbeats."""
SECONDS_MS: Final = 100_000_000_000
"""Event times below it are seconds, one may think: as milliseconds they lie before March 1973."""
YEAR_MS: Final = 31_556_952_000

_FOREIGN: Final = {
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x1f\x8b": "compressed by gzip (try `zcat FILE | headrace produce -`)",
    b"(\xb5/\xfd": "compressed by zstd (try `zstdcat FILE | headrace produce -`)",
}


Content = TypeVar("Content")


class _Agent(msgspec.Struct):
    agent_id: str


class _Row(msgspec.Struct):
    task: str
    ts: int


_agents: Callable[[bytes], _Agent | list[_Agent]] = msgspec.json.Decoder(_Agent | list[_Agent]).decode
_rows: Callable[[bytes], _Row | list[_Row]] = msgspec.json.Decoder(_Row | list[_Row]).decode


@dataclass(slots=True)
class Produced:
    """What was sent: lines read, messages appended, and among them heartbeats; windows left open, in words.

    doubtful: lines that ingest will reject, as far as can be seen here; doubt: what is wrong with the first of them.
    warnings: what else looks wrong in the first lines, in words.
    """

    lines: int = 0
    messages: int = 0
    heartbeats: int = 0
    doubtful: int = 0
    doubt: str = ""
    open_windows: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def key_of(line: bytes) -> bytes | None:
    """Return the line's agent_id where it can be read; of an array's, the first one's."""
    with suppress(UnicodeError):
        for agent in _readable(line, _agents):
            return agent.agent_id.encode()
    return None


def blocks(source: BinaryIO, name: str) -> Iterator[tuple[list[bytes], int]]:
    """Yield lines without their ends, some thousand at a time, empty ones left out; and the bytes read.

    A heartbeat is the last line of its block. Raises SettingsError for a line above MAX_LINE_BYTES, or a file
    that is evidently no text.
    """
    lines: list[bytes] = []
    size = number = 0
    while line := source.readline(MAX_LINE_BYTES + 1):
        number += 1
        _refuse_foreign(line, number, name)
        size += len(line)
        text = re.sub(rb"\r?\n\Z", b"", line)
        if text.strip():
            lines.append(text)
        if len(lines) >= BLOCK_LINES or size >= BLOCK_BYTES or b'"heartbeat"' in text:
            yield lines, size
            lines, size = [], 0
    if size:
        yield lines, size


def _refuse_foreign(line: bytes, number: int, name: str) -> None:
    if len(line) > MAX_LINE_BYTES:
        raise SettingsError(f"{name}: line {number} has more than {MAX_LINE_BYTES} bytes: one transition a line")
    found = next((what for magic, what in _FOREIGN.items() if number == 1 and line.startswith(magic)), None)
    if found:
        raise SettingsError(f"{name} is {found}: give lines of JSON, one transition each")


class Producer:
    """Sends blocks of lines; with `pack` rows a message, or as they are.

    layout: needed where lines must be understood, for `pack` and `close`.
    """

    def __init__(
        self, log: Log, clock: Clock, layout: Layout | None = None, *, pack: int = 0, watch: bool = False
    ) -> None:
        assert layout or not (pack or watch)
        self.produced = Produced()
        self._log = retried(log, Stop())
        self._clock = clock
        self._layout = layout or Layout(log="")
        self._pack = pack
        self._watch = watch
        self._tasks = TaskTable(log, self._layout)
        self._tasks.refresh()
        self._pending: dict[tuple[str, str], TransitionBatch] = {}
        self._last_ms: dict[str, int] = {}
        log.topic(TRANSITIONS)

    def send(self, lines: Sequence[bytes]) -> None:
        """Send a block of lines."""
        if not lines:
            return
        if not self.produced.lines:
            self.produced.warnings += self._warnings(lines)
        self.produced.lines += len(lines)
        plain = [Record(TRANSITIONS, key_of(line), line) for line in lines]
        if not self._pack and not self._watch:
            self._doubt(["its agent_id can't be read" for record in plain if record.key is None])
            self._append(plain)
            return
        checked = codec.check(self._messages(lines), self._tasks, self._layout)
        self._doubt([rejection.reason for rejection in checked.rejected])
        for batch in checked.batches:
            self._last_ms[batch.task] = max(self._last_ms.get(batch.task, 0), int(batch.ts.max()))
        packed = np.zeros(len(lines), np.bool_)
        for batch in checked.batches if self._pack else ():
            packed[batch.offset] = True
            self._append(list(self._packed(batch)))
        others = [record for record, done in zip(plain, packed.tolist(), strict=True) if not done]
        if others and (checked.stream_ts[~packed] >= 0).any():
            self.flush()  # a heartbeat comes after the rows before it
        self._append(others)

    def _warnings(self, lines: Sequence[bytes]) -> list[str]:
        """Say which tasks are not known, and whether times look like seconds."""
        rows = [row for line in lines for row in _readable(line, _rows)]
        unknown = sorted({row.task for row in rows} - self._tasks.specs.keys())
        told = [
            f"task {name[:80]!r} is not known: what is sent before `headrace task add` will be rejected (after it: "
            "headrace run ingest, headrace rejected replay)"
            for name in unknown[:3]
        ]
        seconds = next((row.ts for row in rows if 0 < row.ts < SECONDS_MS), None)
        if seconds is not None:
            year = 1970 + seconds // YEAR_MS
            told.append(f"ts {seconds} looks like seconds; milliseconds are expected, as which it lies in {year}")
        return told

    def _doubt(self, reasons: Sequence[str]) -> None:
        self.produced.doubtful += len(reasons)
        self.produced.doubt = self.produced.doubt or next(iter(reasons), "")

    def _messages(self, lines: Sequence[bytes]) -> MessageBatch:
        """Return the lines as if they lay on the log already, at the offsets 0 to N - 1."""
        count = len(lines)
        return MessageBatch(
            topic=TRANSITIONS,
            partition=0,
            offsets=np.arange(count, dtype=np.int64),
            append_ts=np.full(count, self._clock(), np.int64),
            keys=[None] * count,
            values=list(lines),
            headers=[()] * count,
        )

    def _packed(self, batch: TransitionBatch) -> Iterator[Record]:
        """Add rows to their agents' pending ones, and yield the messages that are full."""
        spec = self._tasks.specs[batch.task]
        for code in np.unique(batch.agent).tolist():
            key = (batch.task, batch.agents[code])
            rows = batch.take(batch.agent == code)
            waiting = self._pending.pop(key, None)
            rows = concat([waiting, rows]) if waiting is not None else rows
            full = len(rows) // self._pack * self._pack
            for start in range(0, full, self._pack):
                yield from self._encoded(rows.slice(start, start + self._pack), key[1], spec)
            if full < len(rows):
                self._pending[key] = rows.slice(full, len(rows))
        if sum(map(len, self._pending.values())) > MAX_PENDING_ROWS:
            yield from self._rest()

    def _encoded(self, rows: TransitionBatch, agent_id: str, spec: TaskSpec) -> Iterator[Record]:
        """Write rows as one message, or as two where one would be above the size that is accepted."""
        value = codec_arrow.encode(rows, spec)
        if len(value) > self._layout.max_message_bytes and len(rows) > 1:
            half = len(rows) // 2
            yield from self._encoded(rows.slice(0, half), agent_id, spec)
            yield from self._encoded(rows.slice(half, len(rows)), agent_id, spec)
        else:
            yield Record(TRANSITIONS, agent_id.encode(), value, codec.ARROW_HEADERS)

    def _rest(self) -> Iterator[Record]:
        for (task, agent_id), rows in self._pending.items():
            yield from self._encoded(rows, agent_id, self._tasks.specs[task])
        self._pending.clear()

    def flush(self) -> None:
        """Send the rows that wait."""
        self._append(list(self._rest()))

    def close_windows(self) -> None:
        """Send, for each task seen, a heartbeat to each partition that closes its last window, if time allows."""
        now_ms = self._clock()
        records: list[Record] = []
        for task, last_ms in self._last_ms.items():
            window_ms = self._tasks.specs[task].window_ms
            closes_ms = close_ms(last_ms, window_ms, self._layout.grace_ms)
            ts = min(closes_ms, now_ms + self._layout.max_clock_skew_ms)
            records += heartbeats(self._log, task, AGENT_ID, ts)
            if closes_ms > now_ms:
                start_ms = last_ms - last_ms % window_ms
                self.produced.open_windows.append(_left_open(task, start_ms, closes_ms, now_ms, self._layout))
        self.produced.heartbeats += len(records)
        self._append(records)

    def _append(self, records: Sequence[Record]) -> None:
        self._log.send(records)
        self.produced.messages += len(records)


def _readable(line: bytes, decode: Callable[[bytes], Content | list[Content]]) -> list[Content]:
    """Return what a line holds; what can't be read is for ingest to say."""
    try:
        found = decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return []
    return found if isinstance(found, list) else [found]


def _left_open(task: str, start_ms: int, closes_ms: int, now_ms: int, layout: Layout) -> str:
    """Say why a window can't be closed yet: stream time is the lesser of event time and the log's own."""
    return (
        f"{task}: windows from {start_ms} on may stay open: the last one closes at {closes_ms} (its end and "
        f"{layout.grace_ms} ms grace), {closes_ms - now_ms} ms ahead of the log's clock. What is sent after "
        "that time closes them"
    )


def produce(
    source: BinaryIO, name: str, producer: Producer, *, close: bool, advance: Callable[[int], None] = lambda _: None
) -> Produced:
    """Send a file's lines, then what waits, then the closing heartbeats; advance: is told of bytes read."""
    for lines, size in blocks(source, name):
        producer.send(lines)
        advance(size)
    producer.flush()
    if close:
        producer.close_windows()
    return producer.produced
