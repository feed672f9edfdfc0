"""What the SQLite log promises beyond the port: compare-and-set, fairness, and disks and processes that fail."""

import sqlite3
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from contract_faults import child, file_size_limit, unprivileged
from contract_polling import assigned, batches, ended, poll_until, values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.schemas.errors import CommitConflictError, SettingsError, StorageError, UnavailableError
from headrace.schemas.ports import Commit, MessageBatch, Record, Revoked
from headrace.sinks.sqlite import blocks
from headrace.sinks.sqlite import database as sqlite
from headrace.sinks.sqlite.log import SqliteLog

NOW = 1_700_000_000_000
PARTITIONS = 3
BATCH = 60

WRITER = """
import sys
from headrace.schemas.ports import Commit, Record
from headrace.sinks.sqlite.log import SqliteLog

log = SqliteLog(sys.argv[1], lambda: 1_700_000_000_000)
subscription = log.subscribe("group", "t")
subscription.poll(1, 0)
done = sum(log.bounds("t", p)[1] for p in range(3)) // 60
while True:
    records = [Record("t", None, b"%d" % (done * 60 + i), partition=i % 3) for i in range(60)]
    outputs = [Record("out", b"k", b"%d" % done)]
    log.send(records)
    subscription.commit({0: Commit(done + 1)}, outputs)
    done += 1
    print(done, flush=True)
"""

READER = """
import sys
from headrace.sinks.sqlite.log import SqliteLog

log = SqliteLog(sys.argv[1], lambda: 0)

for line in sys.stdin:
    print(len(log.read("t", 0, 0, 1000)), flush=True)
"""

