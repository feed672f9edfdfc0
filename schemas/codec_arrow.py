"""Arrow messages: an IPC stream whose columns are named as the JSON fields, all rows of one agent.

Tables of a batch are joined and read at once; where that fails they are read one by one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.schemas.codec_json import BadMessageError
from headrace.schemas.records import TaskSpec
from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch

CONTENT_TYPE = "application/vnd.apache.arrow.stream"
ARROW_ERRORS = (
    pa.ArrowException,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OSError,
    MemoryError,
    OverflowError,
)

_REQUIRED = frozenset(
    ("schema_version", "task", "agent_id", "episode_id", "step", "ts", "obs", "action", "reward", "next_obs")
    + ("terminated", "truncated")
)
_KNOWN = _REQUIRED | {"reward_terms", "policy_version", "log_prob"}


def encode(batch: TransitionBatch, spec: TaskSpec) -> bytes:
    """Write all rows (of one agent) as one IPC stream."""
    count = len(batch)
    columns: dict[str, Any] = {
        "schema_version": pa.array(np.ones(count, np.int8)),
        "task": pa.DictionaryArray.from_arrays(np.zeros(count, np.int8), pa.array([batch.task])),
        "agent_id": _dictionary(batch.agents, batch.agent),
        "episode_id": _dictionary(batch.episodes, batch.episode),
        "step": batch.step,
        "ts": batch.ts,
        "obs": _list(batch.obs),
        "action": pa.array(batch.action) if batch.action.ndim == 1 else _list(batch.action),
        "reward": batch.reward,
        "next_obs": _list(batch.next_obs),
        "terminated": batch.terminated,
        "truncated": batch.truncated,
    }
    if batch.reward_terms.size and not np.isnan(batch.reward_terms).all():
        terms = [pa.array(column, from_pandas=True) for column in batch.reward_terms.T]
        columns["reward_terms"] = pa.StructArray.from_arrays(terms, spec.reward_terms)
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


def _list(values: NDArray[np.float32]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])


def read(value: bytes, max_rows: int) -> pa.Table:
    """Read one message; raises BadMessageError. The whole of it is validated: its bytes are not trusted."""
    try:
        table = pa.ipc.open_stream(pa.py_buffer(value)).read_all()
        if table.num_rows > max_rows:
            raise BadMessageError("size", f"{table.num_rows} rows in one message; {max_rows} are allowed")
        table.validate(full=True)
    except ARROW_ERRORS as error:
        raise BadMessageError("syntax", f"not a valid Arrow stream: {error}"[:200]) from error
    if table.num_rows == 0:
        raise BadMessageError("empty", "an Arrow stream of no rows")
    names = table.column_names
    known = _KNOWN.intersection(names)
    if not known >= _REQUIRED:
        raise BadMessageError("type", f"columns missing: {', '.join(sorted(_REQUIRED - known))}")
    if len(set(names)) < len(names):
        raise BadMessageError("type", "two columns have the same name")
    return table if len(names) == len(known) else table.select(sorted(known))


def identity(table: pa.Table) -> tuple[int, str, str]:
    """Return a message's one (schema_version, task, agent_id); raises BadMessageError."""
    found: list[Any] = []
    for name in ("schema_version", "task", "agent_id"):
        try:
            values = pc.unique(table.column(name).combine_chunks()).to_pylist()
        except ARROW_ERRORS as error:
            raise BadMessageError("type", f"{name}: {error}"[:200]) from error
        if len(values) > 1:
            rule = "schema_version" if name == "schema_version" else "one_agent"
            raise BadMessageError(rule, f"{name} takes several values in one message")
        found.extend(values)
    version, task, agent = found
    if not isinstance(task, str) or not isinstance(agent, str):
        raise BadMessageError("type", "task and agent_id are strings")
    if type(version) is not int:
        raise BadMessageError("type", "schema_version is an integer")
    return version, task, agent


