"""One run of the study: an arm with a seed, trained and evaluated on held-out traces. A function of both alone."""

import time
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.acting import Policy
from headrace.learners.checkpoint import pack, weights_hash
from headrace.learners.cloud import Traces, draw_traces
from headrace.learners.cloud.baselines import evaluate
from headrace.learners.cloud.plant import Simulation
from headrace.learners.simulate.curve import Moment
from headrace.learners.simulate.training import train
from headrace.pipelines.study.advised import Advised
from headrace.pipelines.study.design import ENVIRONMENT, Arm, Budget
from headrace.schemas.ports import Advisor

LATENCY_DECISIONS: Final = 2_000


class Run(msgspec.Struct):
    """What a run brought; a row of the study's table.

    steps, evaluation: of each evaluation. ended: episodes that ended since the one before, training: their mean return,
    NaN where none did. final: return of the final policy on each of its traces. train_cpu_s, train_wall_s: without
    evaluations, judging by the advisor included. samples: rows that updates were made of. judged_steps: simulated for
    the advisor, beside the budget. decision_us: p50 and p95 of one decision. directives: as JSON.
    """

    arm: str
    seed: int
    fingerprint: str
    weights_hash: str
    steps: list[int]
    evaluation: list[float]
    ended: list[int]
    training: list[float]
    final: list[float]
    train_cpu_s: float
    train_wall_s: float
    samples: int
    judged_steps: int
    decision_us: list[float]
    directives: list[str]


class _Watch:
    """Evaluates at every point, off the clock, and lets the advisor have its say, on it."""

    def __init__(self, advised: Advised | None, budget: Budget) -> None:
        self.moments: list[tuple[Moment, float]] = []
        self.advised = advised
        self.off_cpu_s = self.off_wall_s = 0.0
        self._traces = _traces(seeds.STUDY_CURVE.first, budget.curve_traces)

    def __call__(self, moment: Moment) -> Mapping[str, Any]:
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        self.moments.append((moment, float(_returns(moment.arrays(), self._traces).mean())))
        self.off_cpu_s += time.process_time() - cpu_s
        self.off_wall_s += time.perf_counter() - wall_s
        return self.advised.watch(moment) if self.advised else {}


def run(name: str, arm: Arm, seed: int, budget: Budget, fingerprint: str, advisor: Advisor | None = None) -> Run:
    """Train and evaluate once; raises LearnerDivergedError. advisor: of an arm that has a cadence."""
    torch.set_num_threads(1)
    advised = Advised(arm.cadence, advisor) if arm.cadence and advisor else None
    watch = _Watch(advised, budget)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    trained = train(
        *(arm.training, ENVIRONMENT, seed, budget.steps),
        watch=watch,
        points=budget.points,
        scenarios=arm.scenarios(seed),
    )
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    points = [moment.point for moment, _ in watch.moments]
    return Run(
        arm=name,
        seed=seed,
        fingerprint=fingerprint,
        weights_hash=weights_hash(pack(trained.arrays)),
        steps=[point.steps for point in points],
        evaluation=[mean for _, mean in watch.moments],
        ended=[point.episodes for point in points],
        training=[float("nan") if point.mean_return is None else point.mean_return for point in points],
        final=_returns(trained.arrays, _traces(budget.final_seed, budget.final_traces)).tolist(),
        train_cpu_s=cpu_s - watch.off_cpu_s,
        train_wall_s=wall_s - watch.off_wall_s,
        samples=_samples(arm, trained.updates, trained.steps),
        judged_steps=advised.judged_steps if advised else 0,
        decision_us=_decision_us(trained.arrays),
        directives=[msgspec.json.encode(one).decode() for one in advised.directives] if advised else [],
    )


def _samples(arm: Arm, updates: int, steps: int) -> int:
    """Rows that gradients were made of: DQN's batches; PPO's rollouts, once for each of at most so many epochs."""
    config = arm.training.config
    return steps * config.epochs if hasattr(config, "epochs") else updates * config.batch_size


@cache
def _traces(seed: int, count: int) -> Traces:
    return draw_traces(seed, count)


def _returns(arrays: Mapping[str, NDArray[Any]], traces: Traces) -> NDArray[np.float64]:
    """The greedy policy's, float64[N]."""
    policy = Policy(arrays)
    return evaluate(lambda obs: policy.q_values(obs).argmax(axis=1), traces)


def _decision_us(arrays: Mapping[str, NDArray[Any]]) -> list[float]:
    """p50 and p95 of a decision on one observation, with what reads the clock."""
    policy, obs = Policy(arrays), Simulation(_traces(seeds.STUDY_CURVE.first, 16)).observation()
    taken = []
    for i in range(LATENCY_DECISIONS):
        row = obs[i % len(obs)]
        before_ns = time.perf_counter_ns()
        policy.decide(row)
        taken.append((time.perf_counter_ns() - before_ns) / 1_000.0)
    return [float(q) for q in np.percentile(taken, [50, 95])]
