"""What the policy store on Cassandra promises beyond the port: large blobs, crashes between writes, many machines."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from contract_cassandra import open_backend
from contract_servers import Cassandra
from test_policy_store import version

from headrace.schemas.errors import CorruptDataError, StorageError, UnknownPolicyError
from headrace.sinks.cassandra import policies as policies_cassandra
from headrace.sinks.cassandra.policies import PART_BYTES, CassandraPolicyStore


@pytest.fixture
def store(cassandra: Cassandra, tmp_path: Path) -> Iterator[CassandraPolicyStore]:
    with closing(open_backend("policies", cassandra, tmp_path)) as opened:
        yield opened


def rows(store: CassandraPolicyStore, cql: str) -> list[tuple[object, ...]]:
    return list(store._keyspace.session.execute(cql, timeout=60))  # it reads all that other tests have deleted too


def blobs(store: CassandraPolicyStore, task: str) -> dict[str, int]:
    """The bytes held by blob, for those that are not empty."""
    sizes: dict[str, int] = {}
    for name, data in rows(store, "SELECT name, data FROM blobs"):
        if str(name).startswith(f"{task}/") and data:
            sizes[str(name)] = sizes.get(str(name), 0) + len(data)  # type: ignore[arg-type]
    return sizes


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, 5 * PART_BYTES - 1, 40 * PART_BYTES])
def test_blobs_of_any_size(store: CassandraPolicyStore, name: str, size: int) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    store.put(version(name, 1), data)
    store.save(name, data)
    assert store.weights(name, 1) == data
    assert store.load(name) == data


def test_without_its_row_a_version_is_not_there_and_can_be_put(
    store: CassandraPolicyStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash between the blobs and the row."""
    with monkeypatch.context() as crash:
        crash.setattr(store._writes, "flush", killed)
        with pytest.raises(KeyboardInterrupt):
            store.put(version(name, 1), b"weights")
    assert store.versions(name) == []
    with pytest.raises(UnknownPolicyError):
        store.weights(name, 1)
    store.put(version(name, 1, "again"), b"other")
    assert store.weights(name, 1) == b"other"
    assert store.versions(name) == [version(name, 1, "again")]


def killed() -> None:
    raise KeyboardInterrupt


def test_a_crash_before_the_switch_keeps_the_old_checkpoint(
    store: CassandraPolicyStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(name, b"old")
    with monkeypatch.context() as crash:
        crash.setattr(store, "_current", lambda _: killed())
        with pytest.raises(KeyboardInterrupt):
            store.save(name, b"new" * PART_BYTES)
    assert store.load(name) == b"old"
    monkeypatch.setattr(policies_cassandra, "_ABANDONED_S", -1)
    store.save(name, b"newest")
    assert store.load(name) == b"newest"
    assert list(blobs(store, name).values()) == [6], "what the crash left behind is gone as well"


def test_a_checkpoint_that_was_replaced_takes_no_room(store: CassandraPolicyStore, name: str) -> None:
    for number in range(5):
        store.save(name, bytes([number]) * 3 * PART_BYTES)
    assert list(blobs(store, name).values()) == [3 * PART_BYTES]
    lives = [row for row in rows(store, "SELECT name, TTL(data) FROM blobs") if str(row[0]).startswith(f"{name}/")]
    assert sum(1 for _, ttl_s in lives if ttl_s) == 12
    generations = rows(store, f"SELECT TTL(bytes) FROM checkpoints WHERE task = '{name}'")
    assert sum(1 for (ttl_s,) in generations if ttl_s) == 4


def test_a_reader_sees_whole_checkpoints_while_they_are_replaced(
    cassandra: Cassandra, store: CassandraPolicyStore, name: str, tmp_path: Path
) -> None:
    def replace() -> None:
        with closing(open_backend("policies", cassandra, tmp_path)) as writer:
            for number in range(12):
                writer.save(name, bytes([number]) * 2 * PART_BYTES)

    seen = set()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(replace)
        while not done.done():
            found = store.load(name)
            if found is not None:
                assert found == found[:1] * 2 * PART_BYTES
                seen.add(found[0])
        done.result()
    assert len(seen) > 1


def test_machines_that_store_the_same_version_at_once_agree(
    cassandra: Cassandra, store: CassandraPolicyStore, name: str, tmp_path: Path
) -> None:
    """One is the first; the others are told."""

    def put(number: int) -> str:
        with closing(open_backend("policies", cassandra, tmp_path)) as machine:
            try:
                machine.put(version(name, 1, str(number)), b"%d" % number)
            except StorageError:
                return ""
        return str(number)

    with ThreadPoolExecutor(4) as pool:
        first = "".join(pool.map(put, range(4)))
    assert len(first) == 1
    assert store.weights(name, 1) == first.encode()
    assert [found.reason for found in store.versions(name)] == [first]


@pytest.mark.parametrize(
    ("kind", "use"),
    [
        ("weights", lambda store, name: store.weights(name, 1)),
        ("manifest", lambda store, name: store.versions(name)),
        ("checkpoint", lambda store, name: store.load(name)),
    ],
)
def test_damaged_blobs_are_named(
    store: CassandraPolicyStore, name: str, kind: str, use: Callable[[CassandraPolicyStore, str], object]
) -> None:
    store.put(version(name, 1), b"weights" * PART_BYTES)
    store.save(name, b"checkpoint")
    names = [str(row[0]) for row in rows(store, "SELECT DISTINCT name, part FROM blobs")]
    (damaged,) = {found for found in names if found.startswith((f"{name}@", f"{name}/")) and kind in found}
    store._keyspace.session.execute("UPDATE blobs SET data = %s WHERE name = %s AND part = 0", (b"weightz", damaged))
    with pytest.raises(CorruptDataError, match=f"{damaged}.*sha256"):
        use(store, name)
    store._keyspace.session.execute("DELETE FROM blobs WHERE name = %s AND part = 0", (damaged,))
    with pytest.raises(CorruptDataError, match=rf"{damaged}.*parts \[0\] are missing"):
        use(store, name)


def test_a_pointer_to_nothing_is_corrupt(store: CassandraPolicyStore, name: str) -> None:
    store._rows("switch", uuid.uuid1(), name, None)
    with pytest.raises(CorruptDataError, match="sha256"):
        store.load(name)