def columns(tables: Sequence[pa.Table], offsets: NDArray[np.int64], spec: TaskSpec) -> TransitionBatch:
    """Join messages of one task and read their columns; offsets: int64[messages].

    Raises BadMessageError or one of ARROW_ERRORS; the caller then reads them one by one.
    """
    table = pa.concat_tables(tables) if len(tables) > 1 else tables[0]
    table = table.unify_dictionaries().combine_chunks()
    rows = table.num_rows
    agents, agent = _codes(table, "agent_id")
    episodes, episode = _codes(table, "episode_id")
    return TransitionBatch(
        task=spec.task,
        agents=agents,
        episodes=episodes,
        agent=agent,
        episode=episode,
        step=_numbers(table, "step", np.int64),
        ts=_numbers(table, "ts", np.int64),
        offset=np.repeat(offsets, [t.num_rows for t in tables]),
        obs=_vectors(table, "obs", spec.width),
        action=_numbers(table, "action", np.int32) if spec.discrete else _vectors(table, "action", spec.action_count),
        reward=_numbers(table, "reward", np.float32),
        next_obs=_vectors(table, "next_obs", spec.width),
        terminated=_booleans(table, "terminated"),
        truncated=_booleans(table, "truncated"),
        reward_terms=_terms(table, spec.reward_terms, rows),
        policy_version=_versions(table, rows),
        log_prob=_absent(table, "log_prob", rows),
    )


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
    if not (pa.types.is_string(array.type.value_type) or pa.types.is_large_string(array.type.value_type)):
        raise BadMessageError("type", f"{name} is {array.type.value_type}, not a string")
    if array.dictionary.null_count:
        raise BadMessageError("type", f"{name} holds nulls")
    codes = array.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    return tuple(array.dictionary.to_pylist()), codes


def _numbers(table: pa.Table, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    return _cast(_column(table, name), name, dtype)


def _cast(array: Any, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    """Cast integers only from integers that fit; floats from any number, too large becoming infinite."""
    integer = issubclass(dtype, np.integer)
    if not (pa.types.is_integer(array.type) or (not integer and pa.types.is_floating(array.type))):
        raise BadMessageError("type", f"{name} is {array.type}")
    if integer:
        array = array.cast(pa.from_numpy_dtype(dtype))
    with np.errstate(over="ignore"):
        return array.to_numpy(zero_copy_only=False).astype(dtype, copy=False)


def _booleans(table: pa.Table, name: str) -> NDArray[np.bool_]:
    array = _column(table, name)
    if not pa.types.is_boolean(array.type):
        raise BadMessageError("type", f"{name} is {array.type}, not a boolean")
    return array.to_numpy(zero_copy_only=False)


def _vectors(table: pa.Table, name: str, width: int) -> NDArray[np.float32]:
    array = _column(table, name)
    if pa.types.is_fixed_size_list(array.type):
        found = array.type.list_size
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
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


def _terms(table: pa.Table, names: tuple[str, ...], rows: int) -> NDArray[np.float32]:
    """Return float32[N, K] from a struct column, NaN where absent; fields that the task has not are ignored."""
    out = np.full((rows, len(names)), np.nan, np.float32)
    if "reward_terms" not in table.column_names or not names:
        return out
    array = table.column("reward_terms").combine_chunks()
    if not pa.types.is_struct(array.type):
        raise BadMessageError("type", f"reward_terms is {array.type}, not a struct")
    for k, name in enumerate(names):
        if array.type.get_field_index(name) >= 0:
            out[:, k] = _nullable(pc.struct_field(array, name), name, np.float32)
    return out


def _nullable(array: Any, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    """Cast a column of floats, NaN where null."""
    if pa.types.is_null(array.type):
        return np.full(len(array), np.nan, dtype)
    values = _cast(array.fill_null(0), name, dtype)
    if not array.null_count:
        return values
    return np.where(array.is_null().to_numpy(zero_copy_only=False), np.nan, values)


def _absent(table: pa.Table, name: str, rows: int) -> NDArray[np.float32]:
    if name not in table.column_names:
        return np.full(rows, np.nan, np.float32)
    return _nullable(table.column(name).combine_chunks(), name, np.float32)


def _versions(table: pa.Table, rows: int) -> NDArray[np.int64]:
    if "policy_version" not in table.column_names:
        return np.full(rows, NO_POLICY_VERSION, np.int64)
    array = table.column("policy_version").combine_chunks()
    if pa.types.is_null(array.type):
        return np.full(rows, NO_POLICY_VERSION, np.int64)
    values = _cast(array.fill_null(0), "policy_version", np.int64)
    if (values < 0).any():
        raise BadMessageError("type", "policy_version is negative")
    if not array.null_count:
        return values
    return np.where(array.is_null().to_numpy(zero_copy_only=False), NO_POLICY_VERSION, values)
