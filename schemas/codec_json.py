"""JSON messages: one transition, an array of one agent's transitions, or a heartbeat.

A row is decoded by msgspec with its vectors left as raw text; all vectors of a block are then parsed by one call
of simdjson (measured: .9 µs a row instead of 1.3). Where that call fails the block is halved until the rows to
blame are found, and each value is parsed to the same float as in a good block: what a message becomes never
depends on its neighbours.
"""

import threading
from array import array
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import simdjson
from msgspec import Meta, Raw, Struct
from numpy.typing import NDArray

from headrace.schemas.checker import BadMessageError, Checker
from headrace.schemas.formats import BYTE_ORDER_MARK
from headrace.schemas.json_faults import fault
from headrace.schemas.reasons import time_ahead, time_out_of_range, unknown_action, unknown_term
from headrace.schemas.records import MAX_TS_MS, Bounds, TaskSpec
from headrace.schemas.transition import COLUMNS, NO_POLICY_VERSION, Names, TransitionBatch

CONTENT_TYPE = "application/json"
BLOCK_MESSAGES = 1024
"""Messages decoded at once: their objects fit in a core's cache (measured: a fifth less time a row)."""
MAX_DEPTH = 500
"""How deep brackets may nest. The decoder's own limit depends on how deep the caller's stack is."""
_FLAT_BYTES = 2 * MAX_DEPTH
"""A message of so few bytes can't nest deeper."""

_Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class Row(Struct, gc=False):
    """A transition as it stands in a message."""

    schema_version: int
    task: str
    agent_id: str
    episode_id: str
    step: _Int64
    ts: _Int64
    obs: Raw
    action: int | str | list[float]
    reward: float
    next_obs: Raw
    terminated: bool
    truncated: bool
    reward_terms: dict[str, float | None] | None = None
    policy_version: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    log_prob: float | None = None


class HeartbeatRow(Struct, gc=False):
    """A heartbeat as it stands in a message: it moves a partition's stream time on."""

    schema_version: int
    task: str
    agent_id: str
    ts: _Int64
    heartbeat: bool


_row = msgspec.json.Decoder(Row).decode
_rows = msgspec.json.Decoder(list[Row]).decode
_heartbeat = msgspec.json.Decoder(HeartbeatRow).decode
_floats = msgspec.json.Decoder(list[float]).decode
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError)
_MARK, _MARK_VALUE = b",1e39,", 1e39
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class _Simdjson(threading.local):
    """A parser for each thread: its memory is used again, and two threads may not share it."""

    def __init__(self) -> None:
        self.parser = simdjson.Parser()


_simdjson = _Simdjson()


def decode_plain(values: Sequence[bytes]) -> list[Row] | None:
    """Decode messages that are all one transition each; None if any is not."""
    if max(map(len, values)) > _FLAT_BYTES and any(map(_too_deep, values)):
        return None
    try:
        return [_row(value) for value in values]
    except _DECODE_ERRORS:
        return None


def _too_deep(value: bytes) -> bool:
    """Whether brackets nest deeper than is allowed; those within strings count too."""
    if len(value) <= _FLAT_BYTES or value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return False
    brackets = np.frombuffer(value.translate(None, _NOT_BRACKETS), np.uint8)
    opens = (brackets == ord("[")) | (brackets == ord("{"))
    return bool(np.cumsum(np.where(opens, 1, -1)).max() > MAX_DEPTH)


def decode_one(value: bytes, max_rows: int) -> list[Row] | HeartbeatRow:
    """Decode any message; raises BadMessageError."""
    if _too_deep(value):
        raise BadMessageError("syntax", f"brackets nest deeper than {MAX_DEPTH}")
    value = value.removeprefix(BYTE_ORDER_MARK)
    is_array = value.lstrip()[:1] == b"["
    try:
        rows = _rows(value) if is_array else [_row(value)]
    except _DECODE_ERRORS as error:
        if not is_array and b'"heartbeat"' in value:
            return _decode_heartbeat(value)
        raise fault(value, error) from error
    if not rows:
        raise BadMessageError("empty", "an array of no transitions")
    if len(rows) > max_rows:
        raise BadMessageError("size", f"{len(rows)} transitions in one message; {max_rows} are allowed")
    if len({(row.task, row.agent_id) for row in rows}) > 1:
        raise BadMessageError("one_agent", "an array holds transitions of several tasks or agents")
    if len({row.schema_version for row in rows}) > 1:
        raise BadMessageError("schema_version", "an array holds transitions of several schema_versions")
    return rows


