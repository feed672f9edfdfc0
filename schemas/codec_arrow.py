"""Arrow messages: an IPC stream whose columns are named as the JSON fields, all rows of one agent.

Messages of one shape are joined and read at once; where that fails they are halved until the ones to blame are found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.schemas.arrow_frames import check_frames
from headrace.schemas.arrow_types import check_views, is_list, is_string, plain
from headrace.schemas.checker import BadMessageError, Checker, Task
from headrace.schemas.codec_json import Row
from headrace.schemas.reasons import time_of_another_type, unknown_action, unknown_term
from headrace.schemas.records import TaskSpec
from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch

CONTENT_TYPE = "application/vnd.apache.arrow.stream"
ARROW_ERRORS = (pa.ArrowException, ValueError, TypeError, KeyError, IndexError, OSError, MemoryError, OverflowError)

_REQUIRED = frozenset(field.name for field in msgspec.structs.fields(Row) if field.required)
_KNOWN = frozenset(Row.__struct_fields__)


def encode(batch: TransitionBatch, spec: TaskSpec) -> bytes:
    """Write all rows (of one agent) as one IPC stream."""
    count = len(batch)
    columns: dict[str, Any] = {
        "schema_version": pa.array(np.ones(count, np.int8)),
        "task": pa.DictionaryArray.from_arrays(np.zeros(count, np.int8), pa.array([batch.task])),
        "agent_id": _dictionary(batch.agents, batch.agent),
        "episode_id": _dictionary(batch.episodes, batch.episode),
        **required_of(batch),
    }
    if batch.reward_terms.size and not np.isnan(batch.reward_terms).all():
        columns["reward_terms"] = terms_of(batch, spec)
    if (batch.policy_version != NO_POLICY_VERSION).any():
        versions = batch.policy_version
        columns["policy_version"] = pa.array(versions, mask=versions == NO_POLICY_VERSION)
    if not np.isnan(batch.log_prob).all():
        columns["log_prob"] = pa.array(batch.log_prob, from_pandas=True)
    table = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_batch(table)
    return bytes(sink.getvalue())


def _dictionary(names: tuple[str, ...], codes: NDArray[np.int32]) -> pa.DictionaryArray:
    present = np.unique(codes)
    return pa.DictionaryArray.from_arrays(
        np.searchsorted(present, codes).astype(np.int32), pa.array([names[i] for i in present])
    )


def required_of(batch: TransitionBatch) -> dict[str, Any]:
    """Return the columns that every transition has, but for its names."""
    return {
        "step": batch.step,
        "ts": batch.ts,
        "obs": list_of(batch.obs),
        "action": pa.array(batch.action) if batch.action.ndim == 1 else list_of(batch.action),
        "reward": batch.reward,
        "next_obs": list_of(batch.next_obs),
        "terminated": batch.terminated,
        "truncated": batch.truncated,
    }


def terms_of(batch: TransitionBatch, spec: TaskSpec) -> pa.StructArray:
    """Return the reward terms by name, null where they are not known."""
    terms = [pa.array(column, from_pandas=True) for column in batch.reward_terms.T]
    return pa.StructArray.from_arrays(terms, spec.reward_terms)


def list_of(values: NDArray[np.float32]) -> pa.FixedSizeListArray:
    """Return float32[N, D] as N lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """A validated message. shape: its schema as it stands in it; messages of one shape can be joined."""

    task: str
    shape: bytes
    batches: list[Any]
    rows: int


def read(value: bytes, max_rows: int) -> Message:
    """Read one message; raises BadMessageError. The whole of it is validated: its bytes are not trusted."""
    shape = check_frames(value)
    batches: list[Any] = []
    rows = 0
    try:
        for batch in pa.ipc.open_stream(value):
            rows += batch.num_rows
            if rows > max_rows:
                raise BadMessageError("size", f"more than {max_rows} rows in one message")
            batch.validate(full=True)
            check_views(shape, batch)
            batches.append(batch)
    except ARROW_ERRORS as error:
        raise BadMessageError("syntax", f"not a valid Arrow stream: {error}"[:200]) from error
    if rows == 0:
        raise BadMessageError("empty", "an Arrow stream of no rows")
    return Message(_task(batches), shape, batches, rows)


def _task(batches: Sequence[Any]) -> str:
    found: set[str | None] = set()
    for batch in batches:
        places = batch.schema.get_all_field_indices("task")
        if len(places) != 1:
            raise BadMessageError("type", f"{len(places)} columns are named task")
        found.update(_distinct(batch.column(places[0])))
    if len(found) > 1:
        raise BadMessageError("one_agent", "task takes several values in one message")
    (task,) = found
    if task is None:
        raise BadMessageError("type", "task holds nulls")
    return task


def _distinct(array: Any) -> list[str | None]:
    """Return a column's distinct names; a dictionary of one name and no nulls needs no look at the rows."""
    names = array.dictionary if isinstance(array, pa.DictionaryArray) else array
    if not isinstance(names, pa.StringArray | pa.LargeStringArray | pa.StringViewArray):
        raise BadMessageError("type", f"task is {array.type}, not a string")
    if names is not array and len(names) == 1 and not array.null_count:
        return names.to_pylist() if len(array) else []
    return pc.unique(array).to_pylist()


