"""A user's own data onto the log: lines of JSON as they are, or packed into Arrow messages.

Each line is judged first by the very rules of ingest. What it will reject is sent too, into the quarantine, as long as
there is a transition among the lines.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import msgspec
import numpy as np

from headrace.pipelines.produce.faults import Faults, layout_hint
from headrace.pipelines.produce.lines import Block, blocks
from headrace.pipelines.runtime.heartbeat import close_ms, heartbeats
from headrace.pipelines.runtime.retry import retried
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import TRANSITIONS
from headrace.schemas import codec, codec_arrow
from headrace.schemas.checker import Checked, Task
from headrace.schemas.errors import RejectedDataError
from headrace.schemas.ports import Clock, Headers, Log, MessageBatch, Record
from headrace.schemas.records import Layout, TaskSpec
from headrace.schemas.transition import TransitionBatch, concat

HELD_LINES: Final = 2_000
HELD_BYTES: Final = 64 << 20
"""Of lines that are held back until one of them is a transition; where none is, nothing is sent."""
MAX_PENDING_ROWS: Final = 1 << 18
"""Rows that wait until their agent's message is full; above it all are sent as they stand."""
AGENT_ID: Final = "headrace-produce"
"""Who sends the closing heartbeats."""
OPTIONAL_RULES: Final = frozenset({"log_prob", "log_prob_finite", "reward_terms_finite"})
"""Rules of optional values: a line that breaks one of them alone is a transition all the same, for the quarantine."""


class _Agent(msgspec.Struct):
    agent_id: str


_agents: Callable[[bytes], _Agent | list[_Agent]] = msgspec.json.Decoder(_Agent | list[_Agent]).decode


@dataclass(slots=True)
class Produced:
    """What was sent: lines read, messages appended, and among them heartbeats; windows left open, in words.

    rejected: what ingest will reject, by rule.
    """

    lines: int = 0
    messages: int = 0
    heartbeats: int = 0
    rejected: Faults = field(default_factory=Faults)
    open_windows: list[str] = field(default_factory=list)


def key_of(line: bytes) -> bytes | None:
    """Return the line's agent_id where it can be read; of an array's, the first one's."""
    with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
        found = _agents(line)
        agents = found if isinstance(found, list) else [found]
        return agents[0].agent_id.encode() if agents else None
    return None


def as_appended(
    values: Sequence[bytes], tasks: Mapping[str, Task], clock: Clock, headers: Sequence[Headers] = ()
) -> MessageBatch:
    """Return messages as if they lay on the log already, at the offsets 0 to N - 1. headers: without them, none."""
    count = len(values)
    # The log's clock may be behind or ahead of this one's: a task that is there was added before.
    now_ms = max([clock(), *(task.added_ms for task in [*tasks.values()])])
    return MessageBatch(
        topic=TRANSITIONS,
        partition=0,
        offsets=np.arange(count, dtype=np.int64),
        append_ts=np.full(count, now_ms, np.int64),
        keys=[None] * count,
        values=list(values),
        headers=list(headers) or [()] * count,
    )


class Producer:
    """Judges blocks of lines and sends them; with `pack` rows a message, or as they are.

    check: send nothing. anyway: send also where no line is a transition.
    """

    def __init__(
        self, log: Log, clock: Clock, layout: Layout, *, pack: int = 0, check: bool = False, anyway: bool = False
    ) -> None:
        self.produced = Produced()
        self._log = retried(log, Stop())
        self._clock = clock
        self._layout = layout
        self._pack = pack
        self._check = check
        self._tasks = TaskTable(log, layout)
        self._tasks.refresh()
        self._pending: dict[tuple[str, str], TransitionBatch] = {}
        self._last_ms: dict[str, int] = {}
        self._held: list[tuple[Block, Checked]] | None = None if check or anyway else []
        log.topic(TRANSITIONS)

    def send(self, block: Block) -> None:
        """Judge a block of lines and send it, or hold it back. Raises RejectedDataError where none is a transition."""
        if not block.lines:
            return
        checked = self._judged(block.lines)
        self.produced.lines += len(block.lines)
        self.produced.rejected.note(checked.rejected, block.numbers)
        if self._check:
            return
        if self._held is None:
            self._send(block, checked)
            return
        self._held.append((block, checked))
        if (checked.stream_ts >= 0).any() or not OPTIONAL_RULES.isdisjoint(self.produced.rejected):
            self._release()
        elif self.produced.lines >= HELD_LINES or sum(held.size for held, _ in self._held) >= HELD_BYTES:
            raise self._refusal()

    def _release(self) -> None:
        held, self._held = self._held or [], None
        for block, checked in held:
            self._send(block, checked)

    def _refusal(self) -> RejectedDataError:
        """Say why nothing was sent."""
        rejected, held = self.produced.rejected, self._held or []
        told = "\n".join(f"  {text}" for text in rejected.told())
        unreadable = "syntax" in rejected and rejected.keys() <= {"syntax", "type"}
        hint = f"; {layout_hint(held[0][0].lines[0])}" if unreadable else ""
        return RejectedDataError(
            f"nothing was sent: each of the {self.produced.lines} lines read would be rejected (--anyway sends them "
            f"to the quarantine){hint}\n{told}"
        )

    def _judged(self, lines: Sequence[bytes]) -> Checked:
        """Decode and validate lines as ingest will, by the tasks that are there by now."""
        messages = as_appended(lines, self._tasks, self._clock)
        checked = codec.check(messages, self._tasks, self._layout)
        if checked.unknown and self._tasks.refresh():
            checked = codec.check(as_appended(lines, self._tasks, self._clock), self._tasks, self._layout)
        for batch in checked.batches:
            self._last_ms[batch.task] = max(self._last_ms.get(batch.task, 0), int(batch.ts.max()))
        return checked

    def _send(self, block: Block, checked: Checked) -> None:
        packed = np.zeros(len(block.lines), np.bool_)
        for batch in checked.batches if self._pack else ():
            packed[batch.offset] = True
            self._append(list(self._packed(batch)))
        unpacked = (line for line, done in zip(block.lines, packed.tolist(), strict=True) if not done)
        others = [Record(TRANSITIONS, key_of(line), line) for line in unpacked]
        if others and (checked.stream_ts[~packed] >= 0).any():
            self._append(list(self._rest()))  # a heartbeat comes after the rows before it
        self._append(others)

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
        """Send the rows that wait. Raises RejectedDataError where lines were read and none was a transition."""
        if self._held:
            raise self._refusal()
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
    """Send a file's lines, then what waits, then the closing heartbeats; advance: is told of bytes read.

    Raises SettingsError for a file that is no text, RejectedDataError where no line is a transition.
    """
    for block in blocks(source, name):
        producer.send(block)
        advance(block.size)
    producer.flush()
    if close:
        producer.close_windows()
    return producer.produced
