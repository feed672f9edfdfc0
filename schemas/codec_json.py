"""JSON messages: one transition, an array of one agent's transitions, or a heartbeat.

A row is decoded by msgspec with its vectors left as raw text; all vectors of a batch are then parsed by one call
of simdjson (measured: .9 µs a row instead of 1.3). Where that call fails the rows are parsed one by one, each to
the same floats as in a good batch, so that what a message becomes never depends on its neighbours.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import simdjson
from msgspec import Meta, Raw, Struct
from numpy.typing import NDArray

from headrace.schemas.records import TaskSpec
from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch

CONTENT_TYPE = "application/json"

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
    action: int | list[float]
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


class BadMessageError(Exception):
    """A message that breaks one of `rules.MESSAGE_RULES`; never leaves schemas."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule
        self.reason = reason


_row = msgspec.json.Decoder(Row).decode
_rows = msgspec.json.Decoder(list[Row]).decode
_heartbeat = msgspec.json.Decoder(HeartbeatRow).decode
_floats = msgspec.json.Decoder(list[float]).decode
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeError, RecursionError)


def decode_plain(values: Sequence[bytes]) -> list[Row] | None:
    """Decode messages that are all one transition each; None if any is not."""
    try:
        return [_row(value) for value in values]
    except _DECODE_ERRORS:
        return None


def decode_one(value: bytes, max_rows: int) -> list[Row] | HeartbeatRow:
    """Decode any message; raises BadMessageError."""
    array = value.lstrip()[:1] == b"["
    try:
        rows = _rows(value) if array else [_row(value)]
    except _DECODE_ERRORS as error:
        if not array and b'"heartbeat"' in value:
            return _decode_heartbeat(value)
        rule = "type" if isinstance(error, msgspec.ValidationError) else "syntax"
        raise BadMessageError(rule, str(error)[:200]) from error
    if not rows:
        raise BadMessageError("empty", "an array of no transitions")
    if len(rows) > max_rows:
        raise BadMessageError("size", f"{len(rows)} transitions in one message; {max_rows} are allowed")
    if len({(row.task, row.agent_id) for row in rows}) > 1:
        raise BadMessageError("one_agent", "an array holds transitions of several tasks or agents")
    return rows


def _decode_heartbeat(value: bytes) -> HeartbeatRow:
    try:
        row = _heartbeat(value)
    except _DECODE_ERRORS as error:
        raise BadMessageError("type", f"heartbeat: {error}"[:200]) from error
    if not row.heartbeat:
        raise BadMessageError("type", "heartbeat is false")
    return row


def columns(
    rows: Sequence[Row], offsets: NDArray[np.int64], spec: TaskSpec
) -> tuple[TransitionBatch, dict[int, BadMessageError]]:
    """Turn N rows of one task into columns, and name the rows that can't be.

    Returns the batch of the rows that can, and the errors of the others by position.
    """
    obs = _vectors([row.obs for row in rows], spec.width)
    next_obs = _vectors([row.next_obs for row in rows], spec.width)
    action = _actions([row.action for row in rows], spec)
    if obs is not None and next_obs is not None and action is not None:
        return _batch(rows, offsets, spec, obs, next_obs, action), {}
    errors = {i: error for i, row in enumerate(rows) if (error := _row_error(row, spec))}
    good = [i for i in range(len(rows)) if i not in errors]
    kept = [rows[i] for i in good]
    parsed = [
        np.array([_vector(raw, spec.width) for raw in raws], np.float64).reshape(len(kept), spec.width)
        for raws in ([row.obs for row in kept], [row.next_obs for row in kept])
    ]
    action = _actions([row.action for row in kept], spec)
    assert action is not None
    return _batch(kept, offsets[good], spec, _float32(parsed[0]), _float32(parsed[1]), action), errors


def _vectors(raws: Sequence[Raw], width: int) -> NDArray[np.float32] | None:
    """Parse N arrays of `width` numbers to float32[N, width]; None unless all are just that."""
    joined = b",".join(raws)
    text = np.frombuffer(joined, np.uint8)
    opens = np.flatnonzero(text == ord("["))
    if len(opens) != len(raws):
        return None
    try:
        parsed = simdjson.Parser().parse(b"[" + joined + b"]")
        assert isinstance(parsed, simdjson.Array)
        values = np.frombuffer(parsed.as_buffer(of_type="d"), np.float64)
    except (ValueError, TypeError, RuntimeError):
        return None
    commas = np.add.reduceat(text == ord(","), opens, dtype=np.int32)
    commas[-1] += 1  # the comma between two arrays is counted to the one before it
    if len(values) != len(raws) * width or not (commas == width).all():
        return None
    return _float32(values.reshape(-1, width))


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round to float32; what is too large becomes infinite, and a rule rejects it."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _vector(raw: Raw, width: int) -> list[float]:
    """Parse one array of numbers, by simdjson where it can; raises BadMessageError."""
    values: list[Any] | None = None
    try:
        parsed = simdjson.Parser().parse(bytes(raw))
        values = parsed.as_list() if isinstance(parsed, simdjson.Array) else None
    except (ValueError, RuntimeError):
        values = None  # integers beyond 64 bits, which msgspec reads
    if values is None or not all(type(value) in {int, float} for value in values):
        try:
            values = list(_floats(raw))
        except _DECODE_ERRORS as error:
            raise BadMessageError("type", str(error)[:200]) from error
    if len(values) != width:
        raise BadMessageError("width", f"a vector has {len(values)} values; the task has {width} observations")
    return list(map(float, values))


