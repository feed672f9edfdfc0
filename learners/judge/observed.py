"""What agents earned by each version: returns as the rows tell them, without any simulator or model.

Who acted is in the rows (`policy_version`). That a version earned more than another does not say that it is better:
the load may have changed meanwhile. A canary, whose agents act at the same time as the others, does.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

from headrace.learners.judge.statistics import ratio_interval
from headrace.schemas.transition import TransitionBatch

CLUSTER_AGENTS: Final = 10
"""With so many agents or more these are the independent units; with fewer their episodes are, or pieces of them."""
MIXED: Final = -2
"""The version of an episode in which several acted."""


@dataclass(frozen=True, slots=True)
class ObservedReturn:
    """What one version earned.

    version: -1 for rows that name none. measure: the mean return of complete episodes or, for a version that has fewer
    than two of these, the mean reward per step. low, high: its 95 % interval; None for fewer than two independent
    units. episodes: complete ones. agents, rows: all that acted by it.
    """

    version: int
    measure: Literal["return", "reward per step"]
    mean: float
    low: float | None
    high: float | None
    episodes: int
    agents: int
    rows: int


class _Piece(NamedTuple):
    """An episode's rows in one batch, by one version."""

    agent: str
    episode: str
    version: int
    rows: int
    reward: float
    first_step: int
    last_step: int
    ended: bool


def observed_returns(batches: Iterable[TransitionBatch]) -> list[ObservedReturn]:
    """Compute what each version earned, by version.

    batches: rows of one task in any order, such as chunks. An episode is complete where it begins at step 0 or 1, no
    step is missing or repeated, it ends, and one version acted in all of it.
    """
    episodes: dict[tuple[str, str], _Piece] = {}
    pieces: dict[int, list[_Piece]] = defaultdict(list)
    for batch in batches:
        for piece in _pieces(batch):
            pieces[piece.version].append(piece)
            key = (piece.agent, piece.episode)
            episodes[key] = _joined(episodes[key], piece) if key in episodes else piece
    complete: dict[int, list[_Piece]] = defaultdict(list)
    for whole in filter(_is_complete, episodes.values()):
        complete[whole.version].append(whole)
    return [_observed(version, pieces[version], complete[version]) for version in sorted(pieces)]


def _pieces(batch: TransitionBatch) -> Iterator[_Piece]:
    """Sum a batch up by agent, episode and version."""
    keys = np.column_stack([batch.agent, batch.episode, batch.policy_version])
    names, first, code = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    code = code.reshape(-1)
    low, high = batch.step[first].copy(), batch.step[first].copy()
    np.minimum.at(low, code, batch.step)
    np.maximum.at(high, code, batch.step)
    ended = np.bincount(code, batch.terminated | batch.truncated) > 0
    sums = (np.bincount(code), np.bincount(code, batch.reward.astype(np.float64)), low, high, ended)
    columns = [column.tolist() for column in sums]
    for (agent, episode, version), *figures in zip(names.tolist(), *columns, strict=True):
        yield _Piece(batch.agents[agent], batch.episodes[episode], version, *figures)


def _joined(one: _Piece, other: _Piece) -> _Piece:
    return _Piece(
        one.agent,
        one.episode,
        one.version if one.version == other.version else MIXED,
        one.rows + other.rows,
        one.reward + other.reward,
        min(one.first_step, other.first_step),
        max(one.last_step, other.last_step),
        one.ended or other.ended,
    )


def _is_complete(whole: _Piece) -> bool:
    steps = whole.last_step - whole.first_step + 1
    return whole.ended and whole.first_step in {0, 1} and steps == whole.rows and whole.version != MIXED


def _observed(version: int, pieces: list[_Piece], complete: list[_Piece]) -> ObservedReturn:
    episodic = len(complete) > 1
    measured = complete if episodic else pieces
    agents = {piece.agent for piece in pieces}
    tops, bottoms = _by_cluster(measured, episodic=episodic)
    low = high = None
    if len(tops) > 1:
        _, low, high, _ = ratio_interval(tops, bottoms)
    mean = float(tops.sum() / bottoms.sum())
    rows = sum(piece.rows for piece in pieces)
    return ObservedReturn(
        version, "return" if episodic else "reward per step", mean, low, high, len(complete), len(agents), rows
    )


def _by_cluster(measured: list[_Piece], *, episodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rewards, and what they are counted by (episodes or rows), of each independent unit: float64[N] each."""
    by_agent = len({piece.agent for piece in measured}) >= CLUSTER_AGENTS
    sums: dict[object, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for number, piece in enumerate(measured):
        cluster = sums[piece.agent if by_agent else number]
        cluster[0] += piece.reward
        cluster[1] += 1 if episodic else piece.rows
    tops, bottoms = np.array([*sums.values()], np.float64).T
    return tops, bottoms
