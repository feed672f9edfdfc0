"""What agents earned by each version of a policy, out of the index."""

from collections.abc import Iterator

import numpy as np

from headrace.learners.judge.observed import ObservedReturn, observed_returns
from headrace.schemas.chunk import decode_chunk
from headrace.schemas.ports import Index
from headrace.schemas.records import TaskSpec
from headrace.schemas.transition import TransitionBatch


def observed(
    index: Index, spec: TaskSpec, start_ms: int | None = None, end_ms: int | None = None
) -> list[ObservedReturn]:
    """Compute the returns of a task's rows with start_ms <= ts < end_ms, by version; raises CorruptDataError."""
    return observed_returns(rows_between(index, spec, start_ms, end_ms))


def rows_between(index: Index, spec: TaskSpec, start_ms: int | None, end_ms: int | None) -> Iterator[TransitionBatch]:
    """Yield a task's rows with start_ms <= ts < end_ms, chunk by chunk; raises CorruptDataError."""
    from_ms = None if start_ms is None else start_ms - start_ms % spec.window_ms  # chunks go by their window's start
    for row in index.scan(spec.task, from_ms, end_ms):
        batch = decode_chunk(row.payload, row.checksum, row.reference)
        wanted = np.ones(len(batch), np.bool_)
        if start_ms is not None:
            wanted &= batch.ts >= start_ms
        if end_ms is not None:
            wanted &= batch.ts < end_ms
        if wanted.any():
            yield batch.take(wanted)
