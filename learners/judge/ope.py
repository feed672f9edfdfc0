"""What a policy would earn, by rows that others made: fitted Q evaluation, with an interval.

Q is linear in random features of observation and action, so that a fit is one linear system. Source: Le, Voloshin, Yue
(2019), "Batch policy learning under constraints"; Rahimi, Recht (2008), "Random features for large-scale kernel
machines"; the limit of its iterations is the fixed point of Lagoudakis, Parr (2003), "Least-squares policy iteration".

The interval has the spread of fits that differ in their episodes (a bootstrap by groups of them) and in their features,
which stands for what a fit may miss. docs/benchmarks.md tells how often it covers the truth where that is known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.judge.distributions import t_quantile
from headrace.learners.judge.robust import Weighted, weighted
from headrace.schemas.transition import TransitionBatch

Floats = NDArray[np.floating]

GROUPS: Final = 20
"""Of episodes, or of agents where there are as many: what a bootstrap draws from."""
FEATURE_MAPS, RESAMPLES = 5, 8
"""Fits differ in their features, and for each map in the groups that they draw."""
_WIDTH, _ROWS_A_FEATURE = 320, 16
"""Features of observation and action at most, as far as the observation itself leaves room."""
_LEAST_FEATURES = 16
_DRAWS = 2
"""Of a continuous policy's actions after each row; their features are averaged."""
_RIDGE, _RIDGE_OF_MEAN = 1e-3, 1e-5
"""Of each feature's own sum of squares, and of their mean: features that were seldom seen stay nearly free."""
_CAUTION = 1.3
"""The spread of fits alone covered 8 of 10 values of the tabular process: Q's error outlives its bootstrap."""
_CLIP = 4.0
"""In deviations: an absurd observation must not outweigh all others."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What policies would earn: float64[R] replicates of each one's discounted return, paired by place.

    values: from an episode's start, or, where the rows hold fewer than 20 starts, from any state that was seen.
    effective: for each policy, how many rows show its own
    decisions. groups: the independent units. robust: the same values corrected by importance weights (robust.py) over
    the first `steps` steps of episodes; empty where not enough of these are known from their start, with log_prob.
    """

    values: list[NDArray[np.float64]]
    effective: list[float]
    rows: int
    groups: int
    robust: list[NDArray[np.float64]]
    steps: list[int]


class Bounded(NamedTuple):
    """A mean and its interval."""

    mean: float
    low: float
    high: float


def interval_of(replicates: NDArray[np.float64], groups: int, confidence: float = 0.95) -> Bounded:
    """The interval of replicates float64[R]: as many degrees of freedom as groups, less one."""
    half = _CAUTION * t_quantile(groups - 1, 0.5 + confidence / 2) * float(replicates.std(ddof=1))
    mean = float(replicates.mean())
    return Bounded(mean, mean - half, mean + half)


class Deeds(NamedTuple):
    """What a policy does after each row, and at the rows' own observations.

    following, own: float32[N, A] probabilities, or float32[N, S, A], S draws of continuous actions. known: bool[N], the
    rows whose following deed is known.
    """

    following: Floats
    own: Floats
    known: NDArray[np.bool_]


