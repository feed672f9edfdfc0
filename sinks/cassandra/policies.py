"""The policy store on Cassandra: weights, manifests and checkpoints as blobs in parts, shared by many machines."""

import uuid
from typing import Any, Final

import msgspec
from cassandra import ConsistencyLevel

from headrace.schemas.errors import CommitConflictError, CorruptDataError, StorageError, UnknownPolicyError
from headrace.schemas.policy_versions import manifest_bytes, read_policy_version, sha256_of
from headrace.schemas.ports import Backend
from headrace.schemas.records import PolicyVersion
from headrace.sinks.cassandra.keyspace import Keyspace
from headrace.sinks.cassandra.writes import Write, Writes

PART_BYTES: Final = 1 << 20

_ABANDONED_S: Final = 3_600
_SWITCHES: Final = 5
"""How often another's checkpoint may come in between before whoever asked for "whichever is there" gives up."""
_PARTS_IN_FLIGHT: Final = 4
_STATEMENTS: Final = {
    "put_part": "INSERT INTO blobs (name, part, data) VALUES (?, ?, ?)",
    "empty_part": "INSERT INTO blobs (name, part, data) VALUES (?, ?, 0x) USING TTL 3600",
    "part": "SELECT data FROM blobs WHERE name = ? AND part = ?",
    "put_policy": "INSERT INTO policies (task, version, manifest_sha256, manifest_bytes, weights_sha256, "
    "weights_bytes) VALUES (?, ?, ?, ?, ?, ?) IF NOT EXISTS",
    "policy": "SELECT manifest_sha256, manifest_bytes, weights_sha256, weights_bytes FROM policies "
    "WHERE task = ? AND version = ?",
    "policies": "SELECT version, manifest_sha256, manifest_bytes FROM policies WHERE task = ?",
    "current": "SELECT current FROM checkpoints WHERE task = ? LIMIT 1",
    "generations": "SELECT generation, bytes FROM checkpoints WHERE task = ?",
    "generation": "SELECT sha256, bytes FROM checkpoints WHERE task = ? AND generation = ?",
    "put_generation": "INSERT INTO checkpoints (task, generation, sha256, bytes) VALUES (?, ?, ?, ?)",
    "retire": "INSERT INTO checkpoints (task, generation, sha256, bytes) VALUES (?, ?, '', 0) USING TTL 3600",
    "switch": "UPDATE checkpoints SET current = ? WHERE task = ? IF current = ?",
}

_CONSISTENCIES: Final = dict.fromkeys(("policy", "current"), ConsistencyLevel.LOCAL_SERIAL)


