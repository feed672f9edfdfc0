"""The policy store in files: per task a folder with weights, manifests and the learner's checkpoint."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from headrace.schemas.errors import (
    CommitConflictError,
    CorruptDataError,
    InvalidTaskError,
    StorageError,
    UnknownPolicyError,
)
from headrace.schemas.policy_versions import manifest_bytes, read_policy_version, sha256_of
from headrace.schemas.ports import Adapter, Backend
from headrace.schemas.records import ID_PATTERN, PolicyVersion

_CHECKPOINT_MAGIC: Final = b"headrace checkpoint 1 sha256:"


class _Manifest(msgspec.Struct, frozen=True):
    """v000001.json: a version exists if and only if it does. file_sha256: of the weights file's bytes."""

    file_sha256: str
    version: msgspec.Raw


class FilePolicyStore(Backend):
    """The port `PolicyStore`: `<folder>/<task>/v000001.safetensors`, `v000001.json` and `checkpoint`.

    Each file is written under a temporary name and renamed, so that a crash leaves none half-written. A lock
    file keeps two learners of one task apart.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def put(self, version: PolicyVersion, weights: bytes) -> None:
        """Store a version: first the weights, last the manifest."""
        folder = self._task_folder(version.task)
        manifest = _manifest_file(version, weights)
        path = folder / f"{_name(version.version)}.json"
        with _alone(folder):
            if path.exists():
                if _read(path) == manifest:
                    return
                raise StorageError(
                    f"{path}: policy {version.task}@{version.version} is there with other content, and a "
                    "version never changes: store it under the next number"
                )
            replace_file(path.with_suffix(".safetensors"), weights)
            replace_file(path, manifest)

    def weights(self, task: str, version: int) -> bytes:
        manifest_path = self._manifest_path(task, version)
        path = manifest_path.with_suffix(".safetensors")
        weights = _read(path)
        expected = _read_manifest(manifest_path).file_sha256
        if weights is None or sha256_of(weights) != expected:
            found = "it is missing" if weights is None else f"its sha256 is {sha256_of(weights)}"
            raise CorruptDataError(
                f"{path}: {found}, {expected} was written: restore the file, or roll back to another version"
            )
        return weights

    def version(self, task: str, version: int) -> PolicyVersion:
        return _read_version(self._manifest_path(task, version))

    def versions(self, task: str) -> list[PolicyVersion]:
        found = [_read_version(path) for path in self._task_folder(task).glob("v*.json")]
        return sorted(found, key=lambda version: version.version)

    def save(self, task: str, checkpoint: bytes, replaces: str | None = None) -> None:
        folder = self._task_folder(task)
        sha256 = sha256_of(checkpoint)
        with _alone(folder):
            if replaces is not None:
                found = (_read(folder / "checkpoint") or b"").partition(b"\n")[0]
                held = found.removeprefix(_CHECKPOINT_MAGIC).decode("ascii", "replace")
                if held == sha256:
                    return
                if held != replaces:
                    raise CommitConflictError(
                        f"{folder / 'checkpoint'}: another learner has saved {held[:12] or 'nothing'} where this one's "
                        f"follows {replaces[:12] or 'nothing'}: it was not saved, and must not be"
                    )
            replace_file(folder / "checkpoint", _CHECKPOINT_MAGIC + sha256.encode() + b"\n", checkpoint)

    def load(self, task: str) -> bytes | None:
        path = self._task_folder(task) / "checkpoint"
        data = _read(path)
        if data is None:
            return None
        header, _, checkpoint = data.partition(b"\n")
        if header != _CHECKPOINT_MAGIC + sha256_of(checkpoint).encode():
            raise CorruptDataError(
                f"{path}: its sha256 doesn't match its content: move it away, and the learner starts again "
                "from the windows topic"
            )
        return checkpoint

    def _manifest_path(self, task: str, version: int) -> Path:
        path = self._task_folder(task) / f"{_name(version)}.json"
        if not path.exists():
            known = [found.version for found in self.versions(task)]
            raise UnknownPolicyError(
                f"policy {task}@{version} is not in {self._folder}; {task} has the versions {known or 'none'}"
            )
        return path

    def _task_folder(self, task: str) -> Path:
        if not re.fullmatch(ID_PATTERN, task) or task in {".", ".."}:
            raise InvalidTaskError(f"task {task!r} can't name a folder: ids match {ID_PATTERN}, not . or ..")
        return self._folder / task


def replace_file(path: Path, *parts: bytes, writer: str = "") -> None:
    """Write a file so that it is there whole and durable, or as it was before; raises StorageError.

    writer: whose temporary file it is, no other's, where several may write the same file at the same time; else the
    caller sees to it that nobody does.
    """
    temporary = path.with_name(f".{path.name}{writer}.tmp")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_durably(temporary, *parts)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_durably(path: Path, *parts: bytes) -> None:
    """Write a file and wait until its bytes are on disk."""
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's errors into StorageError, which names the file."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: {error.strerror or error}: check the disk's free space and the folder's permissions "
            "(nothing half-written was kept)"
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes' writes to a task's folder away."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("wb")
    with lock:  # closing it unlocks
        with storage_errors(folder):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _name(version: int) -> str:
    return f"v{version:06d}"


def _read(path: Path) -> bytes | None:
    with storage_errors(path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def _manifest_file(version: PolicyVersion, weights: bytes) -> bytes:
    manifest = _Manifest(sha256_of(weights), msgspec.Raw(manifest_bytes(version)))
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic")) + b"\n"


def _read_manifest(path: Path) -> _Manifest:
    with _whole(path):
        return msgspec.json.decode(_read(path) or b"", type=_Manifest)


def _read_version(path: Path) -> PolicyVersion:
    with _whole(path):
        return read_policy_version(_read_manifest(path).version)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        yield
    except msgspec.MsgspecError as error:
        raise CorruptDataError(f"{path}: it is no policy manifest ({error}): restore the file") from error


ADAPTER: Final = Adapter(lambda url, *_: FilePolicyStore(url.path), local=True)
