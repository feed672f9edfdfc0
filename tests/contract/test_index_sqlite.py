"""What the SQLite index promises beyond the port: disks and processes that fail, and queries that use the key."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from contract_chunks import chunk, window_row
from contract_faults import child, file_size_limit

from headrace.schemas.errors import StorageError, UnavailableError
from headrace.schemas.records import Layout
from headrace.sinks.sqlite import index as index_sqlite
from headrace.sinks.sqlite.index import SqliteIndex

WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from contract_chunks import chunk, window_row
from headrace.sinks.sqlite.index import SqliteIndex

index = SqliteIndex(sys.argv[1])
rows = 1 + max([row.rows for row in index.scan("task", payload=False)], default=0)
while True:
    index.put([chunk("task", segment=segment, rows=rows) for segment in range(5)], [window_row("task", received=rows)])
    index.flush()
    print(rows, flush=True)
    rows += 1
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.db"


@pytest.fixture
def index(path: Path) -> Iterator[SqliteIndex]:
    with closing(SqliteIndex(path)) as opened:
        yield opened


def test_kill_9_loses_nothing_flushed_and_leaves_no_half(path: Path, index: SqliteIndex) -> None:
    for lines in (1, 15, 30):
        with child(WRITER, path, Path(__file__).parent) as writer:
            assert writer.stdout
            flushed = [int(writer.stdout.readline()) for _ in range(lines)][-1]
        rows = {row.rows for row in index.scan("task")}
        assert len(rows) == 1
        assert max(rows) >= flushed
        assert list(index.windows("task")) == [window_row("task", received=max(rows))]


def test_what_a_full_disk_refused_is_kept_for_the_next_flush(path: Path, index: SqliteIndex) -> None:
    index.put([chunk("task", rows=2)], [])
    index.flush()
    index.put([chunk("task", rows=40, segment=segment) for segment in range(600)], [])
    with file_size_limit(1 << 18), pytest.raises(StorageError, match=rf"{path}: flush failed .*disk"):
        index.flush()
    assert [row.rows for row in index.scan("task")] == [2]
    index.flush()
    assert [row.rows for row in index.scan("task")] == [40] * 600


def test_puts_without_a_flush_stay_bounded(index: SqliteIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_sqlite, "_BUFFER_BYTES", 5_000)
    for segment in range(20):
        before = index._buffered_bytes
        index.put([chunk("task", segment=segment, rows=10)], [window_row("task", group=segment)])
        assert before < 5_000 or index._buffered_bytes < before
    assert 10 < len(list(index.scan("task"))) < 20
    index.flush()
    assert (index._chunks, index._windows, index._buffered_bytes) == ([], [], 0)


def test_a_put_that_is_refused_takes_nothing_and_may_be_tried_again(
    path: Path, index: SqliteIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process holds the file: the same rows are put again and again, as ingest does."""
    monkeypatch.setattr(index_sqlite, "_BUFFER_BYTES", 1_000)
    index._writer._connection.execute("PRAGMA busy_timeout = 10")
    rows = [chunk("task", segment=segment, rows=40) for segment in range(5)]
    index.put(rows, [])
    kept = (len(index._chunks), index._buffered_bytes)
    assert kept[1] > 1_000
    more = [chunk("task", segment=segment, rows=40) for segment in range(5, 10)]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            with pytest.raises(UnavailableError, match="locked"):
                index.put(more, [])
            assert (len(index._chunks), index._buffered_bytes) == kept
    index.put(more, [])
    index.flush()
    assert sorted(row.key.segment for row in index.scan("task")) == [*range(10)]


@pytest.mark.parametrize(
    "sql",
    [
        index_sqlite._SCAN_ALL,
        index_sqlite._SCAN_BARE,
        index_sqlite._SCAN_WINDOWS,
        index_sqlite._GET_CHUNK,
        index_sqlite._GET_WINDOW,
        *index_sqlite._NEXT_TASK.values(),
        *index_sqlite._NEXT_GROUP.values(),
    ],
)
def test_no_query_reads_a_whole_table_or_sorts(index: SqliteIndex, sql: str) -> None:
    parameters = (None,) * (9 if "?9" in sql else sql.count("?"))
    plan = " ".join(row[-1] for row in index._reader.rows(f"EXPLAIN QUERY PLAN {sql}", parameters))
    assert "SEARCH" in plan
    assert "SCAN" not in plan
    assert "B-TREE" not in plan


def test_a_scan_without_payload_does_not_read_it(index: SqliteIndex) -> None:
    columns = [row[1] for row in index._reader.rows("PRAGMA table_info(chunks)")]
    assert columns[-2:] == ["stats", "payload"]


def test_a_layout_that_cannot_be_read_stops(index: SqliteIndex) -> None:
    index.layout(Layout(log="a"))
    with index._writer.transaction("damage") as connection:
        connection.execute("UPDATE layout SET layout = '{}'")
    with pytest.raises(StorageError, match="layout can't be read"):
        index.layout()


def test_a_closed_index_may_be_closed_again(index: SqliteIndex) -> None:
    index.put([chunk("task")], [])
    index.close()
    index.close()
