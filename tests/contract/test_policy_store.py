"""What every policy store does: immutable versions, checked weights, one checkpoint a task."""

import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from contract_faults import file_size_limit

from headrace.schemas.errors import (
    CommitConflictError,
    CorruptDataError,
    InvalidTaskError,
    StorageError,
    UnknownPolicyError,
)
from headrace.schemas.ports import PolicyStore
from headrace.schemas.records import ChunkReference, Interval, LineageEntry, PolicyVersion
from headrace.sinks.files.policies import FilePolicyStore

OpenStore = Callable[[], PolicyStore]


def version(task: str, number: int, reason: str = "better") -> PolicyVersion:
    return PolicyVersion(
        task=task,
        version=number,
        parent=number - 1 or None,
        algorithm="dqn",
        config={"learning_rate": 0.001, "layers": [64, 64]},
        seed=7,
        code_version="0.1.0",
        weights_hash="abc",
        environment_steps=10,
        updates=5,
        lineage=[LineageEntry(ChunkReference(task, 1, 0, 0, 0, 0, 3, 4_000_000_000), 1, 0)],
        evaluation={"policy": 1.5, "serving": -2.25},
        difference=Interval(3.75, 1.0, 5.0),
        promoted=True,
        reason=reason,
    )


def test_a_version_comes_back_as_it_was(open_store: OpenStore, name: str) -> None:
    store = open_store()
    store.put(version(name, 1), bytes(range(256)) * 100)
    for handle in (store, open_store()):
        assert handle.weights(name, 1) == bytes(range(256)) * 100
        assert handle.versions(name) == [version(name, 1)]


def test_versions_come_in_the_order_of_their_numbers(open_store: OpenStore, name: str) -> None:
    store = open_store()
    for number in (1_000_000, 10, 9, 1):
        store.put(version(name, number), b"%d" % number)
    assert [found.version for found in store.versions(name)] == [1, 9, 10, 1_000_000]
    assert store.weights(name, 10) == b"10"
    assert store.version(name, 10) == version(name, 10)
    with pytest.raises(UnknownPolicyError, match=rf"{name}@11 is not in .* has the versions \[1, 9, 10, 1000000\]"):
        store.version(name, 11)


def test_tasks_are_kept_apart(open_store: OpenStore, name: str) -> None:
    store = open_store()
    store.put(version(name, 1), b"a")
    store.put(version(f"{name}.2", 1), b"b")
    store.save(name, b"checkpoint")
    assert (store.weights(name, 1), store.weights(f"{name}.2", 1)) == (b"a", b"b")
    assert store.load(f"{name}.2") is None
    assert store.versions(f"{name}-absent") == []


def test_storing_the_same_again_is_a_no_op(open_store: OpenStore, name: str) -> None:
    store = open_store()
    store.put(version(name, 1), b"w")
    store.put(version(name, 1), b"w")
    assert len(store.versions(name)) == 1


@pytest.mark.parametrize(("reason", "weights"), [("better", b"other"), ("other", b"w")])
def test_a_version_never_changes(open_store: OpenStore, name: str, reason: str, weights: bytes) -> None:
    store = open_store()
    store.put(version(name, 1), b"w")
    with pytest.raises(StorageError, match=rf"{name}@1.*next number"):
        store.put(version(name, 1, reason), weights)
    assert store.weights(name, 1) == b"w"
    assert store.versions(name) == [version(name, 1)]


def test_an_unknown_version_names_those_that_are_known(open_store: OpenStore, name: str) -> None:
    store = open_store()
    with pytest.raises(UnknownPolicyError, match=f"{name}@1 .*none"):
        store.weights(name, 1)
    store.put(version(name, 1), b"w")
    with pytest.raises(UnknownPolicyError, match=rf"{name}@2 .*\[1\]"):
        store.weights(name, 2)


def test_the_checkpoint_is_replaced(open_store: OpenStore, name: str) -> None:
    store = open_store()
    assert store.load(name) is None
    for checkpoint in (b"first", b"", b"a\nb" * 100_000):
        store.save(name, checkpoint)
        assert open_store().load(name) == checkpoint
    assert store.versions(name) == []


def sha256(checkpoint: bytes) -> str:
    return hashlib.sha256(checkpoint).hexdigest()


