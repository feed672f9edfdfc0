"""Other Arrow types that hold the same values, such as Polars writes: cast to plain ones, without loss."""

from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.arrow_frames import MAX_UNPACKED_BYTES
from headrace.schemas.checker import BadMessageError


def plain(table: pa.Table) -> pa.Table:
    """Cast views of strings to strings, dictionaries of numbers to numbers, and extensions to what they hold."""
    for place, field in enumerate(table.schema):
        wanted = _plain(field.type)
        if wanted != field.type:
            table = table.set_column(place, field.name, table.column(place).cast(wanted))
    return table


def _plain(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):  # such as a tensor, or a boolean of a byte
        return pa.bool_() if isinstance(kind, pa.Bool8Type) else _plain(kind.storage_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_dictionary(kind) and pa.types.is_string_view(kind.value_type):
        return pa.dictionary(kind.index_type, pa.string())
    if pa.types.is_dictionary(kind) and pa.types.is_primitive(kind.value_type):
        return kind.value_type
    return kind


def is_string(kind: pa.DataType) -> bool:
    """Whether a plain column holds text, dictionary-coded or not."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists whose lengths may differ."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or _is_list_view(kind))


def _is_list_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def check_views(shape: bytes, batch: pa.RecordBatch) -> None:
    """Bound what a message's views would become: many of them may show the same bytes. Raises BadMessageError."""
    for place in _views(shape):
        array = batch.column(place)
        if _is_list_view(array.type):
            size = 8 * (pc.sum(pc.list_value_length(array)).as_py() or 0)
        else:
            size = _text_bytes(array.dictionary if pa.types.is_dictionary(array.type) else array)
        if size > MAX_UNPACKED_BYTES:
            raise BadMessageError("size", f"would unpack to {size} bytes; {MAX_UNPACKED_BYTES} are allowed")


@lru_cache(maxsize=512)
def _views(shape: bytes) -> tuple[int, ...]:
    """Return the places of a schema's columns that are views."""
    kinds = [field.type for field in pa.ipc.read_schema(pa.py_buffer(shape))]
    values = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in kinds]
    return tuple(i for i, kind in enumerate(values) if pa.types.is_string_view(kind) or _is_list_view(kind))


def _text_bytes(array: Any) -> int:  # noqa: ANN401 a StringViewArray
    """Return the sum of the texts' lengths: the first four of the sixteen bytes of each view."""
    words = np.frombuffer(array.buffers()[1] or b"", np.int32)
    return int(words[4 * array.offset : 4 * (array.offset + len(array)) : 4].clip(0).sum(dtype=np.int64))
