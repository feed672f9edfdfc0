"""Sampled decisions: their columns, their vectors, and the bytes that a store keeps of each.

A decision is a transition that can be asked for by similarity. Its row never changes, so it needs no write time of
its own: adapters use its event time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.errors import CorruptDataError
from headrace.schemas.records import TaskSpec
from headrace.schemas.transition import Names, TransitionBatch

MOST_SIMILAR: Final = 250
"""The most decisions that one question may ask for: Cassandra gives 1,000 candidates at most."""
WIDEST_BOUNDS: Final = 1e6
"""Bounds that lie farther apart say nothing about the scale of what is between them."""

_WIDTHS_BYTES: Final = 6

DecisionKey = tuple[str, int, int, int, str, str, int]
"""(task, partition, offset, ts, agent_id, episode_id, step): whose decision it is, and its place in the log."""


@dataclass(frozen=True, slots=True, eq=False)
class DecisionBatch:
    """N decisions of one task from one partition of the log. vectors: float32[N, D], see `vectors_of`."""

    partition: int
    rows: TransitionBatch
    vectors: NDArray[np.float32]

    def keys(self) -> list[DecisionKey]:
        """Return each decision's key; none comes twice."""
        rows = self.rows
        columns = (rows.offset, rows.ts, rows.agent, rows.episode, rows.step)
        return [
            (rows.task, self.partition, offset, ts, rows.agents[agent], rows.episodes[episode], step)
            for offset, ts, agent, episode, step in zip(*(column.tolist() for column in columns), strict=True)
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """N decisions, the nearest first. distances: float64[N]."""

    rows: TransitionBatch
    distances: NDArray[np.float64]


def vectors_of(obs: NDArray[np.float32], spec: TaskSpec) -> NDArray[np.float32]:
    """Return float32[N, D]: observations float32[N, D] on scales that can be compared.

    A feature that has bounds becomes its place between them, 0 to 1. Another stays as it is within -1 and 1; beyond,
    each doubling adds 1 (Mitchell's logarithm, 1962), so that no feature drowns the others. Divided by the root of D,
    a distance is the root mean square over the features. All of it is exactly rounded: every machine gives the same.
    """
    values = obs.astype(np.float64)
    mantissa, exponent = np.frexp(1 + np.abs(values))
    scaled = np.copysign(exponent - 1 + (2 * mantissa - 1), values)
    if spec.bounds:
        low, high = np.array(spec.bounds.low), np.array(spec.bounds.high)
        span = high - low
        bounded = span <= WIDEST_BOUNDS
        span[span == 0] = 1
        scaled = np.where(bounded, (values - low) / span, scaled)
    vectors: NDArray[np.float32] = (scaled / np.sqrt(np.float64(spec.width))).astype(np.float32)
    return vectors


@lru_cache(maxsize=64)
def _layout(width: int, terms: int, actions: int) -> np.dtype[Any]:
    """Return the layout of a decision's bytes. actions: 0 for discrete ones, else their dimensions."""
    return np.dtype(
        [
            ("widths", "<u2", 3),
            ("ends", "<u2"),
            ("policy_version", "<i8"),
            ("action", "<f4", actions) if actions else ("action", "<i4"),
            ("reward", "<f4"),
            ("log_prob", "<f4"),
            ("reward_terms", "<f4", (terms,)),
            ("obs", "<f4", (width,)),
            ("next_obs", "<f4", (width,)),
            ("vector", "<f4", (width,)),
        ]
    )


def pack(batch: DecisionBatch) -> list[bytes]:
    """Return each decision's bytes: all but what its key holds."""
    rows = batch.rows
    actions = rows.action.shape[1] if rows.action.ndim == 2 else 0
    widths = rows.obs.shape[1], rows.reward_terms.shape[1], actions
    out = np.empty(len(rows), _layout(*widths))
    out["widths"] = widths
    out["ends"] = rows.terminated + 2 * rows.truncated.astype(np.uint16)
    out["vector"] = batch.vectors
    for name in ("policy_version", "action", "reward", "log_prob", "reward_terms", "obs", "next_obs"):
        out[name] = getattr(rows, name)
    data, size = out.tobytes(), out.dtype.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]


def _unpack(packed: Sequence[bytes]) -> NDArray[Any]:
    """Return one task's decisions as an array of records: the widths are the same in all of them."""
    widths = packed[0][:_WIDTHS_BYTES]
    layout = _layout(*np.frombuffer(widths.ljust(_WIDTHS_BYTES, b"\0"), "<u2").tolist())
    if any(len(one) != layout.itemsize or not one.startswith(widths) for one in packed):
        raise CorruptDataError(
            "sampled decisions of one task differ in their widths: some are damaged; `headrace run ingest "
            "--from-start` writes them again, if the log still holds their rows"
        )
    return np.frombuffer(b"".join(packed), layout)


def unpack(keys: Sequence[DecisionKey], packed: Sequence[bytes]) -> TransitionBatch:
    """Return one task's decisions as transitions; there is at least one. Raises CorruptDataError."""
    found, agents, episodes = _unpack(packed), Names(), Names()
    tasks, _, offset, ts, agent, episode, step = zip(*keys, strict=True)
    agent_codes, episode_codes = agents.codes(agent), episodes.codes(episode)
    columns = ("reward", "next_obs", "reward_terms", "policy_version", "log_prob", "obs", "action")
    return TransitionBatch(
        task=tasks[0],
        agents=tuple(agents),
        episodes=tuple(episodes),
        agent=agent_codes,
        episode=episode_codes,
        step=np.array(step, np.int64),
        ts=np.array(ts, np.int64),
        offset=np.array(offset, np.int64),
        terminated=(found["ends"] & 1).astype(np.bool_),
        truncated=(found["ends"] & 2).astype(np.bool_),
        **{name: np.ascontiguousarray(found[name]) for name in columns},
    )


def neighbours(
    keys: Sequence[DecisionKey], packed: Sequence[bytes], vector: NDArray[np.float32], limit: int
) -> Neighbours | None:
    """Return at most `limit` of one task's decisions, the nearest to float32[D] first; None if there are none.

    Of a decision that is in the log more than once (the same agent, episode and step), its first copy is meant.
    Raises CorruptDataError.
    """
    places = nearest(keys, packed, vector, limit)
    if not places:
        return None
    chosen, data = [keys[place] for place in places], [packed[place] for place in places]
    return Neighbours(unpack(chosen, data), distances(data, vector))


def nearest(keys: Sequence[DecisionKey], packed: Sequence[bytes], vector: NDArray[np.float32], limit: int) -> list[int]:
    """Return the places of at most `limit` decisions, the nearest first, and equally near ones in log order."""
    if not keys:
        return []
    far = distances(packed, vector).tolist()
    found: dict[tuple[str, str, int], int] = {}
    for place in sorted(range(len(keys)), key=lambda i: (far[i], keys[i])):
        found.setdefault(keys[place][4:], place)
        if len(found) == limit:
            break
    return list(found.values())


def distances(packed: Sequence[bytes], vector: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return float64[N], the Euclidean distances of decisions' vectors from float32[D]; raises CorruptDataError."""
    difference = _unpack(packed)["vector"] - vector.astype(np.float64)
    found: NDArray[np.float64] = np.sqrt((difference * difference).sum(axis=1))
    return found
