"""A learner's checkpoint: all that it goes on from, and saving it only where no other learner has."""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from headrace.learners.checkpoint import pack, unpack
from headrace.learners.stream.algorithms import algorithm, restored
from headrace.learners.stream.stated import learned_by
from headrace.learners.stream.training import Config, Counts, Learned, LearnSettings, Training
from headrace.pipelines.learn.advice import AdviceState
from headrace.pipelines.learn.progress import Progress
from headrace.schemas.errors import CorruptDataError
from headrace.schemas.ports import PolicyStore
from headrace.schemas.records import ChunkReference, PolicyVersion, TaskSpec

logger = logging.getLogger(__name__)


class Saved(NamedTuple):
    """What a checkpoint holds. taken: the references whose rows were taken."""

    training: Training[Any]
    progress: Progress
    advice: AdviceState
    taken: list[ChunkReference]


class Checkpoint:
    """One task's checkpoint in the policy store."""

    def __init__(self, spec: TaskSpec, store: PolicyStore) -> None:
        self._spec = spec
        self._store = store
        self._follows = ""
        self._offset = 0
        self.rows = 0
        """How many rows the training had taken in when it was saved."""

    def load(self, settings: LearnSettings, learned: Learned, *, from_start: bool = False) -> Saved | None:
        """Return what was saved last, None where nothing was; raises CorruptDataError for what can't be read.

        from_start: return None in any case; what is saved next replaces what is there.
        """
        data = self._store.load(self._spec.task)
        if data is None:
            return None
        if from_start:
            self._follows = hashlib.sha256(data).hexdigest()
            return None
        saved = self._read(data, settings, learned)
        self._note(data, saved)
        return saved

    def save(self, saved: Saved) -> None:
        """Save, if anything was taken in since; raises CommitConflictError where another learner has saved one."""
        if self._offset == saved.progress.next_offset:
            return
        arrays, state = saved.training.state_to_arrays()
        meta = {
            state["algorithm"]: state,
            "counts": msgspec.to_builtins(saved.training.counts),
            "progress": msgspec.to_builtins(saved.progress),
            "taken": msgspec.to_builtins(saved.taken),
            "advice": msgspec.to_builtins(saved.advice),
        }
        data = pack(arrays, meta)
        self._store.save(self._spec.task, data, self._follows)
        self._note(data, saved)

    def _note(self, data: bytes, saved: Saved) -> None:
        self._follows = hashlib.sha256(data).hexdigest()
        self._offset = saved.progress.next_offset
        self.rows = saved.training.counts.rows

    def _read(self, data: bytes, settings: LearnSettings, learned: Learned) -> Saved:
        try:
            arrays, meta = unpack(data)
            counts = msgspec.convert(meta["counts"], Counts)
            return Saved(
                restored(arrays, meta, self._spec, settings, counts, learned),
                msgspec.convert(meta["progress"], Progress),
                msgspec.convert(meta["advice"], AdviceState),
                msgspec.convert(meta["taken"], list[ChunkReference]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _of_another_headrace(self._spec.task, error) from error


def place_in(task: str, data: bytes) -> tuple[Progress, Counts]:
    """Return how far a checkpoint is; raises CorruptDataError where it can't be read."""
    try:
        meta = unpack(data)[1]
        return msgspec.convert(meta["progress"], Progress), msgspec.convert(meta["counts"], Counts)
    except (KeyError, TypeError, ValueError) as error:
        raise _of_another_headrace(task, error) from error


def missing_rows(spec: TaskSpec, data: bytes) -> int:
    """Return the rows that a task lacks to its next candidate by its checkpoint, and by what is stated of it alone."""
    progress, counts = place_in(spec.task, data)
    return progress.missing_rows(counts.rows, learned_by(spec, progress.stated).settings)


def warn_of_another(task: str, own: Config, asked: Config) -> None:
    """Tell of a checkpoint that does not go on as was asked for: replay depends on what it was begun with."""
    remedy = f"; `headrace run learn --task {task} --from-start` begins anew"
    if own.algorithm != asked.algorithm:
        logger.warning("%s: its checkpoint is of %s: it goes on by that%s", task, own.algorithm, remedy)
        return
    fixed = algorithm(own.algorithm).fixed
    differing = [f"{name} {getattr(own, name)}" for name in fixed if getattr(own, name) != getattr(asked, name)]
    if differing:
        kept = ", ".join(differing)
        logger.warning("%s: its checkpoint goes on with what it was begun with: %s%s", task, kept, remedy)


def require_newest(
    task: str, progress: Progress, versions: Sequence[PolicyVersion], emitted: int, *, accept_gap: bool
) -> None:
    """Refuse a checkpoint from a backup: the windows since were committed and would never be learned from.

    emitted: up to which offset the commit says that the task was learned; 0 where it does not say. Then versions beyond
    the checkpoint's can only warn: a learner that was killed leaves some too, as refused candidates make no checkpoint
    due. Raises CorruptDataError; accept_gap: only tell.
    """
    newest = max((one.version for one in versions if one.config.get("source") != "simulation"), default=0)
    older = not progress.from_start and progress.next_offset < emitted
    if not older and (emitted or newest <= progress.version + 1):
        return
    told = (
        f"{task}: the checkpoint {'is' if older else 'may be'} older than what was learned: it is of version "
        f"{progress.version} and window offset {progress.next_offset}; the store and the log tell of version {newest} "
        f"and offset {emitted or 'unknown'}"
    )
    if not older:
        logger.warning("%s; it is gone on from", told)
        return
    if not accept_gap:
        raise CorruptDataError(
            f"{told}. Put the newer one back, or learn the task again from the first window that the log holds "
            f"(`headrace run learn --task {task} --from-start`), or give --accept-gap to go on from this one without "
            "the windows between"
        )
    logger.warning("%s: the windows between are not learned from, as --accept-gap says", told)


def _of_another_headrace(task: str, error: Exception) -> CorruptDataError:
    return CorruptDataError(
        f"the checkpoint of {task} is not one of this headrace ({error}): go on with the headrace that wrote it, or "
        "move it away, and the task is learned again from the windows that the log holds"
    )
