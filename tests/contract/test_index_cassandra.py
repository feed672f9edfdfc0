"""What the Cassandra index promises beyond the port: servers that die, partitions that stay bounded, clear errors."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster, NoHostAvailable
from contract_cassandra import netloc, open_backend, target
from contract_chunks import chunk, transitions, window_row
from contract_servers import Cassandra, temporary
from contract_urls import adapter, opened, url_of
from typing_extensions import override

from headrace.pipelines.settings import read_settings
from headrace.pipelines.topics import PARTITIONED, SINGLE
from headrace.pipelines.wiring import open_services
from headrace.schemas.chunk import ChunkRow
from headrace.schemas.decisions import DecisionBatch
from headrace.schemas.errors import (
    HeadraceError,
    HiddenRowsError,
    LayoutMismatchError,
    SettingsError,
    StorageError,
    UnavailableError,
)
from headrace.schemas.records import Layout
from headrace.sinks.cassandra import index as index_cassandra
from headrace.sinks.cassandra import writes as cassandra_writes
from headrace.sinks.cassandra.index import BUCKET_MS, CassandraIndex
from headrace.sinks.cassandra.keyspace import Keyspace, schema
from headrace.sinks.cassandra.target import OPTIONS, parse_target


class GuardedCassandra(Cassandra):
    """A node that asks for a password, and acknowledges a write when it is on disk.

    (By default Cassandra acknowledges first: killed with -9, it forgets the last 100 ms. Where there are replicas,
    that does no harm.) Its first user is cassandra, with the same password.
    """

    heap_mb = 256

    @override
    def command(self) -> list[str]:
        command = super().command()
        config = self.folder / "cassandra.yaml"
        text = config.read_text().replace("AllowAllAuthenticator", "PasswordAuthenticator")
        text = text.replace("AllowAllAuthorizer", "CassandraAuthorizer")
        config.write_text(re.sub(r"(?m)^commitlog_sync.*\n", "", text) + "commitlog_sync: batch\n")
        return command

    @override
    def answers(self) -> bool:
        """It is up when its first user may enter."""
        try:
            with Cluster([(self.host, self.port)], protocol_version=4, auth_provider=OWNER) as cluster:
                cluster.connect()
        except NoHostAvailable:
            return False
        return True


OWNER = PlainTextAuthProvider("cassandra", "cassandra")


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedCassandra]:
    with temporary() as folder:
        server = GuardedCassandra(folder)
        server.start()
        yield server
        server.kill()


@pytest.fixture
def index(cassandra: Cassandra, tmp_path: Path) -> Iterator[CassandraIndex]:
    with closing(open_backend("index", cassandra, tmp_path)) as opened:
        yield opened


@pytest.mark.parametrize("whole", [False, True])
def test_what_was_deleted_by_hand_comes_back(index: CassandraIndex, name: str, whole: bool) -> None:
    """A deletion has the clock's time, later than any write of ours: `put` alone is not seen, `replace` is."""
    row, window, batch = chunk(name), window_row(name), one_decision(name)
    session, key = index._keyspace.session, (name, 0, row.key.start_ms // BUCKET_MS * BUCKET_MS)
    index.put([row], [window])
    index.decisions.put([batch])
    index.flush()
    for table in ("chunks", "windows"):
        where = 'task = %s AND "group" = %s AND bucket_ms = %s' + (
            "" if whole else f" AND start_ms = {row.key.start_ms}"
        )
        session.execute(f"DELETE FROM {table} WHERE {where}", key)
    bucket_ms = int(batch.rows.ts[0]) // BUCKET_MS * BUCKET_MS
    session.execute("DELETE FROM decisions WHERE partition = %s AND bucket_ms = %s", (batch.partition, bucket_ms))
    index.put([row], [window])
    index.decisions.put([batch])
    index.flush()
    assert index.chunks([row.reference]) == [None]
    assert index.window(window.key) is None
    assert index.decisions.similar(name, batch.vectors[0], 5) is None
    index.replace([row], [window])
    assert [found.rows for found in index.scan(name)] == [row.rows]
    assert list(index.windows(name)) == [window]
    assert (index.decisions.repair([batch]), index.decisions.repair([batch])) == (1, 0)
    found = index.decisions.similar(name, batch.vectors[0], 5)
    assert found is not None
    assert found.distances.tolist() == [0]


def test_what_nothing_can_uncover_is_named(index: CassandraIndex, name: str) -> None:
    """A deletion that lies in the future hides every write until then."""
    row = chunk(name)
    values = (int(time.time() * 1e6) + 3_600_000_000, name, row.key.start_ms // BUCKET_MS * BUCKET_MS)
    index._keyspace.session.execute(
        'DELETE FROM chunks USING TIMESTAMP %s WHERE task = %s AND "group" = 0 AND bucket_ms = %s', values
    )
    with pytest.raises(HiddenRowsError, match=rf"1 rows .* chunk {name}.*gc_grace_seconds.*nodetool compact"):
        index.replace([row], [])


def one_decision(task: str) -> DecisionBatch:
    rows = transitions(task, 1)
    return DecisionBatch(7, rows, np.ones((1, 4), np.float32))


def flush_until_durable(index: CassandraIndex, within_s: float = 60.0) -> int:
    """Flush as a job does, again and again; return how often it had to."""
    deadline = time.monotonic() + within_s
    for attempts in range(1, 1_000):
        try:
            index.flush()
        except UnavailableError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return attempts
    raise AssertionError


def test_a_kill_of_cassandra_in_the_middle_of_puts_loses_nothing(guarded: GuardedCassandra, name: str) -> None:
    where = parse_target(url_of("cassandra", f"cassandra:cassandra@{netloc(guarded)}", "guarded"))
    with closing(CassandraIndex(Keyspace(where, create=True))) as index:
        kill_in_the_middle(guarded, index, name)


def kill_in_the_middle(cassandra: Cassandra, index: CassandraIndex, name: str) -> None:
    rows = [chunk(name, group=segment % 8, window=segment % 40, segment=segment) for segment in range(400)]
    for row in rows[:200]:
        index.put([row], [])
    cassandra.kill()
    for row in rows[200:]:
        index.put([row], [window_row(name)])
    started_s = time.monotonic()
    with pytest.raises(UnavailableError, match="no node answers"):
        index.flush()
    assert time.monotonic() - started_s < 5
    cassandra.start()
    flush_until_durable(index)
    assert index.counters()["retries",]
    assert index.counters()["waiting_bytes",] == 0
    assert [row.reference for row in index.scan(name)] == sorted(row.reference for row in rows)
    assert [row.key for row in index.windows(name)] == [window_row(name).key]


def test_a_server_that_hangs_is_unavailable_and_then_goes_on(
    cassandra: Cassandra, index: CassandraIndex, name: str
) -> None:
    row = chunk(name)
    cassandra.pause()
    try:
        index.put([row], [])
        for call in (index.flush, lambda: index.chunks([row.reference])):
            started_s = time.monotonic()
            with pytest.raises(UnavailableError):
                call()
            assert time.monotonic() - started_s < 8
    finally:
        cassandra.resume()
    flush_until_durable(index)
    assert [found and found.reference for found in index.chunks([row.reference])] == [row.reference]


def test_puts_stay_bounded_while_nothing_answers(
    cassandra: Cassandra, index: CassandraIndex, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What put refuses it has not taken, so that a job may put it again; what it took is there in the end."""
    monkeypatch.setattr(cassandra_writes, "BUFFER_BYTES", 20_000)
    monkeypatch.setattr(cassandra_writes, "RETRY_S", 0.0)
    session, taken = index._keyspace.session, []
    monkeypatch.setattr(index._keyspace, "session", Broken())
    with suppress(UnavailableError):
        for segment in range(1_000):
            index.put([chunk(name, segment=segment, rows=40)], [])
            taken.append(segment)
    assert 5 < len(taken) < 60
    assert 20_000 <= index.counters()["waiting_bytes",] < 22_000
    monkeypatch.setattr(index._keyspace, "session", session)
    index.flush()
    assert [row.key.segment for row in index.scan(name)] == taken


def test_answers_that_come_twice_or_never_are_borne(
    index: CassandraIndex, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, row = index._keyspace.session, chunk(name)
    monkeypatch.setattr(cassandra_writes, "LOST_S", 0.2)
    for times in (0, 2):
        monkeypatch.setattr(index._keyspace, "session", Stammering(times))
        index.put([row], [])
        if times:
            index.flush()
        else:
            with pytest.raises(UnavailableError, match="no answer within"):
                index.flush()
            assert index.counters()["waiting_bytes",]
        monkeypatch.setattr(index._keyspace, "session", session)
        index.flush()
        assert index.counters()["waiting_bytes",] == 0
    assert [found.reference for found in index.scan(name)] == [row.reference]


class Stammering:
    """A session that answers so many times, with success."""

    def __init__(self, times: int) -> None:
        self.times = times

    def execute_async(self, *_: object) -> "Stammering":
        return self

    def add_callbacks(
        self, on_success: Callable[..., None], *_: object, callback_args: tuple[int], **__: object
    ) -> None:
        for _time in range(self.times):
            on_success(None, *callback_args)


class Broken:
    """A session whose connections are gone."""

    def execute_async(self, *_: object, **__: object) -> None:
        raise ConnectionError("broken")


def test_a_partition_holds_ten_minutes_and_is_written_in_one_batch(
    index: CassandraIndex, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 windows of a minute in 2 groups: 2 or 3 partitions a group, and the catalog's rows once a process."""
    rows = [chunk(name, group=group, window=window) for group in (0, 5) for window in range(12)]
    windows = [window_row(name, group=group, window=window) for group in (0, 5) for window in range(12)]
    sent: list[int] = []
    put = cassandra_writes.Writes.put
    monkeypatch.setattr(
        cassandra_writes.Writes, "put", lambda self, writes: (sent.append(len(writes)), put(self, writes))
    )
    index.put(rows, windows)
    index.put(rows, windows)
    index.flush()
    buckets = len({row.key.start_ms // BUCKET_MS for row in rows})
    assert sent == [2 * buckets + 2 + buckets + 1, 2 * buckets]
    assert [row.key for row in index.scan(name)] == [row.key for row in rows]
    assert [row.key for row in index.windows(name)] == [row.key for row in windows]


def test_pages_of_one_partition_and_of_many(index: CassandraIndex, name: str) -> None:
    """6,000 rows: 3,000 of one partition, over many pages, and 3,000 of hundreds of partitions."""
    template = chunk(name, rows=1)
    rows = [at(template, group=1, segment=segment) for segment in range(3_000)]
    rows += [
        at(template, group=2, segment=s, start_ms=template.key.start_ms + s // 10 * BUCKET_MS) for s in range(3_000)
    ]
    index.put(rows, [])
    index.flush()
    for payload in (True, False):
        assert [row.key for row in index.scan(name, payload=payload)] == [row.key for row in rows]
    end_ms = template.key.start_ms + BUCKET_MS
    assert sum(1 for _ in index.scan(name, None, end_ms, group=2)) == 10
    assert sum(1 for _ in index.scan(name, end_ms)) == 2_990
    assert sum(1 for _ in index.scan(name, partition=3)) == 0
    assert [found and found.key for found in index.chunks([row.reference for row in rows])] == [row.key for row in rows]


def at(row: ChunkRow, **place: int) -> ChunkRow:
    key = type(row.key)(**{field: getattr(row.key, field) for field in row.key.__struct_fields__} | place)
    return replace(row, key=key)


def test_a_row_s_timestamp_is_its_write_time_in_every_column(index: CassandraIndex, name: str) -> None:
    row, window = chunk(name, rows=5), window_row(name)
    index.put([row], [window])
    index.flush()
    session = index._keyspace.session
    columns = ", ".join(f"WRITETIME({column})" for column in ("rows", "received", "checksum", "stats", "payload"))
    where = f"WHERE task = '{name}' AND \"group\" = 0 AND bucket_ms = {row.key.start_ms // BUCKET_MS * BUCKET_MS}"
    assert set(session.execute(f"SELECT {columns} FROM chunks {where}").one()) == {row.write_time}
    assert set(session.execute(f"SELECT WRITETIME(summary) FROM windows {where}").one()) == {window.write_time}


def test_a_row_that_cassandra_can_t_take_is_refused_at_once(
    index: CassandraIndex, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_cassandra, "MAX_ROW_BYTES", 100)
    with pytest.raises(StorageError, match=f"{name}.*groups"):
        index.put([chunk(name)], [])
    assert index.counters()["waiting_bytes",] == 0


def test_large_rows_pass(index: CassandraIndex, name: str) -> None:
    """Together more than the sockets' buffers hold."""
    rows = [replace(chunk(name, segment=segment), payload=bytes(1 << 20)) for segment in range(12)]
    rows.append(replace(chunk(name, segment=99), payload=bytes(14 << 20)))
    index.put(rows, [])
    index.flush()
    assert [len(row.payload) for row in index.scan(name)] == [len(row.payload) for row in rows]


def test_a_closed_index_may_be_closed_again(index: CassandraIndex) -> None:
    index.put([chunk("task")], [])
    index.close()
    index.close()


def refusal(*parts: str, create: bool = False, **options: str) -> str:
    """Open what can't be opened, and return the error's line."""
    with pytest.raises(HeadraceError) as caught:
        opened("index", url_of("cassandra", *parts, **options), create=create).close()
    message = str(caught.value)
    assert "\n" not in message
    assert "secret" not in message
    return f"{type(caught.value).__name__}: {message}"


def test_what_is_wrong_is_said_in_one_line(cassandra: Cassandra, index: CassandraIndex) -> None:
    here = netloc(cassandra)
    assert "UnavailableError: cassandra://127.0.0.1:1/contract: no node answers" in refusal("127.0.0.1:1", "contract")
    assert "SettingsError: cassandra://nowhere.invalid:9042/" in refusal("u:secret@nowhere.invalid", "contract")
    assert "`headrace init`" in refusal(here, "absent")
    assert "no tables of headrace's: create them with `headrace init`" in refusal(here, "system_traces")
    assert "has the replication {'datacenter1': 1}" in refusal(here, "contract", create=True, replication="3")
    assert "live 0 days, ttl_days asks for 7" in refusal(here, "contract", ttl_days="7")
    assert "ca_file" in refusal(here, "contract", ca_file="/absent")
    assert "UnavailableError" in refusal(here, "contract", tls="yes")


def test_a_keyspace_of_another_log_is_refused(cassandra: Cassandra, index: CassandraIndex, tmp_path: Path) -> None:
    index.layout(Layout(log="another"))
    urls = {"log": f"sqlite://{tmp_path}/log.db", "index": f"cassandra://{netloc(cassandra)}/contract"}
    with open_services(read_settings(urls), create=True) as services:
        for name in (*SINGLE, *PARTITIONED):
            services.log.create(name, 1)
        with pytest.raises(LayoutMismatchError, match=r"was written for the log another, but sqlite:.* a new index$"):
            _ = services.layout


def test_the_command_line_knows_the_options() -> None:
    for part in ("index", "policies"):
        assert adapter(part, "cassandra").options == OPTIONS


@pytest.mark.parametrize(
    ("netloc", "path", "options", "message"),
    [
        ("", "k", {}, "write hosts as"),
        ("a:b", "k", {}, "write hosts as"),
        ("a:99999", "k", {}, "write hosts as"),
        ("a,,b", "k", {}, "write hosts as"),
        ("a", "", {}, "keyspace ''"),
        ("a", "/My-Keyspace", {}, "keyspace 'My-Keyspace'"),
        ("a", "k", {"replication": "three"}, "replication is 'three'"),
        ("a", "k", {"consistency": "SOME"}, "known: ONE, LOCAL_ONE"),
        ("a", "k", {"ttl_days": "-1"}, "ttl_days is '-1'"),
        ("a", "k", {"tls": "maybe"}, "yes or no"),
    ],
)
def test_a_url_that_can_t_be_used(netloc: str, path: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_target(url_of("cassandra", f"user:secret@{netloc}", path, **options))


def test_a_url_is_read() -> None:
    options = {"replication": "east:3,west:2", "consistency": "quorum", "ttl_days": "30"}
    found = parse_target(url_of("cassandra", "me:p%40ss@[::1]:9043,other", "/fleet_1", **options))
    assert found.hosts == (("::1", 9043), ("other", 9042))
    assert (found.keyspace, found.user, found.password) == ("fleet_1", "me", "p@ss")
    assert found.replication == {"class": "NetworkTopologyStrategy", "east": "3", "west": "2"}
    assert (found.consistency, found.ttl_s) == ("QUORUM", 30 * 86_400)
    assert "p@ss" not in f"{found} {found!r}"


def test_time_to_live_is_the_keyspace_s_and_init_changes_it(cassandra: Cassandra, name: str) -> None:
    """Rows and catalog leave by TTL, the catalog a day later; a keyspace of another schema is refused."""
    where = target(cassandra, "contract_ttl", ttl_days="30")
    with closing(CassandraIndex(Keyspace(where, create=True))) as index:
        row = chunk(name)
        index.put([row], [window_row(name)])
        index.flush()
        session = index._keyspace.session
        assert lives(session, "TTL(payload), TTL(rows)", "chunks") == {30}
        assert lives(session, "TTL(summary)", "windows") == {30}
        options = index._keyspace._metadata.tables["chunks"].options
        assert options["compaction"]["compaction_window_size"] == "1"
        assert options["compression"]["enabled"] == "false"
        Keyspace(target(cassandra, "contract_ttl", ttl_days="60"), create=True).close()
        assert "live 60 days, ttl_days asks for 30" in refusal(netloc(cassandra), "contract_ttl", ttl_days="30")
        Keyspace(target(cassandra, "contract_ttl")).close()
        session.execute("INSERT INTO meta (name, value) VALUES ('schema', '0')")
        for create in (True, False):
            assert "has schema 0, this headrace reads 2" in refusal(netloc(cassandra), "contract_ttl", create=create)


def lives(session: object, columns: str, table: str) -> set[int]:
    (row,) = session.execute(f"SELECT {columns} FROM {table}").current_rows  # type: ignore[attr-defined]
    return {round(seconds / 86_400) for seconds in row}


def test_no_statement_deletes_or_scans_the_ring() -> None:
    text = " ".join([*index_cassandra._STATEMENTS.values(), *schema(0)]).upper()
    for word in ("DELETE", "ALLOW FILTERING", "MATERIALIZED"):
        assert word not in text


def test_a_wrong_password_is_said_in_one_line(guarded: GuardedCassandra) -> None:
    for user in ("cassandra:secret@", ""):
        assert "access is refused: check the user and the password" in refusal(f"{user}{netloc(guarded)}", "guarded")
    where = parse_target(url_of("cassandra", f"cassandra:cassandra@{netloc(guarded)}", "guarded"))
    with closing(Keyspace(where, create=True)) as keyspace:
        keyspace.session.execute("CREATE ROLE reader WITH PASSWORD = 'secret' AND LOGIN = true")
    assert "access is refused" in refusal(f"reader:secret@{netloc(guarded)}", "guarded")