def _decode_heartbeat(value: bytes) -> HeartbeatRow:
    try:
        row = _heartbeat(value)
    except _DECODE_ERRORS as error:
        found = fault(value, error)
        raise BadMessageError(found.rule, f"heartbeat: {found.reason}"[:250]) from error
    if not row.heartbeat:
        raise BadMessageError("type", "heartbeat is false")
    return row


class Columns:
    """The rows of one task as columns. They are added in blocks, while their objects are in the processor's cache."""

    def __init__(self, spec: TaskSpec) -> None:
        self._spec = spec
        self._agents, self._episodes = Names(), Names()
        self._blocks: list[tuple[NDArray[Any], ...]] = []

    def add(self, rows: Sequence[Row], offsets: NDArray[np.int64]) -> dict[int, BadMessageError]:
        """Take in N rows but for those that can't be columns; return the errors of these by position."""
        spec = self._spec
        errors: dict[int, BadMessageError] = {}
        action = _actions([row.action for row in rows], spec, errors)
        next_obs = _vectors([row.next_obs for row in rows], "next_obs", spec.width, errors)
        obs = _vectors([row.obs for row in rows], "obs", spec.width, errors)
        block: tuple[NDArray[Any], ...] = (  # in the order of COLUMNS
            self._agents.codes([row.agent_id for row in rows]),
            self._episodes.codes([row.episode_id for row in rows]),
            np.array([row.step for row in rows], np.int64),
            np.array([row.ts for row in rows], np.int64),
            offsets,
            obs,
            action,
            _float32(np.array([row.reward for row in rows], np.float64)),
            next_obs,
            np.frombuffer(bytes([row.terminated for row in rows]), np.bool_),
            np.frombuffer(bytes([row.truncated for row in rows]), np.bool_),
            _terms([row.reward_terms for row in rows], spec.reward_terms, errors),
            _optional([row.policy_version for row in rows], NO_POLICY_VERSION, np.int64),
            _optional([row.log_prob for row in rows], np.nan, np.float32),
        )
        if errors:
            good = np.setdiff1d(np.arange(len(rows)), list(errors))
            block = tuple(column[good] for column in block)
        self._blocks.append(block)
        return errors

    def batch(self) -> TransitionBatch:
        """Return all rows added."""
        columns = map(np.concatenate, zip(*self._blocks, strict=True))
        named = dict(zip(COLUMNS, columns, strict=True))
        return TransitionBatch(self._spec.task, tuple(self._agents), tuple(self._episodes), **named)


def _vectors(raws: Sequence[Raw], name: str, width: int, errors: dict[int, BadMessageError]) -> NDArray[np.float32]:
    """Parse N arrays of `width` numbers to float32[N, width]; note the errors of those that are not."""
    out = np.zeros((len(raws), width))
    pending = [(0, len(raws))]
    while pending:
        start, stop = pending.pop()
        values = _joined(raws[start:stop], width)
        if values is not None:
            out[start:stop] = values
        elif stop - start > 4:
            middle = (start + stop) // 2
            pending += [(start, middle), (middle, stop)]
        else:
            for i in range(start, stop):
                try:
                    out[i] = _vector(raws[i], name, width)
                except BadMessageError as error:
                    errors[i] = error
    return _float32(out)