def columns(messages: Sequence[Message], offsets: NDArray[np.int64], spec: TaskSpec) -> TransitionBatch:
    """Join messages of one task and shape and read their columns; offsets: int64[messages].

    Raises BadMessageError if any of them is to blame.
    """
    try:
        table = pa.Table.from_batches([batch for message in messages for batch in message.batches])
        return _columns(table, [message.rows for message in messages], offsets, spec)
    except ARROW_ERRORS as error:
        raise BadMessageError("type", str(error)[:200]) from error


def _columns(table: pa.Table, counts: Sequence[int], offsets: NDArray[np.int64], spec: TaskSpec) -> TransitionBatch:
    _check_names(table.column_names)
    if not _KNOWN.issuperset(table.column_names):
        table = table.select([name for name in table.column_names if name in _KNOWN])
    table = plain(table).unify_dictionaries().combine_chunks()
    if (_numbers(table, "schema_version", np.int64) != 1).any():
        raise BadMessageError("schema_version", "another schema_version than 1")
    agents, agent = _codes(table, "agent_id")
    if (np.repeat(agent[np.cumsum(counts) - counts], counts) != agent).any():
        raise BadMessageError("one_agent", "agent_id takes several values in one message")
    episodes, episode = _codes(table, "episode_id")
    return TransitionBatch(
        task=spec.task,
        agents=agents,
        episodes=episodes,
        agent=agent,
        episode=episode,
        step=_numbers(table, "step", np.int64),
        ts=_times(table),
        offset=np.repeat(offsets, counts),
        obs=_vectors(table, "obs", spec.width),
        action=_actions(table, spec.actions)
        if isinstance(spec.actions, tuple)
        else _vectors(table, "action", spec.action_count),
        reward=_numbers(table, "reward", np.float32),
        next_obs=_vectors(table, "next_obs", spec.width),
        terminated=_booleans(table, "terminated"),
        truncated=_booleans(table, "truncated"),
        reward_terms=_terms(table, spec.reward_terms),
        policy_version=_versions(table),
        log_prob=_nullable(_optional(table, "log_prob"), "log_prob"),
    )


def _check_names(names: Sequence[str]) -> None:
    known = _KNOWN.intersection(names)
    if not known >= _REQUIRED:
        raise BadMessageError("type", f"columns missing: {', '.join(sorted(_REQUIRED - known))}")
    if sum(name in known for name in names) > len(known):
        raise BadMessageError("type", "two columns have the same name")


def _column(table: pa.Table, name: str) -> Any:
    """Return a column in one piece; raises BadMessageError where it holds nulls."""
    column = table.column(name)
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if array.null_count:
        raise BadMessageError("type", f"{name} holds nulls")
    return array


def _codes(table: pa.Table, name: str) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    array = _column(table, name)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    if not is_string(array.type):
        raise BadMessageError("type", f"{name} is {array.type.value_type}, not a string")
    if array.dictionary.null_count:
        raise BadMessageError("type", f"{name} holds nulls")
    names = array.dictionary.to_pylist()
    codes = array.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    unique = dict.fromkeys(names)
    if len(unique) < len(names):  # a dictionary may hold a name twice
        place = {name: i for i, name in enumerate(unique)}
        codes = np.array([place[name] for name in names], np.int32)[codes]
    return tuple(unique), codes


