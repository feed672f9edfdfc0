"""Versions for an agent: read from log and store, checked by hash, and kept in a file."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

import msgspec

from headrace.learners.acting import BoxPolicy, Policy, load_policy
from headrace.learners.checkpoint import pack, unpack, weights_hash
from headrace.learners.stream.exploring import Exploration, Explorer
from headrace.pipelines.tasks import task_specs
from headrace.pipelines.topics import DIRECTIVES, POLICIES, TopicReader, records
from headrace.schemas.errors import CorruptDataError, SettingsError
from headrace.schemas.policy_versions import acts_by
from headrace.schemas.ports import Log, PolicyStore
from headrace.schemas.records import Directive, ServingPolicy, TaskSpec
from headrace.sinks.files.policies import replace_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Version:
    """A version, checked and loaded. weights: as stored. steps: rows learned from, where epsilon follows."""

    task: str
    number: int
    hash: str
    steps: int
    weights: bytes
    policy: Policy | BoxPolicy


class _Kept(msgspec.Struct, frozen=True):
    """The metadata of a kept file."""

    task: str
    number: int
    hash: str
    steps: int


class Reader:
    """Reads on, on one open log, what was decided about a task. agent_id: whose part in a canary it is."""

    def __init__(self, log: Log, store: PolicyStore, task: str, agent_id: str, exploration: Exploration) -> None:
        self._log, self._store, self._task, self._agent_id = log, store, task, agent_id
        self._policies = TopicReader(log, POLICIES, task)
        self._directives = TopicReader(log, DIRECTIVES, task)
        self._explorer = Explorer(exploration, {})
        self._wanted: ServingPolicy | None = None
        self._spec: TaskSpec | None = None

    def spec(self) -> TaskSpec | None:
        """Return the task's spec, None where the log has none."""
        if self._spec is None and (found := task_specs(self._log).get(self._task)):
            self._spec = found
            self._explorer.base = self._explorer.base.stated(found.learner)
            self._explorer.apply([])
        return self._spec

    def exploration(self) -> Exploration:
        """Return how agents explore by the task's file and the directives that stand now."""
        self.spec()
        for batch in self._directives.batches():
            self._explorer.apply([*records([batch], Directive, strict=True)])
        return self._explorer.now

    def newer(self, than: Version | None) -> Version | None:
        """Return the version to act by, None where none serves or it is the one at hand; raises as `loaded` does."""
        for record in records(self._policies.batches(), ServingPolicy, strict=True):
            self._wanted = record
        if self._wanted is None:
            return None
        number, canary = acts_by(self._wanted, self._agent_id), self._wanted.canary
        expected = canary.weights_hash if canary and number == canary.version else self._wanted.weights_hash
        if not number or (than is not None and (than.number, than.hash) == (number, expected)):
            return None
        version = loaded(self._task, number, expected, 0, self._store.weights(self._task, number))
        if isinstance(version.policy, BoxPolicy) or version.policy.softmax:
            return version  # it explores by no schedule, so the manifest need not be read
        return replace(version, steps=self._store.version(self._task, number).environment_steps)


def loaded(task: str, number: int, expected: str, steps: int, weights: bytes) -> Version:
    """Check a version's weights, and load them; raises CorruptDataError for others, ValueError for no policy."""
    found = weights_hash(weights)
    if found != expected:
        raise CorruptDataError(
            f"policy {task}@{number}: the weights have the hash {found}, {expected} was promoted: restore them, or "
            "roll back to another version"
        )
    return Version(task, number, found, steps, weights, load_policy(weights))


def keep(path: Path, version: Version) -> None:
    """Write a version to a file, whole or not at all, whoever else keeps theirs there; raises StorageError."""
    kept = _Kept(version.task, version.number, version.hash, version.steps)
    replace_file(path, pack(unpack(version.weights)[0], msgspec.to_builtins(kept)), writer=f".{token_hex(8)}")


def kept(path: Path, task: str) -> Version | None:
    """Return the version that a file keeps; None, with a warning where it is damaged, if it keeps none.

    Raises SettingsError where it is another task's, or nothing that can be read, as a folder.
    """
    try:
        weights = path.read_bytes()
        found = msgspec.convert(unpack(weights)[1], _Kept)
        version = loaded(found.task, found.number, found.hash, found.steps, weights)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SettingsError(
            f"keep={str(path)!r}: {error.strerror or error}: name a file that can be written"
        ) from error
    except (CorruptDataError, ValueError) as error:  # msgspec's are ValueErrors
        logger.warning("%s keeps no version that can act: %s", path, error)
        return None
    if found.task != task:
        raise SettingsError(f"{path} keeps a policy of task {found.task}, not of {task}: name another file")
    return version