def evaluated(
    rows: TransitionBatch, policies: Sequence[Policy | BoxPolicy | None], actions: int, discount: float, seed: int
) -> Evaluation:
    """Evaluate policies on the same rows; None stands for what the agents themselves did.

    rows: of one task, in any order, each once. actions: how many discrete ones there are; 0 for continuous ones.
    discount: gamma < 1. Raises ValueError for rows that are too few to make two groups, or a discount out of range.
    """
    if not 0.0 <= discount < 1.0:
        raise ValueError(f"a discounted return needs a discount in [0, 1), got {discount}")
    rows = _in_order(rows)
    group, count = _groups(rows, seed)
    order = np.argsort(group, kind="stable")
    deeds = [_deeds(rows, policy, actions, seed) for policy in policies]
    starts = rows.step == 0
    weights = [weighted(rows, _ratio(rows, policy), group, count) for policy in policies]
    if np.count_nonzero(starts) < GROUPS:
        starts, weights = np.ones(len(rows), np.bool_), [None for _ in policies]
    fits = _Fits(rows, starts, order, np.bincount(group, minlength=count), actions, discount)
    rng = np.random.default_rng(seed)
    values: list[list[tuple[float, float]]] = [[] for _ in policies]
    for _ in range(FEATURE_MAPS):
        features = _Features.drawn(rows, actions, rng)
        drawn = [rng.multinomial(count, np.full(count, 1.0 / count)) for _ in range(RESAMPLES)]
        for number, deed in enumerate(deeds):
            values[number] += fits.values(features, deed, drawn, group, weights[number])
    fitted, missed = np.moveaxis(np.array(values), 2, 0)
    known = [one for one in weights if one is not None]
    return Evaluation(
        [*fitted],
        [_effective(rows, deed) for deed in deeds],
        len(rows),
        count,
        [*(fitted + missed)] if len(known) == len(policies) else [],
        [one.sums.shape[1] for one in known],
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Features:
    """Random features of an observation, or of one with a continuous action: 1, itself, and K rectified sums."""

    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats

    @classmethod
    def drawn(cls, rows: TransitionBatch, actions: int, rng: np.random.Generator) -> "_Features":
        inputs = rows.obs if actions else np.concatenate([rows.obs, rows.action], axis=1)
        low, high = np.quantile(inputs, [0.005, 0.995], axis=0)
        usual = np.clip(inputs, low, high).astype(np.float64)
        mean, scale = usual.mean(axis=0), usual.std(axis=0)
        # What does not vary beyond its own rounding carries no news.
        scale = np.where(scale > 1e-6 * np.abs(mean), scale, np.inf)
        width = inputs.shape[1]
        room = min(_WIDTH, len(rows) // _ROWS_A_FEATURE) // max(1, actions) - width - 1
        count = max(_LEAST_FEATURES, room)
        weight = rng.standard_normal((width, count))
        weight /= np.linalg.norm(weight, axis=0)
        return cls(*(a.astype(np.float32) for a in (mean, scale, weight, rng.uniform(-2.0, 2.0, count))))

    def of(self, inputs: Floats) -> Floats:
        """float32[B, D] -> float32[B, 1 + D + K]."""
        scaled = np.clip((inputs - self.mean) / self.scale, -_CLIP, _CLIP).astype(np.float32)
        hidden = np.maximum(scaled @ self.weight + self.bias, np.float32(0))
        return np.concatenate([np.ones((len(scaled), 1), np.float32), scaled, hidden], axis=1)

    def joint(self, obs: Floats, deeds: Floats) -> Floats:
        """Expected features of observations float32[B, D] and deeds, as `Deeds` has them: float32[B, W]."""
        if deeds.ndim == 2:
            products: Floats = (deeds[:, :, None] * self.of(obs)[:, None, :]).reshape(len(obs), -1)
            return products
        draws = [self.of(np.concatenate([obs, deeds[:, draw]], axis=1)) for draw in range(deeds.shape[1])]
        mean: Floats = np.mean(draws, axis=0, dtype=np.float32)
        return mean


@dataclass(frozen=True, slots=True, eq=False)
class _Fits:
    """Fits Q on groups of rows. order: the rows by group; sizes: int64[G], how many each has."""

    rows: TransitionBatch
    starts: NDArray[np.bool_]
    order: NDArray[np.intp]
    sizes: NDArray[np.int64]
    actions: int
    discount: float

    def values(
        self,
        features: _Features,
        deeds: Deeds,
        drawn: Sequence[NDArray[Any]],
        group: NDArray[np.int64],
        weights: Weighted | None,
    ) -> list[tuple[float, float]]:
        """The mean value at the starts, and what it has missed by the weights, for each draw of groups."""
        errors = None if weights is None else self._errors(features, deeds, weights.places)
        squares, targets, firsts, counts = self._sums(features, deeds)
        low, high = (bound / (1.0 - self.discount) for bound in self._reward_bounds())
        found = []
        for times in drawn:
            matrix = np.tensordot(times, squares, axes=1)
            # Features of an action that nobody took have no rows: the ridge alone keeps the system solvable.
            own = np.abs(np.diagonal(matrix))
            ridge = _RIDGE * own + _RIDGE_OF_MEAN * own.mean()
            solved = np.linalg.solve(matrix + np.diag(ridge), times @ targets)
            place = np.repeat(times, counts)
            values = np.clip(firsts @ solved, low, high)
            missed = 0.0
            if weights is not None and errors is not None:
                missed = weights.missed(errors(solved), group[weights.places], times, self.discount)
            found.append((float(values @ place / max(1, place.sum())), missed))
        return found

    def _errors(
        self, features: _Features, deeds: Deeds, places: NDArray[np.int64]
    ) -> Callable[[Floats], NDArray[np.float64]]:
        """Of rows, r + gamma V(s') - Q as a function of a solution; 0 where the following deed is not known."""
        rows = self.rows
        now = features.joint(rows.obs[places], self._taken()[places])
        following = features.joint(rows.next_obs[places], deeds.following[places])
        now -= following * (np.float32(self.discount) * ~rows.terminated[places])[:, None]
        reward, known = rows.reward[places].astype(np.float64), deeds.known[places]
        return lambda solved: np.where(known, reward - now @ solved, 0.0).astype(np.float64)

    def _taken(self) -> Floats:
        """The rows' own deeds, as `Deeds` has them."""
        rows = self.rows
        return np.eye(self.actions, dtype=np.float32)[rows.action] if self.actions else rows.action[:, None]

    def _sums(self, features: _Features, deeds: Deeds) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
        """Of each group the normal equations; of all starts the features, by group."""
        rows, goes_on = self.rows, ~self.rows.terminated
        squares, targets, firsts, counts = [], [], [], []
        taken = self._taken()
        for places in np.split(self.order, np.cumsum(self.sizes)[:-1]):
            known = places[deeds.known[places]]
            now = features.joint(rows.obs[known], taken[known])
            following = features.joint(rows.next_obs[known], deeds.following[known])
            following *= np.float32(self.discount) * goes_on[known][:, None].astype(np.float32)
            squares.append((now.T @ (now - following)).astype(np.float64))
            targets.append(now.T.astype(np.float64) @ rows.reward[known])
            first = places[self.starts[places]]
            firsts.append(features.joint(rows.obs[first], deeds.own[first]))
            counts.append(len(first))
        return np.stack(squares), np.stack(targets), np.concatenate(firsts), np.array(counts)

    def _reward_bounds(self) -> tuple[float, float]:
        """No return lies beyond the worst or the best reward for ever; an episode may also end, and earn 0."""
        return min(0.0, float(self.rows.reward.min())), max(0.0, float(self.rows.reward.max()))


def _in_order(rows: TransitionBatch) -> TransitionBatch:
    """By agent, episode and step; of rows with the same three the first that arrived stays."""
    agents, episodes = (np.argsort(np.argsort(np.array(names))) for names in (rows.agents, rows.episodes))
    keys = (rows.step, episodes[rows.episode], agents[rows.agent])
    rows = rows.take(np.lexsort(keys))
    repeated = _same_episode(rows) & (rows.step[1:] == rows.step[:-1])
    return rows.take(np.append(True, ~repeated))


def _same_episode(rows: TransitionBatch) -> NDArray[np.bool_]:
    same: NDArray[np.bool_] = (rows.agent[1:] == rows.agent[:-1]) & (rows.episode[1:] == rows.episode[:-1])
    return same


def _groups(rows: TransitionBatch, seed: int) -> tuple[NDArray[np.int64], int]:
    """Deal out agents, else episodes, else stretches of rows, to groups; returns int64[N] and their number."""
    if len(rows) < 2 * GROUPS:
        raise ValueError(f"{len(rows)} rows are too few to judge by: {2 * GROUPS} at least are needed")
    episode = np.concatenate([[0], np.cumsum(~_same_episode(rows))])
    agent = np.concatenate([[0], np.cumsum(rows.agent[1:] != rows.agent[:-1])])
    for code in (agent, episode):
        if code[-1] + 1 >= GROUPS:
            dealt = np.random.default_rng(seed).permutation(code[-1] + 1) % GROUPS
            return dealt[code], GROUPS
    return np.arange(len(rows)) * GROUPS // len(rows), GROUPS


def _deeds(rows: TransitionBatch, policy: Policy | BoxPolicy | None, actions: int, seed: int) -> Deeds:
    if policy is None:
        return _behaviour(rows, actions)
    known = np.ones(len(rows), np.bool_)
    if isinstance(policy, Policy):
        return Deeds(probabilities(policy, rows.next_obs), probabilities(policy, rows.obs), known)
    rng = np.random.default_rng(seed)
    following, own = (
        np.stack([policy.cut(policy.sample(obs, rng)[0]) for _ in range(_DRAWS)], axis=1)
        for obs in (rows.next_obs, rows.obs)
    )
    return Deeds(following, own, known)


def _behaviour(rows: TransitionBatch, actions: int) -> Deeds:
    """What the agents did next; of a row that nothing follows, and that did not terminate, it is not known."""
    own = np.eye(actions, dtype=np.float32)[rows.action] if actions else rows.action[:, None].astype(np.float32)
    follows = np.append(_same_episode(rows) & (rows.step[1:] == rows.step[:-1] + 1), False)
    following = np.concatenate([own[1:], own[-1:]])
    return Deeds(following, own, follows | rows.terminated)


def probabilities(policy: Policy, obs: Floats) -> Floats:
    """How likely a policy takes each action: float32[B, D] -> float32[B, A]; one of values takes its greatest."""
    values = policy.q_values(obs)
    if not policy.softmax:
        greedy: Floats = np.eye(policy.actions, dtype=np.float32)[values.argmax(axis=1)]
        return greedy
    shares: Floats = np.exp(values - values.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _ratio(rows: TransitionBatch, policy: Policy | BoxPolicy | None) -> NDArray[np.float64]:
    """How much likelier the policy takes each row's action than who took it, as a logarithm; NaN without log_prob."""
    taken = rows.log_prob.astype(np.float64)
    if policy is None:
        return taken - taken
    if isinstance(policy, BoxPolicy):
        own: NDArray[np.float64] = policy.log_prob(rows.obs, rows.action).astype(np.float64)
        return own - taken
    likely = probabilities(policy, rows.obs)[np.arange(len(rows)), rows.action].astype(np.float64)
    with np.errstate(divide="ignore"):
        own = np.log(likely)
    return own - taken


def _effective(rows: TransitionBatch, deeds: Deeds) -> float:
    """How many of the rows show what the policy would do: the sum of how likely it would have taken their actions.

    Of continuous actions it is a normal kernel around the policy's, of half the rows' own deviation.
    """
    if deeds.own.ndim == 2:
        weight = deeds.own[np.arange(len(rows)), rows.action].astype(np.float64)
    else:
        width = 0.5 * rows.action.std(axis=0) + 1e-12
        distance = np.square((deeds.own - rows.action[:, None]) / width).sum(axis=2)
        weight = np.exp(-0.5 * distance.astype(np.float64)).mean(axis=1)
    return float(weight.sum())
