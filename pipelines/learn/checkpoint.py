"""A learner's checkpoint: all that it goes on from, and saving it only where no other learner has."""

import hashlib
from typing import Any, NamedTuple

import msgspec

from headrace.learners.checkpoint import pack, unpack
from headrace.learners.stream.algorithms import restored
from headrace.learners.stream.training import Counts, Learned, LearnSettings, Training
from headrace.pipelines.learn.advice import AdviceState
from headrace.pipelines.learn.progress import Progress
from headrace.schemas.errors import CorruptDataError
from headrace.schemas.ports import PolicyStore
from headrace.schemas.records import ChunkReference, TaskSpec


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

    def load(self, settings: LearnSettings, learned: Learned) -> Saved | None:
        """Return what was saved last, None where nothing was; raises CorruptDataError for what can't be read."""
        data = self._store.load(self._spec.task)
        if data is None:
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
                Progress.read(meta["progress"]),
                msgspec.convert(meta["advice"], AdviceState),
                msgspec.convert(meta["taken"], list[ChunkReference]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptDataError(
                f"the checkpoint of {self._spec.task} is not one of this headrace ({error}): go on with the headrace "
                "that wrote it, or move it away, and the task is learned again from the windows that the log holds"
            ) from error