def _row_error(row: Row, spec: TaskSpec) -> BadMessageError | None:
    try:
        _vector(row.obs, spec.width)
        _vector(row.next_obs, spec.width)
    except BadMessageError as error:
        return error
    return _action_error(row.action, spec)


def _action_error(action: int | list[float], spec: TaskSpec) -> BadMessageError | None:
    if spec.discrete != isinstance(action, int):
        wanted = "an integer" if spec.discrete else f"an array of {spec.action_count} numbers"
        return BadMessageError("type", f"action is not {wanted}")
    if isinstance(action, list) and len(action) != spec.action_count:
        return BadMessageError("width", f"action has {len(action)} values; the task has {spec.action_count}")
    if isinstance(action, int) and not -(2**31) <= action < 2**31:
        return BadMessageError("type", f"action {action} is not a 32-bit integer")
    return None


def _actions(actions: Sequence[int | list[float]], spec: TaskSpec) -> NDArray[Any] | None:
    if not _plain(actions, spec) and any(_action_error(action, spec) for action in actions):
        return None
    if spec.discrete:
        return np.array(actions, np.int32)
    return _float32(np.array(actions, np.float64).reshape(len(actions), spec.action_count))


def _plain(actions: Sequence[Any], spec: TaskSpec) -> bool:
    """Whether all are small integers of a discrete task (the common case, checked without a call a row)."""
    try:
        return spec.discrete and min(actions) >= -(2**31) and max(actions) < 2**31
    except (TypeError, ValueError):
        return False


def _batch(
    rows: Sequence[Row],
    offsets: NDArray[np.int64],
    spec: TaskSpec,
    obs: NDArray[np.float32],
    next_obs: NDArray[np.float32],
    action: NDArray[Any],
) -> TransitionBatch:
    agents, agent = _codes([row.agent_id for row in rows])
    episodes, episode = _codes([row.episode_id for row in rows])
    return TransitionBatch(
        task=spec.task,
        agents=agents,
        episodes=episodes,
        agent=agent,
        episode=episode,
        step=np.array([row.step for row in rows], np.int64),
        ts=np.array([row.ts for row in rows], np.int64),
        offset=offsets,
        obs=obs,
        action=action,
        reward=_float32(np.array([row.reward for row in rows], np.float64)),
        next_obs=next_obs,
        terminated=np.array([row.terminated for row in rows], np.bool_),
        truncated=np.array([row.truncated for row in rows], np.bool_),
        reward_terms=_terms([row.reward_terms for row in rows], spec.reward_terms),
        policy_version=_optional([row.policy_version for row in rows], NO_POLICY_VERSION, np.int64),
        log_prob=_optional([row.log_prob for row in rows], np.nan, np.float32),
    )


def _codes(names: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Dictionary-code names in order of appearance."""
    unique = dict.fromkeys(names)
    code = dict(zip(unique, range(len(unique)), strict=True)).__getitem__
    return tuple(unique), np.fromiter(map(code, names), np.int32, len(names))


def _optional(values: Sequence[Any], absent: float, dtype: type[np.generic]) -> NDArray[Any]:
    missing = values.count(None)
    if missing == len(values):
        return np.full(len(values), absent, dtype)
    if missing:
        values = [absent if value is None else value for value in values]
    return _float32(np.array(values, np.float64)) if dtype is np.float32 else np.array(values, dtype)


def _terms(rows: Sequence[dict[str, float | None] | None], names: tuple[str, ...]) -> NDArray[np.float32]:
    """Return float32[N, K], NaN where absent; names that the task has not are ignored."""
    out = np.full((len(rows), len(names)), np.nan)
    if not names:
        return out.astype(np.float32)
    for i, row in enumerate(rows):
        if row:
            out[i] = [np.nan if (value := row.get(name)) is None else value for name in names]
    return _float32(out)
