"""Rows of a stream as trajectories: in the order of agents, episodes and steps, and cut where that has a gap.

An agent may use an episode's name again, or count its steps anew: one step at two event times is two rows, and such an
episode is in the order of event time.
"""

from collections.abc import Sequence

import numpy as np

from headrace.learners.dqn.replay import Batch
from headrace.learners.ppo.rows import Rollout
from headrace.schemas.transition import TransitionBatch


def rollout_of(rows: TransitionBatch, steps: int, version: int, newest: int) -> Rollout:
    """Put rows together to trajectories, and these one after another into columns.

    A trajectory goes on from a row to the same episode's next step; everywhere else it is cut, and bootstrapped from
    what truly followed, unless it terminated. So it is at the end of a column, as at the end of any rollout. Of rows
    with one (agent, episode, step, event time) the first that arrived stays.

    rows: R > 0 transitions in any order, each with its log_prob. steps: T, length of a column. version: the learner's,
    `PPOState.version`. newest: the newest policy version that there is; a row that names a later one is taken to name
    none. Returns a rollout float32[T, N, ...], padded at its end. The newest policy that acted in it is one version
    behind the learner, older ones by as many more as their numbers are lower; a row that names no version counts as
    older than version 1.
    """
    assert len(rows)
    rows, follows = _in_order(rows)
    count = len(rows)
    steps = min(steps, count)
    places = np.arange(-(-count // steps) * steps).reshape(-1, steps).T
    present = places < count
    index = np.minimum(places, count - 1)
    acted = np.where(rows.policy_version <= newest, np.maximum(rows.policy_version, 0), 0)
    action = rows.action.astype(np.int64) if rows.action.ndim == 1 else rows.action.astype(np.float32)
    return Rollout(
        obs=rows.obs[index],
        action=action[index],
        log_prob=rows.log_prob[index],
        reward=rows.reward[index],
        next_obs=rows.next_obs[index],
        terminated=rows.terminated[index],
        truncated=(rows.truncated | ~follows)[index],
        version=(version - 1 - (acted.max() - acted))[index],
        present=None if present.all() else present,
    )


def spanning(rows: TransitionBatch, n: int, discount: float) -> Batch:
    """Let each row's reward span up to n steps of its trajectory; where that is cut, or its episode ends, fewer.

    rows: R transitions in any order. discount: gamma, per step. Returns R transitions by agent, episode and step: as
    many as there were rows, as replay counts them.
    """
    rows = rows.take(_order(rows))
    goes_on = _follows(rows) & ~(rows.terminated | rows.truncated)
    last, goes = np.arange(len(rows)), np.ones(len(rows), np.bool_)
    reward = rows.reward.astype(np.float64)
    for step in range(1, n):
        goes = goes & goes_on[last]
        last = last + goes
        reward += np.where(goes, discount**step * rows.reward[last], 0.0)
    return Batch(
        obs=rows.obs,
        action=rows.action.astype(np.int64),
        reward=reward.astype(np.float32),
        next_obs=rows.next_obs[last],
        terminated=rows.terminated[last],
        steps=last - np.arange(len(rows)) + 1,
    )


def _in_order(rows: TransitionBatch) -> tuple[TransitionBatch, np.ndarray]:
    """The rows by agent, episode and step, each once; and whether the next one is the same episode's next step."""
    rows = rows.take(_order(rows))
    repeated = _same_episode(rows) & (rows.step[1:] == rows.step[:-1]) & (rows.ts[1:] == rows.ts[:-1])
    rows = rows.take(np.append(True, ~repeated))
    return rows, _follows(rows)


def _order(rows: TransitionBatch) -> np.ndarray:
    """Places by agent, episode and step, with event time first where steps recur; of equals the first that arrived.

    By names: which codes they have depends on what else the rows' chunks held when they were read.
    """
    episode, agent = _ranks(rows.episodes)[rows.episode], _ranks(rows.agents)[rows.agent]
    order = np.lexsort((rows.ts, rows.step, episode, agent))
    by_step = rows.take(order)
    same = _same_episode(by_step)
    recurs = same & (by_step.step[1:] == by_step.step[:-1]) & (by_step.ts[1:] != by_step.ts[:-1])
    if not recurs.any():
        return order
    place = np.cumsum(np.append(0, ~same))  # each agent's episode
    timed = np.isin(place, place[1:][recurs])
    return order[np.lexsort((by_step.step, np.where(timed, by_step.ts, 0), place))]


def _ranks(names: Sequence[str]) -> np.ndarray:
    """The place of each name among all, sorted: int64[K]."""
    ranks = np.empty(len(names), np.int64)
    ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return ranks


def _same_episode(rows: TransitionBatch) -> np.ndarray:
    same: np.ndarray = (rows.agent[1:] == rows.agent[:-1]) & (rows.episode[1:] == rows.episode[:-1])
    return same


def _follows(rows: TransitionBatch) -> np.ndarray:
    """Whether the next row is the same episode's next step; of none after the last."""
    return np.append(_same_episode(rows) & (rows.step[1:] == rows.step[:-1] + 1), False)