def test_a_checkpoint_that_follows_another_than_the_one_there_is_refused(open_store: OpenStore, name: str) -> None:
    """Of two learners that go on from the same checkpoint, the second to save is refused, and so is a late one."""
    store, other = open_store(), open_store()
    store.save(name, b"first", "")
    with pytest.raises(CommitConflictError, match=name):
        other.save(name, b"late", "")
    store.save(name, b"second", sha256(b"first"))
    with pytest.raises(CommitConflictError, match=name):
        other.save(name, b"zombie's", sha256(b"first"))
    assert other.load(name) == b"second"
    other.save(name, b"second", sha256(b"first"))  # its answer was lost: the same again
    other.save(name, b"third", sha256(b"second"))
    assert store.load(name) == b"third"
    store.save(name, b"whatever is there")
    assert other.load(name) == b"whatever is there"


def test_of_many_that_save_at_once_one_wins(open_store: OpenStore, name: str) -> None:
    stores, won = [open_store() for _ in range(6)], []
    stores[0].save(name, b"first", "")

    def save(number: int) -> None:
        with suppress(CommitConflictError):
            stores[number].save(name, b"%d" % number, sha256(b"first"))
            won.append(b"%d" % number)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [stores[0].load(name)]


def test_a_number_that_is_not_finite_is_refused(open_store: OpenStore, name: str) -> None:
    store = open_store()
    bad = msgspec.structs.replace(version(name, 1), evaluation={"policy": float("nan")})
    with pytest.raises(StorageError, match=rf"{name}@1.*finite"):
        store.put(bad, b"w")
    assert store.versions(name) == []


@pytest.fixture
def files(tmp_path: Path) -> FilePolicyStore:
    store = FilePolicyStore(tmp_path)
    store.put(version("task", 1), b"weights")
    store.save("task", b"checkpoint")
    return store


def test_files_lie_where_the_docs_say(files: FilePolicyStore, tmp_path: Path) -> None:
    names = sorted(path.name for path in (tmp_path / "task").iterdir())
    assert names == [".lock", "checkpoint", "v000001.json", "v000001.safetensors"]
    assert (tmp_path / "task" / "v000001.safetensors").read_bytes() == b"weights"
    manifest = msgspec.json.decode((tmp_path / "task" / "v000001.json").read_bytes())
    assert set(manifest) == {"file_sha256", "version"}


@pytest.mark.parametrize(
    ("file", "use"),
    [
        ("v000001.safetensors", lambda store: store.weights("task", 1)),
        ("v000001.json", lambda store: store.weights("task", 1)),
        ("v000001.json", lambda store: store.versions("task")),
        ("checkpoint", lambda store: store.load("task")),
    ],
)
@pytest.mark.parametrize("damage", [b"", b"{}", b"weightz"])
def test_damaged_files_are_named(
    files: FilePolicyStore, tmp_path: Path, file: str, use: Callable[[PolicyStore], object], damage: bytes
) -> None:
    path = tmp_path / "task" / file
    path.write_bytes(damage)
    with pytest.raises(CorruptDataError, match=str(path)):
        use(files)


def test_weights_that_are_missing_are_named(files: FilePolicyStore, tmp_path: Path) -> None:
    (tmp_path / "task" / "v000001.safetensors").unlink()
    with pytest.raises(CorruptDataError, match="missing"):
        files.weights("task", 1)


def test_without_its_manifest_a_version_is_not_there_and_can_be_put(files: FilePolicyStore, tmp_path: Path) -> None:
    """As after a crash between the weights and the manifest."""
    (tmp_path / "task" / "v000001.json").unlink()
    assert files.versions("task") == []
    with pytest.raises(UnknownPolicyError):
        files.weights("task", 1)
    files.put(version("task", 1, "again"), b"other")
    assert files.weights("task", 1) == b"other"


def test_a_full_disk_leaves_what_was_there(files: FilePolicyStore, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "task").iterdir()}
    with file_size_limit(1 << 16):
        with pytest.raises(StorageError, match=r"v000002\.safetensors: File too large"):
            files.put(version("task", 2), bytes(1 << 20))
        with pytest.raises(StorageError, match="checkpoint"):
            files.save("task", bytes(1 << 20))
    assert {path: path.read_bytes() for path in (tmp_path / "task").iterdir()} == before
    files.put(version("task", 2), bytes(1 << 20))


@pytest.mark.parametrize("task", ["..", ".", "", "a/b", "/etc", "a\n"])
def test_no_task_leads_out_of_the_folder(files: FilePolicyStore, task: str) -> None:
    with pytest.raises(InvalidTaskError):
        files.save(task, b"c")
    with pytest.raises(InvalidTaskError):
        files.weights(task, 1)


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        FilePolicyStore(tmp_path / "file" / "policies").save("task", b"c")
