"""Which decisions are kept to be found by similarity: a sample that depends on the transitions alone.

A transition is in it or not whatever batch it comes in, so a crash, a replay or a backfill samples the same ones.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.decisions import DecisionBatch, vectors_of
from headrace.schemas.records import TaskSpec
from headrace.schemas.transition import TransitionBatch

# murmur3's mixers (Appleby 2011).
_MIX: Final = np.uint32(0x85EBCA6B)
_MIX_AGAIN: Final = np.uint32(0xC2B2AE35)


def sample(rows: TransitionBatch, spec: TaskSpec, partition: int, every: int) -> DecisionBatch | None:
    """Return about one in `every` of a partition's checked rows, with their vectors; none where `every` is 0."""
    if not every or not len(places := chosen(rows, every)):
        return None
    found = _distinct(rows.take(places))
    return DecisionBatch(partition, found, vectors_of(found.obs, spec))


def chosen(rows: TransitionBatch, every: int) -> NDArray[np.int64]:
    """Return the places of the rows that are in the sample: those whose hash is among the least.

    It is of a row's step, event time, reward, first and last feature: a copy has them too. (Names would cost more to
    hash; agents that saw and got the same at the same time are chosen together. The offset would not do: a message of
    many rows has one.)
    """
    hashes = rows.step.astype(np.uint32)
    hashes *= _MIX
    hashes += rows.ts.astype(np.uint32)
    for column in (rows.reward, rows.obs[:, 0], rows.obs[:, -1]):
        hashes *= _MIX_AGAIN
        hashes ^= column.view(np.uint32)
    for shift, mixer in ((16, _MIX), (13, _MIX_AGAIN)):
        hashes ^= hashes >> np.uint32(shift)
        hashes *= mixer
    return np.flatnonzero(hashes <= np.uint32((1 << 32) // every - 1))


def _distinct(rows: TransitionBatch) -> TransitionBatch:
    """Drop copies within a message: the first is meant, and the copies have no key of their own."""
    columns = (rows.offset, rows.agent, rows.episode, rows.step, rows.ts)
    keys = list(zip(*(column.tolist() for column in columns), strict=True))
    if len(set(keys)) == len(keys):
        return rows
    first = {key: place for place, key in reversed(list(enumerate(keys)))}
    return rows.take(np.array(sorted(first.values()), np.int64))