READ_ONLY = """
import sys
from headrace.schemas.errors import StorageError
from headrace.schemas.ports import Record
from headrace.sinks.sqlite.log import SqliteLog

try:
    log = SqliteLog(sys.argv[1], lambda: 0)
    log.send([Record("t", b"k", b"v")])
except StorageError as error:
    print(error)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "er" / "log.db"


@pytest.fixture
def log(path: Path) -> Iterator[SqliteLog]:
    with closing(SqliteLog(path, lambda: NOW)) as opened:
        opened.create("t", PARTITIONS)
        opened.create("out", 1)
        yield opened


def one(value: bytes = b"v") -> list[Record]:
    return [Record("t", b"k", value, partition=0)]


def test_a_refused_commit_names_what_stands(log: SqliteLog) -> None:
    """Members of one group do not know of each other: whichever commits first wins, turn by turn."""
    log.send(one() * 10)
    first, second = log.subscribe("group", "t"), log.subscribe("group", "t")
    with closing(first), closing(second):
        for member in (first, second):
            poll_until(member, ended(PARTITIONS))
        first.commit({0: Commit(4, "first")})
        with pytest.raises(CommitConflictError, match=r"group.*partition 0.*offset 4.*so 7 is refused"):
            second.commit({0: Commit(7)})
        events = poll_until(second, ended(PARTITIONS))
        assert events[:PARTITIONS] == [Revoked(p) for p in range(PARTITIONS)]
        second.commit({0: Commit(10)})
        with pytest.raises(CommitConflictError):
            first.commit({0: Commit(9)})
    assert log.committed("group", "t") == {0: Commit(10)}


def test_partitions_take_turns(log: SqliteLog) -> None:
    log.send([Record("t", None, b"v", partition=p) for p in range(PARTITIONS) for _ in range(20)])
    with closing(log.subscribe("group", "t")) as subscription:
        poll_until(subscription, assigned(PARTITIONS))
        polls = [subscription.poll(8, 0) for _ in range(9)]
    read = [[(b.partition, len(b)) for b in batches(events)] for events in polls]
    assert read == [[(0, 8)], [(1, 8)], [(2, 8)]] * 2 + [[(0, 4), (1, 4)], [(2, 4)], []]


def test_a_poll_wakes_up_for_another_thread(log: SqliteLog) -> None:
    with closing(log.subscribe("group", "t")) as subscription:
        poll_until(subscription, ended(PARTITIONS))
        sender = threading.Timer(0.05, log.send, [one()])
        sender.start()
        events = subscription.poll(10, 5.0)
        sender.join()
    assert values(events) == {0: [b"v"]}


def test_the_append_time_survives_a_clock_that_runs_backwards(path: Path, log: SqliteLog) -> None:
    log.send(one())
    with closing(SqliteLog(path, lambda: NOW - 5)) as slow:
        slow.send(one())
    with closing(SqliteLog(path, lambda: NOW + 5)) as fast:
        fast.send(one())
    assert log.read("t", 0, 0, 9).append_ts.tolist() == [NOW, NOW, NOW + 5]


@given(
    sends=st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=8),
    reads=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 30)), max_size=8),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_never_show(log: SqliteLog, sends: list[list[int]], reads: list[tuple[int, int]]) -> None:
    """However records were cut into blocks, any offset and limit give what a list of them would."""
    topic = uuid.uuid4().hex
    log.create(topic, 1)
    model: list[tuple[bytes | None, bytes]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK_RECORDS", 5)
        patch.setattr(blocks, "BLOCK_BYTES", 60)
        for number, sizes in enumerate(sends):
            sent = [(b"%d" % number if size % 2 else None, b"x" * size) for size in sizes]
            log.send([Record(topic, key, value, (("n", key),) if key else ()) for key, value in sent])
            model += sent
    for offset, limit in [*reads, (0, 1000)]:
        assert_like(log.read(topic, 0, offset, limit), model, offset, limit)


def assert_like(batch: MessageBatch, model: list[tuple[bytes | None, bytes]], offset: int, limit: int) -> None:
    wanted = model[offset : offset + limit]
    assert list(zip(batch.keys, batch.values, strict=True)) == wanted
    assert batch.headers == [(("n", key),) if key else () for key, _ in wanted]
    assert batch.offsets.tolist() == list(range(len(model)))[offset : offset + limit]
    assert batch.append_ts.tolist() == [NOW] * len(wanted)


def test_a_member_goes_on_behind_records_that_were_cut_off(path: Path, log: SqliteLog) -> None:
    log.send(one(b"old"))
    log.send(one(b"new"))
    with closing(log.subscribe("group", "t")) as subscription:
        poll_until(subscription, assigned(PARTITIONS))
        with closing(sqlite3.connect(path)) as retention, retention:
            retention.execute("DELETE FROM blocks WHERE id = (SELECT min(id) FROM blocks)")
            retention.execute("UPDATE partitions SET begin = 1 WHERE id = (SELECT min(id) FROM partitions)")
        assert values(poll_until(subscription, ended(PARTITIONS))) == {0: [b"new"]}
    assert log.bounds("t", 0) == (1, 2)
    assert log.read("t", 0, 0, 9).offsets.tolist() == [1]


def test_partitions_that_are_not_there_are_refused(log: SqliteLog) -> None:
    with pytest.raises(SettingsError, match="no partition 3, only 0 to 2"):
        log.send([Record("t", None, b"v", partition=3)])
    with pytest.raises(SettingsError, match="no partition -1"):
        log.read("t", -1, 0, 1)
    for count in (0, 8193):
        with pytest.raises(SettingsError, match="1 to 8192 are allowed"):
            log.create("wide", count)


def test_kill_9_loses_nothing_acknowledged_and_leaves_no_half(path: Path, log: SqliteLog) -> None:
    acknowledged = 0
    for lines in (1, 20, 60):
        with child(WRITER, path) as writer:
            assert writer.stdout
            acknowledged = [int(writer.stdout.readline()) for _ in range(lines)][-1]
    columns = [log.read("t", p, 0, 1_000_000).values for p in range(PARTITIONS)]
    sent = sum(map(len, columns))
    assert sent % BATCH == 0
    assert sent >= acknowledged * BATCH
    assert columns == [[b"%d" % i for i in range(p, sent, PARTITIONS)] for p in range(PARTITIONS)]
    outputs = log.read("out", 0, 0, 1_000_000).values
    assert len(outputs) >= acknowledged
    assert log.committed("group", "t")[0].offset == int(outputs[-1] or b"") + 1


def test_another_process_reads_while_one_writes(path: Path, log: SqliteLog) -> None:
    with child(READER, path) as reader:
        assert reader.stdin
        assert reader.stdout
        for count in range(1, 4):
            log.send(one())
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert int(reader.stdout.readline()) == count


def fill(log: SqliteLog) -> None:
    for _ in range(100):
        log.send(one(bytes(100_000)))


def test_a_full_disk_stops_the_send_and_keeps_the_log_whole(path: Path, log: SqliteLog) -> None:
    log.send(one(b"before"))
    with file_size_limit(1 << 20), pytest.raises(StorageError, match=rf"{path}: send failed .*disk"):
        fill(log)
    _, kept = log.bounds("t", 0)
    log.send(one(b"after"))
    batch = log.read("t", 0, 0, 1000)
    assert [batch.values[0], *batch.values[kept:]] == [b"before", b"after"]
    assert set(batch.values[1:kept]) <= {bytes(100_000)}


def test_a_commit_whose_outputs_do_not_fit_moves_nothing(log: SqliteLog) -> None:
    with closing(log.subscribe("group", "t")) as subscription:
        poll_until(subscription, assigned(PARTITIONS))
        outputs = [Record("out", b"k", bytes(2 << 20))]
        with file_size_limit(1 << 20), pytest.raises(StorageError):
            subscription.commit({0: Commit(0, "moved")}, outputs)
        assert (log.committed("group", "t"), log.bounds("out", 0)) == ({}, (0, 0))
        subscription.commit({0: Commit(0, "moved")}, outputs)
    assert (log.committed("group", "t"), log.bounds("out", 0)) == ({0: Commit(0, "moved")}, (0, 1))


def test_a_database_at_its_size_limit_names_the_remedy(path: Path, log: SqliteLog) -> None:
    with log._writer.transaction("limit") as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    log._writer._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="the disk is full: free space"):
        log.send(one(bytes(100_000)))
    assert log.bounds("t", 0) == (0, 0)


def test_a_read_only_database_names_the_remedy() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.db"
        with closing(SqliteLog(path, lambda: NOW)) as log:
            log.create("t", 1)
        path.chmod(0o444)
        path.parent.chmod(0o555)
        printed = unprivileged(READ_ONLY, path)
        path.parent.chmod(0o755)
    assert printed.startswith(f"{path}: ")
    assert "check the permissions of the file and of its folder" in printed


def test_a_lock_held_too_long_is_unavailable(path: Path, log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 50)
    with closing(SqliteLog(path, lambda: NOW)) as second, closing(sqlite3.connect(path)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match=str(path)):
            second.send(one())
        assert second.bounds("t", 0) == (0, 0)
        holder.rollback()
        second.send(one())
    assert log.bounds("t", 0) == (0, 1)


def test_a_log_whose_file_was_removed_takes_nothing_more(path: Path, log: SqliteLog) -> None:
    """A process may go on with a file that is no longer there: what it wrote would be lost, though acknowledged."""
    log.send([Record("t", None, b"kept", partition=0)])
    away = path.rename(path.with_suffix(".away"))
    for use in (lambda: log.send([Record("t", None, b"lost", partition=0)]), lambda: log.bounds("t", 0)):
        with pytest.raises(StorageError, match="removed or replaced since it was opened"):
            use()
    away.rename(path)
    log.send([Record("t", None, b"kept too", partition=0)])
    assert log.bounds("t", 0)[1] == 2


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough" * 100, b"SQLite format 3\x00" + b"\xff" * 9000]
)
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=str(path)):
        SqliteLog(path, lambda: NOW)
    assert path.read_bytes() == content


def test_a_database_of_another_format_is_refused(path: Path, log: SqliteLog) -> None:
    log.close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 2")
    with pytest.raises(StorageError, match="format 2"):
        SqliteLog(path, lambda: NOW)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="folder cannot be created"):
        SqliteLog(tmp_path / "file" / "log.db", lambda: NOW)
    with pytest.raises(StorageError, match="cannot be opened"):
        SqliteLog(tmp_path, lambda: NOW)


def test_many_processes_may_open_a_new_database_at_once(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def open_and_create() -> None:
        try:
            with closing(SqliteLog(tmp_path / "log.db", lambda: NOW)) as log:
                log.create("t", 2)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=open_and_create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
