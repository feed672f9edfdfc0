"""Chunks read through a cache: the same rows whatever the cache holds, forgets or damages."""

import numpy as np
import pytest
from contract_chunks import chunk, transitions

from headrace.schemas.chunk import ChunkRow, encode_chunk
from headrace.schemas.errors import CorruptDataError, UnavailableError
from headrace.schemas.payload import payload_bytes
from headrace.schemas.ports import Cache, Index
from headrace.schemas.records import ChunkReference
from headrace.sinks.chunks import CachedChunks


class DownCache:
    """A cache whose server doesn't answer."""

    def get(self, references: object) -> list[bytes | None]:
        raise UnavailableError("redis: no answer")

    def put(self, entries: object) -> None:
        raise UnavailableError("redis: no answer")

    def close(self) -> None:
        pass


@pytest.fixture
def rows(index: Index, name: str) -> list[ChunkRow]:
    found = [chunk(name, segment=segment, rows=8 + segment) for segment in range(4)]
    index.put(found, [])
    index.flush()
    return found


def check(chunks: CachedChunks, wanted: list[ChunkReference]) -> None:
    """The rows that come are those of the references, in their order."""
    batches = chunks.transitions(wanted)
    assert [payload_bytes(batch) for batch in batches] == [
        payload_bytes(transitions(r.task, r.rows, seed=r.segment)) for r in wanted
    ]


def test_misses_are_read_once_and_then_hit(index: Index, cache: Cache, rows: list[ChunkRow]) -> None:
    chunks = CachedChunks(index, cache)
    references = [row.reference for row in rows]
    check(chunks, references[1:3])
    assert (chunks.hits, chunks.misses) == (0, 2)
    check(chunks, references[::-1])
    assert (chunks.hits, chunks.misses) == (2, 4)
    check(chunks, references)
    assert (chunks.hits, chunks.misses) == (6, 4)
    check(chunks, [])


def test_what_is_remembered_needs_no_index(index: Index, cache: Cache, name: str) -> None:
    row = chunk(name)
    chunks = CachedChunks(index, cache)
    chunks.remember([row])
    check(chunks, [row.reference])
    assert (chunks.hits, chunks.misses) == (1, 0)


def test_a_reference_to_a_row_that_has_grown_gives_its_own_rows(
    index: Index, cache: Cache, rows: list[ChunkRow]
) -> None:
    """And what is cached for it is those rows alone: the next read checks them against the reference."""
    early = chunk(rows[0].key.task, rows=3).reference
    chunks = CachedChunks(index, cache)
    check(chunks, [early, rows[0].reference])
    (cached,) = cache.get([early])
    assert cached == encode_chunk(transitions(early.task, 3))[0]
    check(chunks, [early, rows[0].reference])
    assert (chunks.hits, chunks.misses) == (2, 2)


def test_a_missing_chunk_is_named(index: Index, cache: Cache, rows: list[ChunkRow], name: str) -> None:
    absent = chunk(name, group=7).reference
    with pytest.raises(CorruptDataError, match=f"{name}/7/.*missing"):
        CachedChunks(index, cache).transitions([rows[0].reference, absent])


def test_rows_that_are_not_the_reference_s_are_refused(index: Index, cache: Cache, rows: list[ChunkRow]) -> None:
    r = rows[0].reference
    other = ChunkReference(r.task, r.group, r.start_ms, r.partition, r.segment, r.part, 5, 12_345)
    with pytest.raises(CorruptDataError, match=r"other rows"):
        CachedChunks(index, cache).transitions([other])
    assert cache.get([other]) == [None]


@pytest.mark.parametrize("damage", [b"", b"not zstd", encode_chunk(transitions("task", 2))[0]])
def test_a_damaged_entry_is_a_miss_and_is_mended(
    index: Index, cache: Cache, rows: list[ChunkRow], damage: bytes
) -> None:
    reference = rows[0].reference
    cache.put([(reference, damage)])
    chunks = CachedChunks(index, cache)
    check(chunks, [reference])
    assert (chunks.hits, chunks.misses) == (0, 1)
    check(chunks, [reference])
    assert chunks.hits == 1


def test_a_cache_that_is_down_is_a_miss(index: Index, rows: list[ChunkRow]) -> None:
    chunks = CachedChunks(index, DownCache())
    chunks.remember(rows)
    for _ in range(2):
        check(chunks, [row.reference for row in rows])
    assert (chunks.hits, chunks.misses) == (0, 8)


def test_columns_come_back_as_they_were(index: Index, cache: Cache, rows: list[ChunkRow]) -> None:
    (batch,) = CachedChunks(index, cache).transitions([rows[2].reference])
    assert np.array_equal(batch.obs, transitions(batch.task, 10, seed=2).obs)
    assert batch.agents == ("agent-1",)
