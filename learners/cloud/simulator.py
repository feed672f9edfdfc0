"""CloudService on fixed traces: how a policy does there beside the baselines, for the gate and for reports."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.cloud import baselines, controllers, plant, workload
from headrace.learners.cloud.baselines import Policy
from headrace.learners.explain.evidence import Outcomes, RecordedDecisions
from headrace.learners.explain.simulation import ALL, TRACES, Learned, Valued, acting, measure_of
from headrace.schemas.outcomes import Measure
from headrace.schemas.records import Series

FLOOR: Final = "hpa"
"""The baseline that a first policy must beat."""
FAMILIAR: Final = "hpa_kubernetes"
"""The baseline that most people run."""
EXPLORED: Final = ("rate_rule", "hpa", "hpa_kubernetes")
"""The decision rules among them that exploration may follow."""
COMPARED: Final = ("tuned_rule", "rate_rule", "hpa_kubernetes", "hpa", "static", "clairvoyant")
"""The baselines that a version is told beside, the strongest rule first."""
SHADOWS: Final = ("tuned_rule", "rate_rule")
"""The rules that look over a policy's shoulder; a clairvoyant's plan is only good in its own episodes."""


class CloudSimulator:
    """`headrace/CloudService-v0` on fixed traces, as `headrace.learners.explain.simulation.Simulator`."""

    floor: str = FLOOR
    familiar: str = FAMILIAR
    rules: tuple[str, ...] = EXPLORED
    repeats: bool = True

    def __init__(
        self, count: int = TRACES, seed: int = seeds.EXPLANATION.first, measured: tuple[Measure, ...] = ()
    ) -> None:
        self.count = count
        self._measured = measured
        self._traces = workload.draw_traces(seed, count, workload.EPISODE_STEPS)
        self._evaluate = baselines.evaluate_detailed
        self._order = tuple(float(change) for change in plant.ACTION_CHANGES)
        self._minutes = tuple(step * workload.STEP_MS / 60_000 for step in range(workload.EPISODE_STEPS))
        self._baselines: dict[str, Outcomes] = {}

    def outcomes(self, policy: Learned, rows: slice = ALL) -> Outcomes:
        """Run the greedy policy on every trace, or on some rows of them."""
        return self._run(acting(policy), self._traces.take(rows))

    def floored(self, rows: slice = ALL) -> Outcomes:
        """Run the floor on every trace, or on some rows of them."""
        return self._run(self._rule(FLOOR), self._traces.take(rows))

    def baselines(self) -> Mapping[str, Outcomes]:
        """Run each baseline, once in this object's life."""
        if not self._baselines:
            self._baselines = {name: self._run(self._rule(name), self._traces) for name in COMPARED}
        return self._baselines

    def decisions(self, policy: Learned) -> RecordedDecisions:
        """Record the policy's episodes, and what the rules would have done at each of their steps."""
        assert isinstance(policy, Valued), policy
        seen: list[NDArray[np.float32]] = []
        values: list[NDArray[np.float64]] = []
        rules = {name: self._rule(name) for name in SHADOWS}
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
        return RecordedDecisions(np.concatenate(seen), np.concatenate(values), joined, self._order, measure_of(policy))

    def episode(self, policy: Learned, name: str) -> list[Series]:
        """Take the trace whose load varies most: load, and the replicas of the policy and of the strongest rule."""
        row = int(np.argmax(self._traces.arrivals_rps.std(axis=1)))
        own = self._evaluate(acting(policy), self._traces, row)
        rule = self._evaluate(self._rule(SHADOWS[0]), self._traces, row)
        courses = (
            ("load (requests/s)", own.load_rps),
            (f"{name}'s replicas", own.ready + own.pending),
            (f"{baselines.CALLED[SHADOWS[0]]}'s replicas", rule.ready + rule.pending),
        )
        load, *replicas = (Series(label, self._minutes, tuple(map(float, values))) for label, values in courses)
        return [replace(load, labels=("time (minutes)", "replicas")), *replicas]

    def _run(self, policy: Policy, traces: workload.Traces) -> Outcomes:
        done = self._evaluate(policy, traces, outcomes=self._measured)
        return Outcomes(done.returns, done.terms, done.tallies)

    def _rule(self, name: str) -> controllers.Baseline:
        return baselines.baseline(name, self._traces)
