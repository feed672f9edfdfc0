"""Any Gymnasium environment as a simulator: policies on episodes of fixed seeds, beside random play and constants."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.explain.evidence import Outcomes, RecordedDecisions
from headrace.learners.explain.simulation import ALL, Learned, Valued, acting, measure_of
from headrace.learners.simulate.episodes import ActOn, Episodes
from headrace.learners.spaces import NumericSpaces
from headrace.schemas.errors import SettingsError
from headrace.schemas.outcomes import Measure
from headrace.schemas.records import Series

STEPS: Final = 48_000
"""Steps that a policy is tried for, at most, where that leaves `LEAST` episodes."""
LEAST, MOST = 32, 128
"""Episodes that a policy is tried on. They depend on how many steps an episode has, never on how long one takes."""
_ASKED: Final = 512
"""Episodes that are asked for unless somebody sets another number (`gate_traces`)."""
CONSTANTS: Final = 32
"""Actions of which each is tried as a constant, at most; of more none is."""
_CHOICE: Final = 16
"""Episodes by which the best constant, and the floor, are chosen."""
_REPEATED: Final = 2
"""Episodes that are played twice, to see whether they repeat."""
_DECISIONS: Final = 4_096


class GymnasiumSimulator:
    """An environment on fixed seeds, as `headrace.learners.explain.simulation.Simulator`.

    count: of episodes. Baselines: `random`, and `constant`, the best constant action. The floor is the better of the
    two, and familiar. Rewards are summed without discount, over an episode's limit at most. Raises as `Episodes` does.
    """

    rules: tuple[str, ...] = ()

    def __init__(self, name: str, count: int, seed: int, outcomes: tuple[Measure, ...] = ()) -> None:
        self._outcomes = outcomes
        self._episodes = _episodes(name)
        self.count = count
        self._seeds = _episode_seeds(seed, count)
        self._baselines: dict[str, Outcomes] = {}
        self._repeats: bool | None = None

    @property
    def spaces(self) -> NumericSpaces:
        """The environment's observations and actions as numbers."""
        return self._episodes.spaces

    @property
    def floor(self) -> str:
        """The baseline that a first policy must beat."""
        return self._chosen[1]

    @property
    def familiar(self) -> str:
        """The floor: nobody has met a rule of an environment that headrace knows by its id alone."""
        return self.floor

    @property
    def _chosen(self) -> tuple[NDArray[Any] | None, str]:
        return _floor(self._episodes.name)

    @property
    def repeats(self) -> bool:
        """Whether the same seed and actions give the same again; else traces are not paired, only alike."""
        if self._repeats is None:
            rows = slice(0, _REPEATED)
            (first, returns), (again, others) = (self._watched(self._random(rows), rows) for _ in range(2))
            same = partial(np.array_equal, equal_nan=True)
            self._repeats = len(first) == len(again) and all(map(same, [*first, returns], [*again, others]))
        return self._repeats

    def outcomes(self, policy: Learned, rows: slice = ALL) -> Outcomes:
        """Run the policy on every episode, or on some rows of them; the reward's terms are not known."""
        return self._run(acting(policy), rows)

    def floored(self, rows: slice = ALL) -> Outcomes:
        """Run the floor on every episode, or on some rows of them."""
        return self._run(self._random(rows) if self.floor == "random" else _always(self._chosen[0]), rows)

    def baselines(self) -> Mapping[str, Outcomes]:
        """Run each baseline, once in this object's life."""
        if not self._baselines:
            found = {"random": self._run(self._random(ALL), ALL)}
            constant, _ = self._chosen
            if constant is not None:
                found["constant"] = self._run(_always(constant), ALL)
            self._baselines = found
        return self._baselines

    def baseline(self, name: str) -> Outcomes:
        """Return how a baseline does; raises SettingsError where there is none of that name."""
        found = self.baselines()
        if name not in found:
            raise SettingsError(f"baseline {name!r} is unknown; {self._episodes.name} has {', '.join(found)}")
        return found[name]

    def decisions(self, policy: Learned) -> RecordedDecisions | None:
        """Record what the policy saw and decided, in the first episodes; None of one that compares none."""
        if not isinstance(policy, Valued):
            return None
        obs = np.concatenate(self._watched(acting(policy), slice(0, LEAST))[0])
        obs = obs[:: -(-len(obs) // _DECISIONS)]
        return RecordedDecisions(obs, policy.q_values(obs).astype(np.float64), measure=measure_of(policy))

    def episode(self, policy: Learned, name: str) -> list[Series]:  # noqa: ARG002 of the protocol
        """Return nothing: what is worth showing of an episode, an environment does not tell."""
        return []

    def _run(self, act: ActOn, rows: slice) -> Outcomes:
        returns, tallies = self._episodes.played(act, self._seeds[rows], self._outcomes)
        return Outcomes(returns, np.zeros((len(returns), 0)), tallies)

    def _watched(self, act: ActOn, rows: slice) -> tuple[list[NDArray[np.float32]], NDArray[np.float64]]:
        """Run a policy; return what it saw, step by step, and the episodes' returns."""
        return _watched(self._episodes, act, self._seeds[rows])

    def _random(self, rows: slice) -> ActOn:
        return _randomly(self.spaces, rows.start or 0)


def affordable(name: str, count: int) -> int:
    """Return how many episodes of an environment a policy is tried on where `count` are asked for.

    `STEPS` are shared out by an episode's limit; where there is none by ten times the length that random play has, and
    then there may be more than `MOST`. Who asks for more than `_ASKED` gets as many times more.
    """
    episodes, more = _episodes(name), max(1.0, count / _ASKED)
    found = min(MOST, STEPS // episodes.limit) if episodes.limited else STEPS // min(episodes.limit, 10 * _length(name))
    return min(count, int(max(LEAST, found) * more))


@lru_cache(maxsize=64)
def _length(name: str) -> int:
    """Return the steps that an episode of random play lasts, the mean of a few, rounded up."""
    episodes = _episodes(name)
    seen, _ = _watched(episodes, _randomly(episodes.spaces, 0), _episode_seeds(seeds.FLOOR.first, _CHOICE))
    return math.ceil(sum(map(len, seen)) / _CHOICE)


def _watched(
    episodes: Episodes, act: ActOn, seeds_of: Sequence[int]
) -> tuple[list[NDArray[np.float32]], NDArray[np.float64]]:
    """Play an episode of each seed; return what was seen, step by step, and the returns."""
    seen: list[NDArray[np.float32]] = []

    def watched(obs: NDArray[np.float32]) -> NDArray[Any]:
        seen.append(obs)
        return act(obs)

    return seen, episodes.returns(watched, seeds_of)


@lru_cache(maxsize=4)
def _episodes(name: str) -> Episodes:
    return Episodes(name)


def _episode_seeds(seed: int, count: int) -> Sequence[int]:
    """Return the seed of each episode; fewer of a seed are the first of more."""
    found: list[int] = np.random.SeedSequence(seed).generate_state(count).tolist()
    return found


@lru_cache(maxsize=64)
def _floor(name: str) -> tuple[NDArray[Any] | None, str]:
    """Choose the best constant action, on episodes that nothing is judged on, and the better of it and random play."""
    episodes = _episodes(name)
    chosen_by = _episode_seeds(seeds.FLOOR.first, _CHOICE)
    constants = _constants(episodes.spaces)
    means = [episodes.returns(_always(one), chosen_by).mean() for one in constants]
    if not constants:
        return None, "random"
    best = int(np.argmax(means))
    randomly = episodes.returns(_randomly(episodes.spaces, 0), chosen_by).mean()
    return constants[best], "constant" if means[best] > randomly else "random"


def _constants(spaces: NumericSpaces) -> list[NDArray[Any]]:
    """Return the actions that are tried as constants: each choice; of a vector its middle, lowest and highest."""
    if spaces.bounds is None:
        return [np.array(action) for action in range(spaces.actions)] if spaces.actions <= CONSTANTS else []
    low, high = spaces.bounds
    middle = np.where(np.isfinite(low + high), (low + high) / 2, np.clip(0.0, low, high)).astype(np.float32)
    return [middle, low, high] if np.isfinite(spaces.bounds).all() else [middle]


def _always(action: NDArray[Any] | None) -> ActOn:
    assert action is not None
    return lambda obs: np.broadcast_to(action, (len(obs), *action.shape))


def _randomly(spaces: NumericSpaces, part: int) -> ActOn:
    """Uniform actions; where a vector has no bounds, standard normal ones. part: gives other draws."""
    rng = np.random.default_rng([seeds.RANDOM_PLAY.first, part])
    if spaces.bounds is None:
        return lambda obs: rng.integers(spaces.actions, size=len(obs))
    low, high = spaces.bounds
    bounded = np.isfinite(low) & np.isfinite(high)
    lowest, span = np.where(bounded, low, 0.0), np.where(bounded, high - low, 0.0)

    def act(obs: NDArray[np.float32]) -> NDArray[Any]:
        shape = (len(obs), spaces.actions)
        drawn = np.where(bounded, lowest + span * rng.random(shape), rng.standard_normal(shape))
        return np.clip(drawn, low, high).astype(np.float32)

    return act
