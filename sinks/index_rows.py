"""What the indexes have in common: rows as their tables give them, and the layout."""

from collections.abc import Sequence
from typing import Any

import msgspec

from headrace.schemas.chunk import ChunkRow
from headrace.schemas.errors import StorageError
from headrace.schemas.records import ChunkKey, Layout, WindowKey, WindowRow


def chunk_row(values: Sequence[Any]) -> ChunkRow:
    """Return a chunk's row. values: its key, rows, received, checksum, stats and payload."""
    *key, rows, received, checksum, stats, payload = values
    return ChunkRow(ChunkKey(*key), rows, received, checksum, payload, stats)


def window_row(values: Sequence[Any]) -> WindowRow:
    """Return a window's row. values: its key, write time and summary."""
    return WindowRow(WindowKey(*values[:-2]), *values[-2:])


def read_layout(found: Sequence[Sequence[Any]], place: object) -> Layout | None:
    """Return the layout in the one row that was found; raises StorageError, which names the index."""
    try:
        return msgspec.json.decode(found[0][0], type=Layout) if found else None
    except msgspec.MsgspecError as error:
        raise StorageError(f"{place}: its layout can't be read ({error}): use the headrace that wrote it") from error
