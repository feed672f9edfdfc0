"""A candidate and its opponent on fresh traces, part by part, each run when the gate first asks for it."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.explain.evidence import Outcomes
from headrace.learners.explain.simulation import Learned, Simulator
from headrace.learners.judge.gate import GateVerdict, judge
from headrace.learners.judge.spending import LOOKS, place_of, spent, traces_for
from headrace.schemas.outcomes import Measure
from headrace.schemas.records import Judgement

Returns = NDArray[np.float64]
UNPAIRED = "; the environment does not repeat an episode of the same seed, so the pairs share nothing"
"""What a reason says further of such an environment: the test is valid there, and needs more traces."""


class _Drawing:
    """A softmax policy as agents act by it: the greatest of its values is a draw, the same in every trial."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._rng = np.random.default_rng(seeds.ACTIONS.first)

    def q_values(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return 1 for the action drawn, 0 for the others: float32[B, A]."""
        drawn, _ = self._policy.sample(obs, self._rng)
        ones: NDArray[np.float32] = np.eye(self._policy.actions, dtype=np.float32)[drawn]
        return ones


class _DrawingVectors:
    """A policy of normals as agents act by it: a draw, cut to the bounds, the same in every trial."""

    def __init__(self, policy: BoxPolicy) -> None:
        self._policy = policy
        self._rng = np.random.default_rng(seeds.ACTIONS.first)

    def act(self, obs: NDArray[np.float32]) -> NDArray[Any]:
        """Return the actions drawn, float32[B, A]."""
        return self._policy.cut(self._policy.sample(obs, self._rng)[0])


def as_acting(policy: Policy | BoxPolicy) -> Learned:
    """Return a policy as agents act by it once they explore no more: one of values greedily, others by draws."""
    if isinstance(policy, BoxPolicy):
        return _DrawingVectors(policy)
    return _Drawing(policy) if policy.softmax else policy


class Trial:
    """How a controller did on a simulator's traces, as far as they were needed.

    count: of the traces. play: runs it on some rows of them.
    """

    def __init__(self, count: int, play: Callable[[slice], Outcomes]) -> None:
        edges = [count * part // LOOKS for part in range(LOOKS + 1)]
        self._parts = [slice(start, stop) for start, stop in pairwise(edges)]
        self._play = play
        self._done: list[Outcomes] = []

    def __iter__(self) -> Iterator[Returns]:
        """Yield each part's returns."""
        for number, part in enumerate(self._parts):
            if number == len(self._done):
                self._done.append(self._play(part))
            yield self._done[number].returns

    def first(self, count: int) -> Returns:
        """Return the returns on the first `count` traces."""
        found: list[Returns] = []
        for part in self:
            found.append(part)
            if sum(map(len, found)) >= count:
                break
        return np.concatenate(found)[:count]

    def told(self, outcomes: Sequence[Measure], count: int) -> dict[str, float]:
        """Return the outcomes on the first `count` traces, which were played, by name; those that there are."""
        sums = np.concatenate([one.tallies for one in self._done])[:count].sum(axis=0)
        values = {
            one.outcome.name: one.told(float(sums[2 * place]), float(sums[2 * place + 1]), count)
            for place, one in enumerate(outcomes)
        }
        return {name: value for name, value in values.items() if value is not None}


def policy_trial(simulator: Simulator, policy: Policy | BoxPolicy) -> Trial:
    """Return the trial of a policy as agents act by it."""
    acts = as_acting(policy)
    return Trial(simulator.count, lambda rows: simulator.outcomes(acts, rows))


def floor_trial(simulator: Simulator) -> Trial:
    """Return the trial of a simulator's floor."""
    return Trial(simulator.count, simulator.floored)


class Tried(NamedTuple):
    """What came of a candidate. evaluation: mean returns as of the fixed traces, of policies and baselines.

    outcomes: the candidate's ("policy") and its opponent's on the traces that were needed, by name.
    """

    verdict: GateVerdict
    evaluation: dict[str, float]
    judgement: Judgement
    outcomes: dict[str, dict[str, float]]


class Candidate(NamedTuple):
    """Who is judged. version: its number. opponent: the number of a version with its policy, if any serves.

    name: what the gate calls the opponent.
    """

    version: int
    policy: Policy | BoxPolicy
    opponent: tuple[int, Policy | BoxPolicy] | None
    name: str = "serving"

    @property
    def number(self) -> int:
        """Its place among those that met its opponent."""
        return place_of(self.version, self.opponent and self.opponent[0])

    @property
    def seed(self) -> int:
        """The seed of its own traces."""
        return seeds.CANDIDATE.first + self.version % seeds.CANDIDATE.count


def tried(
    candidate: Candidate,
    fixed: Simulator,
    fresh: Callable[[int, int], Simulator],
    margin: float = 0.0,
    outcomes: Sequence[Measure] = (),
) -> Tried:
    """Judge a candidate on traces of its own against its opponent, or the floor.

    fixed: the simulator as of whose traces returns are told: the floor's there, and the difference to it on the fresh
    ones, so that versions can be compared. fresh: makes a simulator of a number of traces and a seed. margin: by how
    much it may be worse than an opponent, as `judge` says; the floor it must beat. outcomes: which `fresh` measures.
    """
    world = fresh(traces_for(candidate.number, fixed.count), candidate.seed)
    own, floor, opponent = policy_trial(world, candidate.policy), floor_trial(world), candidate.opponent
    rival, name = (policy_trial(world, opponent[1]), candidate.name) if opponent else (floor, "floor")
    alpha = spent(candidate.number)
    verdict = judge(zip(own, rival, strict=True), name, alpha, margin if opponent else 0.0)
    if not fixed.repeats:
        verdict = dataclasses.replace(verdict, reason=verdict.reason + UNPAIRED)
    evaluation = _evaluation(fixed, verdict.n, floor, {"policy": own} | ({name: rival} if opponent else {}))
    met = opponent[0] if opponent else 0
    judgement = Judgement(met, candidate.number, alpha, candidate.seed, world.count, verdict.n)
    told = {"policy": own.told(outcomes, verdict.n), name: rival.told(outcomes, verdict.n)} if outcomes else {}
    return Tried(verdict, evaluation, judgement, told)


def _evaluation(fixed: Simulator, count: int, floor: Trial, trials: Mapping[str, Trial]) -> dict[str, float]:
    found = {name: float(done.returns.mean()) for name, done in fixed.baselines().items()}
    below = floor.first(count)
    return found | {name: found[fixed.floor] + float((one.first(count) - below).mean()) for name, one in trials.items()}
