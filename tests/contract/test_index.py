"""What every index does: the greater write time wins, ranges come in key order, flush makes durable."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import msgspec
import pytest
from contract_chunks import chunk, window_row, window_start
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.schemas.chunk import ChunkRow
from headrace.schemas.ports import Forgotten, Index
from headrace.schemas.records import Layout

OpenIndex = Callable[[], Index]


def put(index: Index, *rows: ChunkRow) -> None:
    index.put(rows, [])
    index.flush()


def test_the_first_layout_stays(open_index: OpenIndex) -> None:
    index = open_index()
    first = Layout(log="a", segment=64)
    assert index.layout() is None
    assert index.layout(first) == first
    assert index.layout(Layout(log="b")) == first
    assert open_index().layout() == first


def test_a_chunk_is_read_as_it_was_put(open_index: OpenIndex, name: str) -> None:
    index, row = open_index(), chunk(name, 3, 1, 2, 16_384, 1, rows=50)
    put(index, row)
    for handle in (index, open_index()):
        (found,) = handle.chunks([row.reference])
        assert found is not None
        assert fields(found) == fields(row)


def fields(row: ChunkRow) -> tuple[object, ...]:
    return row.key, row.rows, row.received, row.checksum, row.payload, row.stats


def test_references_are_answered_one_by_one_in_their_order(index: Index, name: str) -> None:
    rows = [chunk(name, segment=segment) for segment in range(4)]
    put(index, *rows)
    wanted = [rows[2].reference, chunk(name, group=9).reference, rows[0].reference, rows[2].reference]
    found = index.chunks(wanted)
    assert [row and row.reference for row in found] == [wanted[0], None, wanted[2], wanted[0]]
    assert index.chunks([]) == []


def test_a_reference_finds_the_row_that_has_grown(index: Index, name: str) -> None:
    early = chunk(name, rows=3)
    put(index, early)
    put(index, chunk(name, rows=9))
    (found,) = index.chunks([early.reference])
    assert found is not None
    assert found.rows == 9


def test_a_zombie_cannot_undo_newer_work(open_index: OpenIndex, name: str) -> None:
    """Another process that is behind writes the same keys with fewer rows, after the newer ones."""
    index, zombie = open_index(), open_index()
    newer, older = chunk(name, rows=9), chunk(name, rows=3)
    index.put([newer], [window_row(name, received=9)])
    index.flush()
    zombie.put([older], [window_row(name, received=3)])
    zombie.flush()
    (found,) = index.chunks([newer.reference])
    assert found is not None
    assert fields(found) == fields(newer)
    assert list(index.windows(name)) == [window_row(name, received=9)]


def test_an_equal_write_time_changes_nothing_in_rows_that_are_equal(index: Index, name: str) -> None:
    row = chunk(name)
    put(index, row)
    put(index, row, row)
    assert [fields(found) for found in index.scan(name)] == [fields(row)]


def test_what_is_replaced_is_good_again_and_grows_no_less(index: Index, name: str) -> None:
    """A damaged row of the same write time, or a later one, is written over."""
    good, window = chunk(name, rows=5), window_row(name, received=5)
    damaged = replace(good, payload=good.payload[:-3] + b"zzz", stats=b"zz", checksum=good.checksum ^ 0x40)
    later = replace(good, received=good.received + 9, payload=b"")
    for bad in (damaged, later):
        index.put([bad], [msgspec.structs.replace(window, summary=b"{}")])
        index.flush()
        index.replace([good], [window])
        (found,) = index.chunks([good.reference])
        assert found is not None
        assert fields(found) == fields(good)
        assert list(index.windows(name)) == [window]
        assert index.window(window.key) == window


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_order_of_writes_and_flushes_shows(index: Index, name: str, data: st.DataObject) -> None:
    """Growing rows put in any order, any number of times and flushed anywhere, leave the greatest of each key."""
    task = f"{name}-{data.draw(st.uuids()).hex[:8]}"
    versions = [chunk(task, segment=segment, rows=rows) for segment in range(3) for rows in (2, 5, 7)]
    for row in data.draw(st.permutations(versions)) + data.draw(st.lists(st.sampled_from(versions), max_size=5)):
        index.put([row], [window_row(task, received=row.received)])
        if data.draw(st.booleans()):
            index.flush()
    index.flush()
    assert [fields(row) for row in index.scan(task)] == [fields(versions[i]) for i in (2, 5, 8)]
    assert list(index.windows(task)) == [window_row(task, received=8)]


@pytest.fixture
def filled(index: Index, name: str) -> list[ChunkRow]:
    """2 tasks, 3 groups, 4 windows, 2 partitions, 2 segments, put in an order of no meaning; in key order."""
    places = list(product((name, f"{name}-b"), (0, 5, 64), range(4), (0, 1), (0, 128)))
    rows = [chunk(*place) for place in places]
    index.put(rows[::-7] + rows, [window_row(*place[:4]) for place in places])
    index.flush()
    return sorted(rows, key=lambda row: row.key)


TASKS = (None, "", "-b", "-c")
WINDOWS = ((None, None), (1, 3), (2, None), (None, 2), (3, 3), (9, None))
PLACES = ((None, None), (1, None), (None, 5), (1, 64), (7, None), (None, 6))


def test_a_scan_gives_the_range_in_key_order(index: Index, filled: list[ChunkRow], name: str) -> None:
    for suffix, (first, last), (partition, group) in product(TASKS, WINDOWS, PLACES):
        task = None if suffix is None else name + suffix
        start_ms = None if first is None else window_start(first)
        end_ms = None if last is None else window_start(last)
        wanted = [
            row.key
            for row in filled
            if task in {None, row.key.task}
            and (start_ms is None or start_ms <= row.key.start_ms)
            and (end_ms is None or row.key.start_ms < end_ms)
            and partition in {None, row.key.partition}
            and group in {None, row.key.group}
        ]
        found = [row.key for row in index.scan(task, start_ms, end_ms, partition, group)]
        assert found == wanted, (suffix, first, last, partition, group)


def test_a_scan_without_payload_leaves_out_only_that(index: Index, filled: list[ChunkRow], name: str) -> None:
    bare = list(index.scan(name, payload=False))
    assert [fields(row) for row in bare] == [
        fields(replace(row, payload=b"")) for row in filled if row.key.task == name
    ]


def test_a_range_of_windows_in_key_order(index: Index, filled: list[ChunkRow], name: str) -> None:
    keys = sorted({row.key.window for row in filled})
    assert [row.key for row in index.windows()] == keys
    assert [row.key for row in index.windows(name, window_start(1), window_start(3))] == [
        key for key in keys if key.task == name and window_start(1) <= key.start_ms < window_start(3)
    ]
    row = window_row(name, 5, 2, 1)
    assert index.window(row.key) == row
    assert index.window(msgspec.structs.replace(row.key, group=6)) is None


def test_a_scan_of_thousands_while_rows_are_written(index: Index, name: str) -> None:
    rows = [chunk(name, segment=segment, rows=1) for segment in range(0, 2600, 2)]
    put(index, *rows)
    found = []
    for row in index.scan(name, payload=False):
        found.append(row.key.segment)
        if len(found) % 500 == 0:
            later = chunk(name, segment=99_999 + len(found))
            put(index, later)
            assert index.chunks([later.reference]) != [None]
    assert found[:1300] == [row.key.segment for row in rows]
    assert len(list(index.scan(name))) == 1302


def test_what_is_forgotten_is_counted_first_and_then_gone(index: Index, filled: list[ChunkRow], name: str) -> None:
    """Of one task, before a time; what grows after that is there again."""
    old = [row for row in filled if row.key.task == name and row.key.start_ms < window_start(2)]
    windows = {row.key.window for row in old}
    for remove in (False, True):
        assert len(list(index.scan())) == len(filled)
        gone = index.forget(name, window_start(2), remove=remove)
        assert (gone.chunks, gone.windows, gone.decisions) == (len(old), len(windows), 0)
    left = [row.key for row in filled if row not in old]
    assert [row.key for row in index.scan()] == left
    assert [row.key for row in index.windows()] == sorted({key.window for key in left})
    assert index.forget(name, window_start(2), remove=True) == Forgotten(0, 0, 0)
    put(index, replace(old[0], received=old[0].received + 1))
    assert index.chunks([old[0].reference]) != [None]


def test_a_flush_of_nothing_is_nothing(index: Index) -> None:
    index.flush()
    index.put([], [])
    index.flush()
    assert list(index.scan()) == list(index.windows()) == []
