"""Simulators by environment name: how a version does on fixed traces, in the same world as its baselines.

An environment joins by one entry in SIMULATORS; a task whose environment has none gets its facts from the
stream alone.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.explain.evidence import Decisions, Outcomes, VersionEvidence
from headrace.schemas.records import Series

TRACES = 512
ALL = slice(None)
COMPARED = ("rate_rule", "hpa", "hpa_kubernetes", "static", "clairvoyant")
"""The baselines that a version is told beside."""
SHADOWS = ("rate_rule", "hpa_kubernetes")
"""The rules that look over a policy's shoulder; a clairvoyant's plan is only good in its own episodes."""


class Learned(Protocol):
    """What a simulator needs of a policy: `headrace.learners.acting.Policy` has it."""

    def q_values(self, obs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the value of each action, float32[B, A], of observations float32[B, D]."""


class Simulator(Protocol):
    """A world with fixed traces."""

    def outcomes(self, policy: Learned, rows: slice = ALL) -> Outcomes:
        """Run the greedy policy on every trace, or on some rows of them."""

    def baselines(self) -> Mapping[str, Outcomes]:
        """Return how the world's baselines do on every trace."""

    def decisions(self, policy: Learned) -> Decisions:
        """Return what the greedy policy saw and decided, and what the baselines would have done there."""

    def episode(self, policy: Learned, name: str) -> list[Series]:
        """Return one episode's course for a plot; name: what the policy is called in it."""


def simulator(environment: str | None, count: int = TRACES, seed: int = seeds.EXPLANATION.first) -> Simulator | None:
    """Return the environment's simulator on fixed traces, the same one every time; None where there is none."""
    return _build(environment, count, seed) if environment in SIMULATORS else None


@lru_cache(maxsize=4)
def _build(environment: str, count: int, seed: int) -> Simulator:
    return SIMULATORS[environment](count, seed)


def simulated(
    world: Simulator, version: int, before: int | None, policy: Learned, previous: Learned | None
) -> VersionEvidence:
    """Run a version, and the one that served before it, in the world; before: that one's number."""
    return VersionEvidence(
        version,
        before,
        world.outcomes(policy),
        None if previous is None else world.outcomes(previous),
        world.baselines(),
        world.decisions(policy),
        {"episode": world.episode(policy, f"v{version}")},
    )


def greedy(policy: Learned) -> Callable[[NDArray[np.float32]], NDArray[np.int64]]:
    """Return the function obs float32[B, D] -> int64[B] of the actions with the greatest values."""
    return lambda obs: np.asarray(policy.q_values(obs).argmax(axis=1), np.int64)


def measure_of(policy: Learned) -> str:
    """Say what a policy compares its actions by."""
    return "log-probability" if getattr(policy, "softmax", False) else "value"


class CloudSimulator:
    """`headrace/CloudService-v0` on fixed traces."""

    def __init__(self, count: int = TRACES, seed: int = seeds.EXPLANATION.first) -> None:
        # Imported here, because Gymnasium takes a third of a second.
        from headrace.learners.cloud import baselines, plant, workload  # noqa: PLC0415

        self._traces = workload.draw_traces(seed, count, workload.EPISODE_STEPS)
        self._rules = {name: baselines.baseline(name, self._traces) for name in COMPARED}
        self._evaluate = baselines.evaluate_detailed
        self._order = tuple(float(change) for change in plant.ACTION_CHANGES)
        self._minutes = tuple(step * workload.STEP_MS / 60_000 for step in range(workload.EPISODE_STEPS))
        self._baselines: dict[str, Outcomes] = {}

    def outcomes(self, policy: Learned, rows: slice = ALL) -> Outcomes:
        """Run the greedy policy on every trace, or on some rows of them."""
        done = self._evaluate(greedy(policy), self._traces.take(rows))
        return Outcomes(done.returns, done.terms)

    def baselines(self) -> Mapping[str, Outcomes]:
        """Run each baseline, once in this object's life."""
        if not self._baselines:
            done = {name: self._evaluate(rule, self._traces) for name, rule in self._rules.items()}
            self._baselines = {name: Outcomes(one.returns, one.terms) for name, one in done.items()}
        return self._baselines

    def decisions(self, policy: Learned) -> Decisions:
        """Record the policy's episodes, and what the rules would have done at each of their steps."""
        seen: list[NDArray[np.float32]] = []
        values: list[NDArray[np.float64]] = []
        rules = {name: rule for name, rule in self._rules.items() if name in SHADOWS}
        shadows: dict[str, list[NDArray[np.int64]]] = {name: [] for name in rules}
        for rule in rules.values():
            rule.reset(len(self._traces))

        def act(obs: NDArray[np.float32]) -> NDArray[np.int64]:
            seen.append(obs)
            values.append(policy.q_values(obs).astype(np.float64))
            for name, rule in rules.items():
                shadows[name].append(rule.act(obs))
            return np.asarray(values[-1].argmax(axis=1), np.int64)

        self._evaluate(act, self._traces)
        joined = {name: np.concatenate(actions) for name, actions in shadows.items()}
        return Decisions(np.concatenate(seen), np.concatenate(values), joined, self._order, measure_of(policy))

    def episode(self, policy: Learned, name: str) -> list[Series]:
        """Take the trace whose load varies most: load, and the replicas of the policy and of the rate rule."""
        row = int(np.argmax(self._traces.arrivals_rps.std(axis=1)))
        own = self._evaluate(greedy(policy), self._traces, row)
        rule = self._evaluate(self._rules["rate_rule"], self._traces, row)
        courses = (
            ("load", own.load_rps),
            (f"{name} replicas", own.ready + own.pending),
            ("rate rule replicas", rule.ready + rule.pending),
        )
        return [Series(label, self._minutes, tuple(map(float, values))) for label, values in courses]


SIMULATORS: dict[str | None, Callable[[int, int], Simulator]] = {"headrace/CloudService-v0": CloudSimulator}
