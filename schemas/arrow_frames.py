"""The frames of an Arrow IPC stream, looked at before Arrow itself reads them: what they would unpack to is bounded.

A frame is a length, a flatbuffer of metadata and a body (arrow/format/Message.fbs). Arrow checks that all of it is
within the message, but a compressed buffer may claim to unpack to any size, and is given that memory first.
"""

import struct
from functools import lru_cache

from headrace.schemas.checker import BadMessageError

MAX_UNPACKED_BYTES = 64 << 20
"""What the compressed buffers of one message may claim to hold."""

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_int16 = struct.Struct("<H").unpack_from
_int32 = struct.Struct("<i").unpack_from
_int64 = struct.Struct("<q").unpack_from


def check_frames(value: bytes) -> bytes:
    """Return a stream's first frame, which holds its schema; raises BadMessageError."""
    try:
        return _check(value)
    except (struct.error, IndexError, OverflowError) as error:
        raise BadMessageError("syntax", f"not a valid Arrow stream: {error}"[:200]) from error


def _check(value: bytes) -> bytes:
    place, shape, unpacked = 0, b"", 0
    while place + 4 <= len(value):
        (size,) = _int32(value, place)
        place += 4
        if size == -1:  # since Arrow 0.15 a marker comes before the length
            (size,) = _int32(value, place)
            place += 4
        if size == 0:
            return _ended(value, place, shape)
        metadata = value[place : place + size]
        if size < 0 or len(metadata) < size:
            raise BadMessageError("syntax", f"not a valid Arrow stream: a frame of {size} bytes at byte {place}")
        place += size
        shape = shape or value[:place]
        body_bytes, packed = _frame(metadata)
        for offset in packed:
            unpacked += max(0, _int64(value, place + offset)[0])
        if unpacked > MAX_UNPACKED_BYTES:
            raise BadMessageError("size", f"would unpack to {unpacked} bytes; {MAX_UNPACKED_BYTES} are allowed")
        place += body_bytes
    return _ended(value, min(place, len(value)), shape)


def _ended(value: bytes, end: int, shape: bytes) -> bytes:
    """Return the shape of a stream that ends with its message: a reader would pass over what comes after it."""
    if end < len(value):
        reason = f"{len(value) - end} bytes after the end of the Arrow stream: send one stream a message"
        raise BadMessageError("syntax", reason)
    return shape


@lru_cache(maxsize=512)
def _frame(metadata: bytes) -> tuple[int, tuple[int, ...]]:
    """Return the body's size, and where in it compressed buffers begin. Frames of one producer are much alike."""
    message = _int32(metadata, 0)[0]
    kind, header, body = (_field(metadata, message, number) for number in (1, 2, 3))
    body_bytes = _int64(metadata, body)[0] if body else 0
    if body_bytes < 0 or not kind or not header:
        raise BadMessageError("syntax", "not a valid Arrow stream: a frame's metadata is damaged")
    batch = header + _int32(metadata, header)[0]
    if metadata[kind] == _DICTIONARY_BATCH:
        data = _field(metadata, batch, 1)
        batch = data + _int32(metadata, data)[0]
    elif metadata[kind] != _RECORD_BATCH:
        return body_bytes, ()
    if not _field(metadata, batch, 3):
        return body_bytes, ()
    return body_bytes, _buffers(metadata, batch)


def _buffers(metadata: bytes, batch: int) -> tuple[int, ...]:
    """Return where the buffers of a RecordBatch begin that are long enough to begin with their unpacked length."""
    field = _field(metadata, batch, 2)
    if not field:
        return ()
    vector = field + _int32(metadata, field)[0]
    (count,) = _int32(metadata, vector)
    places = range(vector + 4, vector + 4 + 16 * count, 16)
    return tuple(_int64(metadata, place)[0] for place in places if _int64(metadata, place + 8)[0] >= 8)


def _field(metadata: bytes, table: int, number: int) -> int:
    """Return where a field of a flatbuffer's table is, 0 if it is absent."""
    vtable = table - _int32(metadata, table)[0]
    slot = 4 + 2 * number
    (size,) = _int16(metadata, vtable)
    offset = _int16(metadata, vtable + slot)[0] if slot + 2 <= size else 0
    return table + offset if offset else 0
