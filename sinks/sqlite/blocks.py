"""Records in blocks, as the log on SQLite holds them: those of one send and partition together."""

import sqlite3
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Final

import msgspec

from headrace.schemas.ports import Headers, Record

BLOCK_RECORDS: Final = 512
BLOCK_BYTES: Final = 1 << 22

_AT: Final = "SELECT max(id) FROM blocks WHERE id >= ? AND id <= ?"

_encoder = msgspec.msgpack.Encoder()


class Block(msgspec.Struct, array_like=True, frozen=True):
    """Consecutive records of one partition, as columns; headers: None where no record has any."""

    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers] | None


decode = msgspec.msgpack.Decoder(Block).decode


def blocks(records: list[Record], first_id: int, append_ts: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield records as rows of the table, in blocks that are not too large. first_id: of the first record."""
    size = len(records)
    fits = size == 1 or sum(len(record.value or b"") for record in records) <= BLOCK_BYTES
    if fits and size <= BLOCK_RECORDS:
        keys, values = [record.key for record in records], [record.value for record in records]
        headers = [record.headers for record in records]
        block = Block(keys, values, headers if any(headers) else None)
        yield first_id, append_ts, _encoder.encode(block)
        return
    step = BLOCK_RECORDS if fits else (size + 1) // 2
    for i in range(0, size, step):
        yield from blocks(records[i : i + step], first_id + i, append_ts)


def overwrite(connection: sqlite3.Connection, first_id: int, records: Mapping[int, Record]) -> None:
    """Put other records in the place of some of a partition, by offset. first_id: of its first record.

    What was there is wiped from the file's pages.
    """
    connection.execute("PRAGMA secure_delete = ON")

    def block_of(offset: int) -> int:
        found: int = connection.execute(_AT, (first_id, first_id + offset)).fetchone()[0]
        return found

    for block_id, offsets in groupby(sorted(records), block_of):
        (data,) = connection.execute("SELECT records FROM blocks WHERE id = ?", (block_id,)).fetchone()
        block = decode(data)
        headers = block.headers or [()] * len(block.values)
        for offset in offsets:
            place, record = first_id + offset - block_id, records[offset]
            block.keys[place], block.values[place], headers[place] = record.key, record.value, record.headers
        changed = Block(block.keys, block.values, headers if any(headers) else None)
        connection.execute("UPDATE blocks SET records = ? WHERE id = ?", (_encoder.encode(changed), block_id))