def _joined(raws: Sequence[Raw], width: int) -> NDArray[np.float64] | None:
    """Parse arrays of numbers by one call; None unless each is a flat one of `width` numbers.

    A number that no float32 can be stands after each array. So many brackets and so many of these numbers, at
    the right places, prove that nothing is nested, nothing is missing, and no array borrows from its neighbour.
    """
    text = b"[" + _MARK.join(raws) + _MARK[:-1] + b"]"
    if np.count_nonzero(np.frombuffer(text, np.uint8) == ord("[")) != len(raws) + 1:
        return None
    if width == 1 and not (text.startswith(b"[[") and text.count(_MARK + b"[") == len(raws) - 1):
        return None  # a bare number counts as much as an array of one
    try:
        parsed = _simdjson.parser.parse(text)
        assert isinstance(parsed, simdjson.Array)
        values = np.frombuffer(parsed.as_buffer(of_type="d"), np.float64)
    except (ValueError, TypeError, RuntimeError):
        return None
    if len(values) != len(raws) * (width + 1):
        return None
    values = values.reshape(len(raws), width + 1)
    marks = values == _MARK_VALUE
    return values[:, :width] if marks[:, width].all() and np.count_nonzero(marks) == len(raws) else None


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round to float32; what is too large becomes infinite, and a rule rejects it."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _vector(raw: Raw, name: str, width: int) -> list[float]:
    """Parse one array of numbers, by simdjson where it can; raises BadMessageError."""
    values = _simdjson_list(bytes(raw))
    if values is None or not all(type(value) in {int, float} for value in values):
        try:
            values = list(_floats(raw))
        except _DECODE_ERRORS as error:
            raise BadMessageError("type", f"{name}: {error}"[:200]) from error
    if len(values) != width:
        raise BadMessageError("width", f"{name} has {len(values)} values; the task has {width}")
    return list(map(float, values))


def _simdjson_list(text: bytes) -> list[Any] | None:
    """Parse an array; None if it is none, or holds integers beyond 64 bits, which msgspec reads.

    No error may leave this function: its traceback would keep `parsed`, and the parser could not be used again.
    """
    try:
        parsed = _simdjson.parser.parse(text)
        return parsed.as_list() if isinstance(parsed, simdjson.Array) else None
    except (ValueError, RuntimeError):
        return None


def _actions(actions: Sequence[Any], spec: TaskSpec, errors: dict[int, BadMessageError]) -> NDArray[Any]:
    """Return int32[N], or float32[N, A]; note the errors of rows whose action is something else."""
    values = _plain_actions(actions, spec)
    if values is not None:
        return values
    if not isinstance(spec.actions, Bounds):  # a text is an action's name
        codes = {name: code for code, name in enumerate(spec.actions)}
        actions = [codes.get(action, action) if isinstance(action, str) else action for action in actions]
    found = [_action_error(action, spec) for action in actions]
    errors |= {i: error for i, error in enumerate(found) if error}
    absent: Any = 0 if spec.discrete else [0.0] * spec.action_count
    kept = [absent if error else action for action, error in zip(actions, found, strict=True)]
    return np.array(kept, np.int32) if spec.discrete else _float32(np.array(kept, np.float64))


