"""A policy on the gate's fixed traces, part by part, each run when the gate first asks for it."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.acting import Policy
from headrace.learners.explain.simulation import Learned, Simulator
from headrace.learners.judge.spending import LOOKS

Returns = NDArray[np.float64]


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


def as_acting(policy: Policy) -> Learned:
    """Return a policy as agents act by it once they explore no more: one of values greedily, a softmax by draws."""
    return _Drawing(policy) if policy.softmax else policy


class Trial:
    """A policy's returns in a simulator, as far as they were needed."""

    def __init__(self, simulator: Simulator, policy: Policy) -> None:
        self._simulator = simulator
        self._policy = as_acting(policy)
        self._floor: Returns = simulator.baselines()[simulator.floor].returns
        edges = [len(self._floor) * part // LOOKS for part in range(LOOKS + 1)]
        self._parts = [slice(start, stop) for start, stop in pairwise(edges)]
        self._returns: list[Returns] = []

    def __iter__(self) -> Iterator[Returns]:
        """Yield each part's returns."""
        for number, part in enumerate(self._parts):
            if number == len(self._returns):
                self._returns.append(self._simulator.outcomes(self._policy, part).returns)
            yield self._returns[number]

    def against(self, serving: "Trial | None") -> tuple[Iterable[tuple[Returns, Returns]], str]:
        """Return what the gate judges: the paired returns, and who the opponent is."""
        if serving is not None:
            return zip(self, serving, strict=True), "serving"
        return zip(self, map(self._floor.__getitem__, self._parts), strict=True), "floor"

    def mean(self, count: int) -> float:
        """Return the mean return on all traces, as far as the first `count` tell.

        It is the floor's mean on all of them and the mean difference on these, so that versions judged by more or
        fewer traces can be compared.
        """
        returns = np.concatenate(self._returns)[:count]
        return float(self._floor.mean() + (returns - self._floor[:count]).mean())