class CassandraPolicyStore(Backend):
    """The port `PolicyStore`: a version's row is written last and once; a checkpoint is switched to when it is whole.

    What it replaced is emptied and leaves by its TTL.
    """

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._writes = Writes(keyspace)
        self._statements = {
            name: keyspace.prepare(cql, consistency=_CONSISTENCIES.get(name)) for name, cql in _STATEMENTS.items()
        }

    def put(self, version: PolicyVersion, weights: bytes) -> None:
        """Store a version: first its blobs, last its row."""
        manifest = manifest_bytes(version)
        row = (sha256_of(manifest), len(manifest), sha256_of(weights), len(weights))
        key = version.task, version.version
        if self._policy(*key) is None:
            self._put_blob(_blob(*key, "manifest", row[0]), manifest)
            self._put_blob(_blob(*key, "weights", row[2]), weights)
            self._writes.flush()
            self._rows("put_policy", *key, *row)
        if self._policy(*key) != row:  # this one, or another machine's that was first
            raise StorageError(
                f"{self._keyspace.target}: policy {version.task}@{version.version} is there with other content, and a "
                "version never changes: store it under the next number"
            )

    def weights(self, task: str, version: int) -> bytes:
        row = self._known(task, version)
        return self._blob(_blob(task, version, "weights", row[2]), row[3], row[2])

    def version(self, task: str, version: int) -> PolicyVersion:
        sha256, size, *_ = self._known(task, version)
        return self._manifest(task, version, sha256, size)

    def versions(self, task: str) -> list[PolicyVersion]:
        return [self._manifest(task, *row) for row in sorted(self._rows("policies", task))]

    def _manifest(self, task: str, version: int, sha256: str, size: int) -> PolicyVersion:
        name = _blob(task, version, "manifest", sha256)
        try:
            return read_policy_version(self._blob(name, size, sha256))
        except msgspec.MsgspecError as error:
            raise CorruptDataError(
                f"{self._keyspace.target}: {name} can't be read ({error}): use the headrace that wrote it"
            ) from error

    def _known(self, task: str, version: int) -> tuple[str, int, str, int]:
        row = self._policy(task, version)
        if row is None:
            known = sorted(found for found, *_ in self._rows("policies", task))
            raise UnknownPolicyError(
                f"policy {task}@{version} is not in {self._keyspace.target}; {task} has the versions {known or 'none'}"
            )
        return row

    def _policy(self, task: str, version: int) -> tuple[str, int, str, int] | None:
        rows = self._rows("policy", task, version)
        return rows[0] if rows else None

    def save(self, task: str, checkpoint: bytes, replaces: str | None = None) -> None:
        """Replace the task's learner checkpoint: write a generation, switch to it, empty the last one."""
        generation, sha256 = uuid.uuid1(), sha256_of(checkpoint)
        before, held = self._holds(task)
        if replaces is not None and held == sha256:
            return  # an earlier try, of which no answer came
        if replaces in {None, held}:
            self._begin("put_generation", 0, task, generation, sha256, len(checkpoint))
            self._put_blob(_generation_blob(task, generation), checkpoint)
            self._writes.flush()
        for _ in range(_SWITCHES):
            if replaces not in {None, held}:
                break
            self._rows("switch", generation, task, before)  # Cassandra refuses it where `before` is not current
            current, found = self._holds(task)
            if current == generation:
                self._retire(task, before, generation)
                return
            before, held = current, found
        raise CommitConflictError(
            f"{self._keyspace.target}: another learner of {task} has saved {held[:12] or 'nothing'} where this one's "
            f"checkpoint follows {(replaces or '')[:12] or 'nothing'}: it was not saved, and must not be"
        )

    def _holds(self, task: str) -> tuple[uuid.UUID | None, str]:
        """Return the generation that is current, and its hash; None and "" where there is none."""
        current = self._current(task)
        rows = self._rows("generation", task, current) if current else []
        return current, rows[0][0] if rows else ""

    def _retire(self, task: str, before: uuid.UUID | None, current: uuid.UUID) -> None:
        """Empty the generation before this one, and those that a crash left without a switch an hour ago."""
        for generation, size in self._rows("generations", task):
            abandoned = (current.time - generation.time) / 1e7 > _ABANDONED_S
            if size and generation != current and (generation == before or abandoned):
                for part in range(_parts(size)):
                    self._begin("empty_part", 0, _generation_blob(task, generation), part)
                self._begin("retire", 0, task, generation)
        self._writes.flush()

    def load(self, task: str) -> bytes | None:
        while (generation := self._current(task)) is not None:
            try:
                return self._generation(task, generation)
            except CorruptDataError:
                if self._current(task) == generation:  # else it was replaced while it was read
                    raise
        return None

    def _generation(self, task: str, generation: uuid.UUID) -> bytes:
        rows = self._rows("generation", task, generation)
        sha256, size = rows[0] if rows else ("", 0)
        return self._blob(_generation_blob(task, generation), size, sha256)

    def _current(self, task: str) -> uuid.UUID | None:
        rows = self._rows("current", task)
        return rows[0][0] if rows else None

    def about(self) -> str:
        return self._keyspace.about()

    def close(self) -> None:
        self._keyspace.close()

    def _rows(self, name: str, *values: object) -> list[Any]:
        return list(self._keyspace.stream([self._statements[name].bind(values)], 1))

    def _begin(self, name: str, size: int, *values: object) -> None:
        self._writes.put([Write(self._statements[name].bind(values), size)])

    def _put_blob(self, name: str, data: bytes) -> None:
        for part in range(_parts(len(data))):
            piece = data[part * PART_BYTES : (part + 1) * PART_BYTES]
            self._begin("put_part", len(piece), name, part, piece)

    def _blob(self, name: str, size: int, sha256: str) -> bytes:
        """Return a blob, checked against its hash; raises CorruptDataError."""
        select = self._statements["part"]
        found = list(self._keyspace.ask((select.bind((name, part)) for part in range(_parts(size))), _PARTS_IN_FLIGHT))
        data = b"".join(rows[0][0] for rows in found if rows)
        if sha256_of(data) != sha256:
            missing = [part for part, rows in enumerate(found) if not rows]
            fault = f"its parts {missing} are missing" if missing else f"its sha256 is {sha256_of(data)}"
            raise CorruptDataError(
                f"{self._keyspace.target}: {name}: {fault}, {sha256 or 'nothing'} was written: restore the keyspace; "
                "or roll back to another version; without its checkpoint a learner starts again from the windows topic"
            )
        return data


def _blob(task: str, version: int, kind: str, sha256: str) -> str:
    """Name a version's blob by its content: a crash between blob and row leaves nothing that the next try could mix."""
    return f"{task}@{version}/{kind}/{sha256}"


def _generation_blob(task: str, generation: uuid.UUID) -> str:
    return f"{task}/checkpoint/{generation}"


def _parts(size: int) -> int:
    return -(-size // PART_BYTES)