def _plain_actions(actions: Sequence[Any], spec: TaskSpec) -> NDArray[Any] | None:
    """Convert actions that are all as the task has them (the common case, without a call a row)."""
    try:
        if spec.discrete:
            return np.frombuffer(array("i", actions), np.int32)
        values = np.array(actions, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return _float32(values) if values.shape == (len(actions), spec.action_count) else None


def _action_error(action: int | str | list[float], spec: TaskSpec) -> BadMessageError | None:
    if isinstance(action, str) and not isinstance(spec.actions, Bounds):
        return BadMessageError("action", unknown_action(action, spec.actions))
    if not isinstance(action, int if spec.discrete else list):
        wanted = "an integer or a name" if spec.discrete else f"an array of {spec.action_count} numbers"
        return BadMessageError("type", f"action is not {wanted}")
    if isinstance(action, list) and len(action) != spec.action_count:
        return BadMessageError("width", f"action has {len(action)} values; the task has {spec.action_count}")
    if isinstance(action, int) and not -(2**31) <= action < 2**31:
        return BadMessageError("type", f"action {str(action)[:40]} is not a 32-bit integer")
    return None


def _optional(values: Sequence[Any], absent: float, dtype: type[np.generic]) -> NDArray[Any]:
    missing = values.count(None)
    if missing == len(values):
        return np.full(len(values), absent, dtype)
    if missing:
        values = [absent if value is None else value for value in values]
    return _float32(np.array(values, np.float64)) if dtype is np.float32 else np.array(values, dtype)


def _terms(
    rows: Sequence[dict[str, float | None] | None], names: tuple[str, ...], errors: dict[int, BadMessageError]
) -> NDArray[np.float32]:
    """Return float32[N, K], NaN where absent; note the errors of rows that have a term which the task has not."""
    out = np.full((len(rows), len(names)), np.nan)
    told = [row or {} for row in rows] if any(rows) else []
    for i, row in enumerate(told):
        if row:
            out[i] = [np.nan if (value := row.get(name)) is None else value for name in names]
    if frozenset(names).issuperset(frozenset().union(*told)):  # of all rows at once: the common case, cheaper
        return _float32(out)
    for i, row in enumerate(told):
        unknown = next((name for name in row if name not in names and row[name] is not None), None)
        if unknown is not None:
            errors[i] = BadMessageError("reward_terms", unknown_term(unknown, names))
    return _float32(out)


def check(checker: Checker, positions: NDArray[np.int64]) -> None:
    """Check the messages at these positions, block by block."""
    columns: dict[str, Columns] = {}
    errors: dict[str, dict[int, BadMessageError]] = {}
    for start in range(0, len(positions), BLOCK_MESSAGES):
        block = _decode(checker, positions[start : start + BLOCK_MESSAGES])
        for name, found, where in _by_task(checker, *block):
            column = columns.setdefault(name, Columns(checker.tasks[name].spec))
            bad = column.add(found, checker.messages.offsets[where])
            errors.setdefault(name, {}).update((int(where[i]), error) for i, error in bad.items())
    for name, column in columns.items():
        checker.accept(checker.tasks[name], column.batch(), errors[name])


def _decode(checker: Checker, block: NDArray[np.int64]) -> tuple[list[Row], NDArray[np.int64]]:
    """Return a block's rows and, int64[rows], the position of each one's message."""
    messages = checker.messages.values
    values = [messages[i] or b"" for i in block.tolist()]
    rows = decode_plain(values)
    if rows is not None:
        return rows, block
    rows, positions = [], []
    for position, value in zip(block.tolist(), values, strict=True):
        try:
            found = decode_one(value, checker.layout.max_message_rows)
        except BadMessageError as error:
            checker.reject(position, error.rule, error.reason)
            continue
        if isinstance(found, HeartbeatRow):
            _check_heartbeat(checker, found, position)
        else:
            rows.extend(found)
            positions.extend([position] * len(found))
    return rows, np.array(positions, np.int64)


def _by_task(
    checker: Checker, rows: list[Row], positions: NDArray[np.int64]
) -> Iterable[tuple[str, list[Row], NDArray[np.int64]]]:
    """Sort rows by known tasks; reject the messages of others."""
    if not rows:
        return ()
    name = rows[0].task
    alike = [row.task for row in rows].count(name) == [row.schema_version for row in rows].count(1) == len(rows)
    task = checker.tasks.get(name)
    if alike and task and checker.messages.append_ts[positions].min() >= task.added_ms:
        return ((name, rows, positions),)
    found: dict[str, tuple[list[Row], list[int]]] = {}
    for row, position in zip(rows, positions.tolist(), strict=True):
        if checker.known(row.schema_version, row.task, position):
            entry = found.setdefault(row.task, ([], []))
            entry[0].append(row)
            entry[1].append(position)
    return [(name, of_task, np.array(where, np.int64)) for name, (of_task, where) in found.items()]


def _check_heartbeat(checker: Checker, heartbeat: HeartbeatRow, position: int) -> None:
    if not checker.known(heartbeat.schema_version, heartbeat.task, position):
        return
    append_ts, skew_ms = int(checker.messages.append_ts[position]), checker.layout.max_clock_skew_ms
    oldest_ms = checker.tasks[heartbeat.task].spec.oldest_ms
    ahead_ms = heartbeat.ts - append_ts
    if not oldest_ms <= heartbeat.ts <= MAX_TS_MS:
        checker.reject(position, "ts", time_out_of_range(heartbeat.ts, oldest_ms))
    elif ahead_ms > skew_ms:
        checker.reject(position, "clock", time_ahead(heartbeat.ts, ahead_ms, skew_ms))
    else:
        checker.checked.stream_ts[position] = min(heartbeat.ts, append_ts)