def _numbers(table: pa.Table, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    return _cast(_column(table, name), name, dtype)


def _times(table: pa.Table) -> NDArray[np.int64]:
    array = _column(table, "ts")
    if pa.types.is_temporal(array.type):
        convert = "convert with ts.cast(pa.timestamp('ms')).cast(pa.int64())"
        raise BadMessageError("type", f"ts is {array.type}: milliseconds since 1970 (UTC) are expected; {convert}")
    if not pa.types.is_integer(array.type) and len(array):
        raise BadMessageError("type", time_of_another_type(array[0].as_py()))
    return _cast(array, "ts", np.int64)


def _actions(table: pa.Table, labels: tuple[str, ...]) -> NDArray[np.int32]:
    """Return int32[N] from numbers, or from the actions' names."""
    array = _column(table, "action")
    if not is_string(array.type):
        return _cast(array, "action", np.int32)
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    codes = pc.index_in(array, value_set=pa.array(labels, kind))
    if codes.null_count:
        label = array.filter(codes.is_null())[0].as_py()
        if label is None:
            raise BadMessageError("type", "action holds nulls")
        raise BadMessageError("action", unknown_action(label, labels))
    return codes.to_numpy(zero_copy_only=False)


def _cast(array: Any, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    """Cast integers only from integers that fit; floats from any number, too large becoming infinite."""
    integers = pa.types.is_integer(array.type)
    if issubclass(dtype, np.integer):
        if not integers:
            raise BadMessageError("type", f"{name} is {array.type}, not an integer")
        return array.cast(pa.from_numpy_dtype(dtype)).to_numpy(zero_copy_only=False)
    if not (integers or pa.types.is_floating(array.type)):
        raise BadMessageError("type", f"{name} is {array.type}, not a number")
    values = array.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore", invalid="ignore"):  # integers become doubles first, as those of JSON do
        return (values.astype(np.float64) if integers else values).astype(dtype, copy=False)


def _booleans(table: pa.Table, name: str) -> NDArray[np.bool_]:
    array = _column(table, name)
    if not pa.types.is_boolean(array.type):
        raise BadMessageError("type", f"{name} is {array.type}, not a boolean")
    return array.to_numpy(zero_copy_only=False)


def _vectors(table: pa.Table, name: str, width: int) -> NDArray[np.float32]:
    array = _column(table, name)
    if pa.types.is_fixed_size_list(array.type):
        found = array.type.list_size
    elif is_list(array.type):
        widths = pc.unique(pc.list_value_length(array)).to_pylist()
        found = widths[0] if len(widths) == 1 else -1
    else:
        raise BadMessageError("type", f"{name} is {array.type}, not a list of floats")
    if found != width:
        shown = "several widths" if found < 0 else f"{found} values a row"
        raise BadMessageError("width", f"{name} has {shown}; the task has {width}")
    values = array.flatten()
    if values.null_count:
        raise BadMessageError("type", f"{name} holds nulls")
    return _cast(values, name, np.float32).reshape(len(array), width)


def _terms(table: pa.Table, names: tuple[str, ...]) -> NDArray[np.float32]:
    """Return float32[N, K] from a struct column, NaN where absent."""
    out = np.full((table.num_rows, len(names)), np.nan, np.float32)
    array = _optional(table, "reward_terms")
    if pa.types.is_null(array.type):
        return out
    if not pa.types.is_struct(array.type):
        raise BadMessageError("type", f"reward_terms is {array.type}, not a struct")
    for place, field in enumerate(array.type):
        if field.name not in names and not _absent(pc.struct_field(array, [place])):
            raise BadMessageError("reward_terms", unknown_term(field.name, names))
    for k, name in enumerate(names):
        places = array.type.get_all_field_indices(name)
        if len(places) > 1:
            raise BadMessageError("type", f"reward_terms has two fields {name}")
        if places:
            out[:, k] = _nullable(pc.struct_field(array, places), name)
    return out


def _absent(array: Any) -> bool:
    """Whether a column holds nulls alone, or NaN."""
    return bool(pc.all(pc.is_null(array, nan_is_null=True)).as_py())


def _nullable(array: Any, name: str) -> NDArray[np.float32]:
    """Read a column of floats; null and NaN of any kind become one NaN."""
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan, np.float32)
    if array.null_count and (pa.types.is_integer(array.type) or pa.types.is_floating(array.type)):
        values = _cast(array.fill_null(0), name, np.float32)
        values = np.where(array.is_null().to_numpy(zero_copy_only=False), np.float32(np.nan), values)
    else:
        values = _cast(array, name, np.float32)
    absent = np.isnan(values)
    return np.where(absent, np.float32(np.nan), values) if absent.any() else values


def _optional(table: pa.Table, name: str) -> Any:
    """Return a column in one piece, as one of nulls where it is absent."""
    return table.column(name).combine_chunks() if name in table.column_names else pa.nulls(table.num_rows)


def _versions(table: pa.Table) -> NDArray[np.int64]:
    array = _optional(table, "policy_version")
    if pa.types.is_null(array.type):
        return np.full(len(array), NO_POLICY_VERSION, np.int64)
    if not pa.types.is_integer(array.type):
        raise BadMessageError("type", f"policy_version is {array.type}, not an integer")
    values = _cast(array.fill_null(0), "policy_version", np.int64)
    if (values < 0).any():
        raise BadMessageError("type", "policy_version is negative")
    if not array.null_count:
        return values
    return np.where(array.is_null().to_numpy(zero_copy_only=False), NO_POLICY_VERSION, values)


def check(checker: Checker, positions: NDArray[np.int64]) -> None:
    """Check the messages at these positions; those of one task and one shape are joined."""
    shapes: dict[tuple[str, bytes], list[tuple[Message, int]]] = {}
    for position in positions.tolist():
        try:
            message = read(checker.messages.values[position] or b"", checker.layout.max_message_rows)
        except BadMessageError as error:
            checker.reject(position, error.rule, error.reason)
            continue
        if checker.known(1, message.task, position):
            shapes.setdefault((message.task, message.shape), []).append((message, position))
    for (name, _), entries in shapes.items():
        _join(checker, checker.tasks[name], entries)


def _join(checker: Checker, task: Task, entries: list[tuple[Message, int]]) -> None:
    """Read joined messages; where that fails, halve them until the ones to blame are found."""
    offsets = checker.messages.offsets[[position for _, position in entries]]
    try:
        batch = columns([message for message, _ in entries], offsets, task.spec)
    except BadMessageError as error:
        if len(entries) == 1:
            checker.reject(entries[0][1], error.rule, error.reason)
            return
        middle = len(entries) // 2
        _join(checker, task, entries[:middle])
        _join(checker, task, entries[middle:])
    else:
        checker.accept(task, batch, {})
