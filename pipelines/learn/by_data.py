"""A candidate judged by the rows that its learner holds or learned from: the gate of tasks without a simulator."""

from typing import Final

from headrace.learners.acting import load_policy
from headrace.learners.judge.data import DataVerdict, judge_by_data
from headrace.learners.judge.spending import place_of, spent
from headrace.learners.stream.training import Config
from headrace.pipelines.learn.progress import Progress
from headrace.schemas.errors import MissingChunkError
from headrace.schemas.ports import PolicyStore
from headrace.schemas.records import ChunkKey, ChunkReference, TaskSpec
from headrace.schemas.transition import TransitionBatch, concat
from headrace.sinks.chunks import CachedChunks

DATA_ROWS: Final = 51_200
"""So many of the newest rows judge a candidate: twice those between two candidates."""
GREATEST_DISCOUNT: Final = 0.99
"""Of a learner that discounts less, or not at all, what lies 100 steps ahead counts by no more than this allows."""


def judged_by_data(
    spec: TaskSpec, chunks: CachedChunks, store: PolicyStore, weights: bytes, progress: Progress, config: Config
) -> DataVerdict:
    """Judge a candidate's weights against what serves. config: its learner's, whose discount counts."""
    rows = _rows(chunks, newest_references(progress, DATA_ROWS))
    serving = None if progress.serving is None else load_policy(store.weights(spec.task, progress.serving))
    discount = min(float(getattr(config, "discount", GREATEST_DISCOUNT)), GREATEST_DISCOUNT)
    actions = spec.action_count if spec.discrete else 0
    # As in a simulator: however many candidates come, the error against one serving version stays bounded.
    alpha = spent(place_of(progress.version, progress.serving))
    return judge_by_data(rows, load_policy(weights), serving, actions, discount, alpha)


def newest_references(progress: Progress, rows: int) -> list[ChunkReference]:
    """Return what was taken in last, of the chunks that the learner holds or learned from since its last version.

    They follow from the order of windows alone, as all that a version becomes.
    """
    known: dict[ChunkKey, ChunkReference] = {}
    for reference in [*(held for held, _ in progress.inserted), *(entry.reference for entry in progress.lineage)]:
        had = known.pop(reference.key, None)  # a chunk that has grown holds what it held before
        known[reference.key] = reference if had is None or had.rows < reference.rows else had
    chosen: list[ChunkReference] = []
    for reference in reversed(known.values()):
        if rows <= 0:
            break
        chosen.append(reference)
        rows -= reference.rows
    return chosen[::-1]


def _rows(chunks: CachedChunks, references: list[ChunkReference]) -> TransitionBatch | None:
    """Read chunks; what its time to live has removed meanwhile judges nothing."""
    try:
        found = chunks.transitions(references)
    except MissingChunkError:
        return None
    return concat(found) if found else None
