"""Transitions that arrive over the network: judged as ingest will judge them, then appended to the log.

Each JSON item becomes a message as it stands, each agent's rows of an Arrow stream one Arrow message, under its agent's
key. Where something is wrong nothing is sent, and the sender is told; or, where it wants that, the quarantine is.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipelines.produce.producer import as_appended, key_of
from headrace.pipelines.query.progress import lag_of
from headrace.pipelines.serve.body import UNREADABLE
from headrace.pipelines.serve.problems import RefusedError
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import INGEST, TRANSITIONS
from headrace.schemas import codec, codec_arrow, codec_json
from headrace.schemas.checker import BadMessageError, Checked
from headrace.schemas.errors import RejectedDataError
from headrace.schemas.ports import Clock, Headers, Log, Record
from headrace.schemas.records import Layout

NDJSON: Final = "application/x-ndjson"
MOST_ROWS: Final = 65_536
"""Of an Arrow stream in one request."""
MOST_BEHIND: Final = 1_000_000
"""Messages that may wait for ingest; with more, senders are asked to wait."""
LAG_S: Final = 1.0
"""For so long a lag that was looked at holds."""
RETRY_AFTER_S: Final = 5
MOST_TOLD: Final = 100
"""Faulty items that an answer tells of."""


class RejectedItem(msgspec.Struct, frozen=True):
    """What ingest would reject. item: its place, from 0 on: among JSON items, or among an Arrow stream's agents."""

    item: int
    rule: str
    reason: str


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """What is on the log now, durably. rejected: how many of the messages go to the quarantine; items: the first."""

    messages: int
    rows: int
    rejected: int = 0
    items: tuple[RejectedItem, ...] = ()


class FaultyItemsError(RejectedDataError):
    """A request in which something would be rejected, so that nothing was sent."""

    def __init__(self, items: Sequence[RejectedItem], count: int) -> None:
        first = items[0]
        super().__init__(
            f"{len(items)} of {count} items would be rejected, so nothing was sent: mend them, or send all by "
            f"?quarantine=true. The first is item {first.item}: {first.rule}: {first.reason}"
        )
        self.items = tuple(items[:MOST_TOLD])


@dataclass(frozen=True, slots=True)
class _Message:
    value: bytes
    headers: Headers = ()
    key: bytes | None = None


class Arrivals:
    """Judges and appends. log: also for how far ingest is behind. layout: gives the index's, or raises."""

    def __init__(self, log: Log, clock: Clock, layout: Callable[[], Layout]) -> None:
        self.most_behind = MOST_BEHIND
        self._log = log
        self._clock = clock
        self._layout = layout
        self._tasks: TaskTable | None = None
        self._lag: tuple[float, int] = (-LAG_S, 0)
        self._lock = threading.Lock()

    def take(self, body: bytes, kind: str, *, quarantine: bool) -> Accepted:
        """Append a request's transitions. quarantine: what would be rejected too, as long as one would not be.

        Raises FaultyItemsError, RejectedDataError; RefusedError: 415 for an unknown type, 429 when ingest is behind.
        """
        messages = _READERS[kind](body) if kind in _READERS else _refuse(kind)
        self._require_room()
        checked = self._judged(messages)
        faulty = [RejectedItem(one.position, one.rule, one.reason) for one in checked.rejected]
        if faulty and (not quarantine or len(faulty) == len(messages)):
            raise FaultyItemsError(faulty, len(messages))
        self._log.send([Record(TRANSITIONS, one.key or key_of(one.value), one.value, one.headers) for one in messages])
        rows = sum(map(len, checked.batches))
        return Accepted(messages=len(messages), rows=rows, rejected=len(faulty), items=tuple(faulty[:MOST_TOLD]))

    def _require_room(self) -> None:
        behind = self.behind()
        if behind > self.most_behind:
            detail = f"ingest is {behind} messages behind, above {self.most_behind}: send again later, and more slowly"
            raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(RETRY_AFTER_S)})

    def behind(self) -> int:
        """Return how many messages wait for ingest, as of a moment ago."""
        with self._lock:
            if time.monotonic() - self._lag[0] >= LAG_S:
                waiting = sum(one.behind for one in lag_of(self._log, INGEST, TRANSITIONS))
                self._lag = time.monotonic(), waiting
            return self._lag[1]

    def _judged(self, messages: Sequence[_Message]) -> Checked:
        """Judge messages by the tasks that are there by now."""
        with self._lock:
            if self._tasks is None:
                table = TaskTable(self._log, self._layout())
                table.refresh()
                self._tasks = table
            tasks = self._tasks
        checked = self._check(messages, tasks)
        if checked.unknown:
            with self._lock:
                came = tasks.refresh()
            if came:
                checked = self._check(messages, tasks)
        return checked

    def _check(self, messages: Sequence[_Message], tasks: TaskTable) -> Checked:
        headers = [one.headers for one in messages]
        batch = as_appended([one.value for one in messages], tasks, self._clock, headers)
        return codec.check(batch, tasks, tasks.layout)


