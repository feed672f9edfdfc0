"""TransitionBatch: many transitions of one task, as columns."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_POLICY_VERSION = -1
"""policy_version of a transition that names none."""


@dataclass(frozen=True, slots=True, eq=False)
class TransitionBatch:
    """N transitions of one task: D observation features, K reward terms.

    agent, episode: int32[N], positions in `agents` and `episodes`, names in order of appearance.
    step: int64[N]. ts: int64[N], event time, ms UTC. offset: int64[N], of the message that held the row.
    obs, next_obs: float32[N, D]. action: int32[N], or float32[N, A] for continuous ones.
    reward: float32[N]. terminated, truncated: bool[N].
    reward_terms: float32[N, K], NaN where absent. policy_version: int64[N], -1 where absent.
    log_prob: float32[N], NaN where absent.
    """

    task: str
    agents: tuple[str, ...]
    episodes: tuple[str, ...]
    agent: NDArray[np.int32]
    episode: NDArray[np.int32]
    step: NDArray[np.int64]
    ts: NDArray[np.int64]
    offset: NDArray[np.int64]
    obs: NDArray[np.float32]
    action: NDArray[Any]
    reward: NDArray[np.float32]
    next_obs: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    reward_terms: NDArray[np.float32]
    policy_version: NDArray[np.int64]
    log_prob: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.step)

    def take(self, rows: NDArray[Any]) -> "TransitionBatch":
        """Return the rows at the given positions, or where a boolean mask is true."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        columns = (getattr(self, name).take(positions, axis=0) for name in COLUMNS)
        return TransitionBatch(self.task, self.agents, self.episodes, *columns)

    def slice(self, start: int, stop: int) -> "TransitionBatch":
        """Return rows start to stop, as views."""
        columns = (getattr(self, name)[start:stop] for name in COLUMNS)
        return TransitionBatch(self.task, self.agents, self.episodes, *columns)


COLUMNS = tuple(f.name for f in fields(TransitionBatch) if f.name not in {"task", "agents", "episodes"})
"""The names of the columns that have a row per transition."""


class Names(dict[str, int]):
    """Codes of names, given in order of appearance."""

    def __missing__(self, name: str) -> int:
        code = self[name] = len(self)
        return code

    def codes(self, names: Sequence[str]) -> NDArray[np.int32]:
        """Return int32[names]."""
        return np.fromiter(map(self.__getitem__, names), np.int32, len(names))


def concat(batches: Sequence[TransitionBatch]) -> TransitionBatch:
    """Join batches of one task, row after row, under common dictionaries of agents and episodes."""
    assert batches
    assert len({batch.task for batch in batches}) == 1
    if len(batches) == 1:
        return batches[0]
    agents, agent = _unify([(batch.agents, batch.agent) for batch in batches])
    episodes, episode = _unify([(batch.episodes, batch.episode) for batch in batches])
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in COLUMNS
        if name not in {"agent", "episode"}
    }
    return replace(batches[0], agents=agents, episodes=episodes, agent=agent, episode=episode, **columns)


def _unify(
    parts: Sequence[tuple[tuple[str, ...], NDArray[np.int32]]],
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    names = Names()
    columns = [names.codes(own)[column] for own, column in parts]
    return tuple(names), np.concatenate(columns)
