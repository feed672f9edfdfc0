"""What a learner's training is fed: a window's chunk references become rows, each row once, and lineage."""

import logging
from collections.abc import Iterable
from typing import Any, Final

from headrace.learners.stream.training import Training
from headrace.pipelines.learn.progress import Progress
from headrace.schemas.errors import CorruptDataError, MissingChunkError
from headrace.schemas.records import ChunkKey, ChunkReference
from headrace.schemas.transition import TransitionBatch
from headrace.sinks.chunks import CachedChunks

logger = logging.getLogger(__name__)

REMEMBERED_CHUNKS: Final = 65_536
"""Of so many chunks it is known which rows were taken; a window that is emitted again brings only its new ones."""


class Feed:
    """Reads a task's chunks for its training."""

    def __init__(
        self,
        task: str,
        chunks: CachedChunks,
        taken: Iterable[ChunkReference] = (),
        *,
        accept_gap: bool = False,
    ) -> None:
        """taken: the references whose rows were taken before. accept_gap: whether to go on without missing chunks."""
        self._task = task
        self._chunks = chunks
        self._taken: dict[ChunkKey, ChunkReference] = {reference.key: reference for reference in taken}
        self._accept_gap = accept_gap

    @property
    def taken(self) -> list[ChunkReference]:
        """The references whose rows were taken, as far as they are remembered: they belong into a checkpoint."""
        return [*self._taken.values()]

    def take(
        self, references: Iterable[ChunkReference], training: Training[Any], progress: Progress
    ) -> list[TransitionBatch]:
        """Let the training take in what it has not had of a window's rows; return these."""
        wanted = [r for r in references if (had := self._taken.get(r.key)) is None or had.rows < r.rows]
        found = self._found(wanted)
        pieces = [(reference, self._remember(reference)) for reference, _ in found]
        rows = [(batch, first_row) for (_, batch), (_, first_row) in zip(found, pieces, strict=True)]
        training.take(rows)
        progress.took(pieces)
        progress.forget(training.counts.rows - training.held_rows)
        while len(self._taken) > REMEMBERED_CHUNKS:
            del self._taken[next(iter(self._taken))]
        return [batch.slice(first_row, len(batch)) for batch, first_row in rows]

    def _remember(self, reference: ChunkReference) -> int:
        """Note that a reference's rows are taken; return the first that is new."""
        had = self._taken.pop(reference.key, None)
        self._taken[reference.key] = reference
        return had.rows if had else 0

    def _found(self, references: list[ChunkReference]) -> list[tuple[ChunkReference, TransitionBatch]]:
        """Read chunks; those that are missing are passed over where that is accepted: lineage does not name them."""
        try:
            return [*zip(references, self._chunks.transitions(references), strict=True)]
        except MissingChunkError as error:
            if not self._accept_gap:
                raise MissingChunkError(f"{error}. Give --accept-gap to learn without it") from error
        found: list[tuple[ChunkReference, TransitionBatch]] = []
        for reference in references:
            try:
                found += zip([reference], self._chunks.transitions([reference]), strict=True)
            except MissingChunkError as error:
                logger.warning("%s: %s; learned without it", self._task, error)
        return found

    def refill(self, training: Training[Any], progress: Progress) -> None:
        """Give a restored training the rows that it held. Where some are gone from the index it begins after them."""
        try:
            batches = self._chunks.transitions([reference for reference, _ in progress.inserted])
        except CorruptDataError as error:
            logger.warning("%s: learning goes on without the rows that it held: %s", self._task, error)
            training.begin_anew()
            progress.begin_anew(training.counts.rows)
            return
        first_rows = [first_row for _, first_row in progress.inserted]
        training.refill(zip(batches, first_rows, strict=True), progress.first_row - progress.base_row)