def _refuse(kind: str) -> list[_Message]:
    detail = f"content-type {kind[:80]!r}: this takes {', '.join(_READERS)}"
    raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)


def _json(body: bytes) -> list[_Message]:
    """Take one transition, or the items of an array."""
    if body.lstrip()[:1] != b"[":
        return [_Message(body)]
    try:
        items = msgspec.json.decode(body, type=list[msgspec.Raw])
    except UNREADABLE as error:
        raise RejectedDataError(f"the body can't be read: {error}") from error
    return _some([_Message(bytes(item)) for item in items])


def _lines(body: bytes) -> list[_Message]:
    """Take a transition a line."""
    return _some([_Message(line) for line in body.splitlines() if line.strip()])


def _some(messages: list[_Message]) -> list[_Message]:
    if not messages:
        raise RejectedDataError("the body holds no transition: send one at least")
    return messages


def _arrow(body: bytes) -> list[_Message]:
    """Take a stream of one task's transitions apart, as a message on the log is of one agent."""
    try:
        table = pa.Table.from_batches(codec_arrow.read(body, MOST_ROWS).batches)
        agents = _agents(table)
        if len(agents) == 1:
            return [_Message(body, codec.ARROW_HEADERS, agents[0].encode())]
        return _some(_by_agent(table, agents))
    except BadMessageError as error:
        raise RejectedDataError(f"{error.rule}: {error.reason}") from error
    except codec_arrow.ARROW_ERRORS as error:
        raise RejectedDataError(f"type: {str(error)[:200]}") from error


def _agents(table: pa.Table) -> list[str]:
    if table.column_names.count("agent_id") != 1:
        raise BadMessageError("type", "one column agent_id is expected")
    agents: list[Any] = pc.unique(table.column("agent_id").combine_chunks()).to_pylist()
    for agent in agents:
        if not isinstance(agent, str):
            raise BadMessageError("type", "agent_id holds something else than strings")
    return agents


def _by_agent(table: pa.Table, agents: list[str]) -> list[_Message]:
    """Sort once: to look through all rows for each agent would take minutes for the most agents."""
    codes = pc.index_in(table.column("agent_id").cast(pa.string()), pa.array(agents, pa.string())).to_numpy()
    rows = table.take(np.argsort(codes, kind="stable")).combine_chunks()
    counts = np.bincount(codes)
    parts = zip(agents, np.cumsum(counts) - counts, counts, strict=True)
    return [_of_agent(rows.slice(first, count), agent) for agent, first, count in parts]


def _of_agent(rows: pa.Table, agent: str) -> _Message:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return _Message(bytes(sink.getvalue()), codec.ARROW_HEADERS, agent.encode())


_READERS: Final[dict[str, Callable[[bytes], list[_Message]]]] = {
    codec_json.CONTENT_TYPE: _json,
    NDJSON: _lines,
    codec_arrow.CONTENT_TYPE: _arrow,
}
