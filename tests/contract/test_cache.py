"""What every cache does: entries by reference, exactly as they were put, or nothing."""

from contract_chunks import chunk
from hypothesis import given
from hypothesis import strategies as st

from headrace.schemas.ports import Cache
from headrace.schemas.records import ChunkReference
from headrace.sinks.memory import ENTRY_BYTES, MemoryCache


def reference(segment: int, rows: int = 3) -> ChunkReference:
    return ChunkReference("task", 1, 0, 0, segment, 0, rows, 7)


def test_what_was_put_is_got_in_the_order_asked_for(cache: Cache, name: str) -> None:
    rows = [chunk(name, segment=segment) for segment in range(5)]
    cache.put([(row.reference, row.payload) for row in rows])
    wanted = [rows[3], rows[0], rows[3]]
    assert cache.get([row.reference for row in wanted]) == [row.payload for row in wanted]


def test_what_was_not_put_is_a_miss(cache: Cache, name: str) -> None:
    row = chunk(name)
    cache.put([(row.reference, row.payload)])
    absent = chunk(name, segment=1).reference
    assert cache.get([absent, row.reference, absent]) == [None, row.payload, None]
    assert cache.get([]) == []
    cache.put([])


def test_a_row_that_has_grown_is_another_entry(cache: Cache, name: str) -> None:
    early, late = chunk(name, rows=3), chunk(name, rows=9)
    cache.put([(early.reference, early.payload)])
    assert cache.get([late.reference]) == [None]
    cache.put([(late.reference, late.payload)])
    assert cache.get([early.reference, late.reference]) == [early.payload, late.payload]


def test_putting_again_changes_nothing(cache: Cache, name: str) -> None:
    row = chunk(name)
    for _ in range(3):
        cache.put([(row.reference, row.payload)] * 2)
    assert cache.get([row.reference]) == [row.payload]


def test_memory_forgets_what_was_used_longest_ago() -> None:
    cache = MemoryCache(3 * (ENTRY_BYTES + 10))
    for segment in (1, 2, 3):
        cache.put([(reference(segment), bytes(10))])
    cache.get([reference(1)])
    cache.put([(reference(4), bytes(10))])
    assert [payload is not None for payload in cache.get([reference(s) for s in (1, 2, 3, 4)])] == [
        True,
        False,
        True,
        True,
    ]


def test_memory_does_not_empty_itself_for_an_entry_that_can_never_fit() -> None:
    cache = MemoryCache(2 * ENTRY_BYTES)
    cache.put([(reference(1), bytes(10)), (reference(2), bytes(2 * ENTRY_BYTES))])
    assert cache.get([reference(1), reference(2)]) == [bytes(10), None]


def test_memory_is_empty_when_closed() -> None:
    cache = MemoryCache(10_000)
    cache.put([(reference(1), b"x")])
    cache.close()
    assert (cache.used_bytes, cache.get([reference(1)])) == (0, [None])


@given(
    max_bytes=st.integers(0, 6 * ENTRY_BYTES),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 2 * ENTRY_BYTES)), max_size=60),
)
def test_memory_stays_within_its_bytes_and_never_gives_anything_else(
    max_bytes: int, steps: list[tuple[bool, int, int]]
) -> None:
    cache = MemoryCache(max_bytes)
    put: dict[int, bytes] = {}
    for write, segment, size in steps:
        if write:
            # An entry never changes, so a reference has one payload.
            put.setdefault(segment, bytes([segment]) * size)
            cache.put([(reference(segment), put[segment])])
        (found,) = cache.get([reference(segment)])
        assert found in {None, put.get(segment)}
        kept = sum(ENTRY_BYTES + len(payload) for payload in cache._entries.values())
        assert cache.used_bytes == kept <= max_bytes


def test_what_is_forgotten_is_a_miss(cache: Cache, name: str) -> None:
    old, new, other = chunk(name), chunk(name, window=1), chunk(f"{name}-b")
    cache.put([(row.reference, row.payload) for row in (old, new, other)])
    assert cache.forget(name, new.key.start_ms) == 1
    found = cache.get([row.reference for row in (old, new, other)])
    assert found == [None, new.payload, other.payload]
    assert cache.forget(name, new.key.start_ms) == 0
