"""How well each algorithm learns, on traces that no training and no selection saw; one JSON line a run.

CloudService: unscaled mean return less the rate rule's and the tuned rule's on the same 1,024 traces, with 95 %
intervals. CartPole: whether greedy episodes reach 475 within 100,000 steps. They take minutes;
unless told, only a short run of PPO is made.
Run: `python tests/bench/bench_learn_quality.py [ppo|dqn|cartpole|pendulum|short ...]`.
"""

import json
import sys
import time
from collections.abc import Sequence

import numpy as np
import torch

from headrace.learners.checkpoint import pack
from headrace.learners.cloud import ENVIRONMENT_ID, draw_traces
from headrace.learners.cloud.baselines import baseline, evaluate
from headrace.learners.judge.statistics import paired_difference
from headrace.learners.seeds import HELD_OUT as HELD_OUT_TRACES
from headrace.learners.seeds import PRESET_TRAINING
from headrace.learners.simulate.training import train, training_for
from headrace.pipelines.policies.evaluate import evaluated

HELD_OUT = 1_024
STEPS = {"ppo": 6_144_000, "dqn": 2_048_000}


def cloud(algorithm: str, steps: int, seeds: Sequence[int], name: str) -> None:
    """Train, and compare with the rules on the same traces."""
    traces = draw_traces(HELD_OUT_TRACES.first, HELD_OUT)
    rules = {rule: evaluate(baseline(rule, traces), traces) for rule in ("hpa", "rate_rule", "tuned_rule")}
    gains: dict[str, list[np.ndarray]] = {rule: [] for rule in rules}
    for seed in seeds:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        trained = train(training_for(algorithm, ENVIRONMENT_ID), ENVIRONMENT_ID, seed, steps)
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        returns = evaluated(pack(trained.arrays), ENVIRONMENT_ID, HELD_OUT, HELD_OUT_TRACES.first)
        for rule, others in rules.items():
            gains[rule].append(returns - others)
        figures = {f"over_{rule}": round(float((returns - other).mean()), 3) for rule, other in rules.items()}
        line = {"bench": f"{name}_seed_{seed}", "mean_return": round(float(returns.mean()), 2), **figures}
        print(json.dumps(line | {"steps": steps, "cpu_s": round(cpu_s, 1), "wall_s": round(wall_s, 1)}), flush=True)
    for rule, found in gains.items():
        # The seeds' mean, trace by trace, against the same trace's rule.
        mean, low, high, _ = paired_difference(np.mean(found, axis=0), np.zeros(HELD_OUT))
        spread = {"mean": round(mean, 3), "low": round(low, 3), "high": round(high, 3)}
        print(json.dumps({"bench": f"{name}_over_{rule}", **spread, "seeds": len(seeds)}), flush=True)


def control(environment: str, algorithm: str, steps: int, goal: float) -> None:
    """Five seeds of a small control task; mean return of 20 greedy episodes each."""
    means = []
    for seed in range(5):
        cpu_s = time.process_time()
        trained = train(training_for(algorithm, environment), environment, seed, steps)
        mean = float(evaluated(pack(trained.arrays), environment, 20, HELD_OUT_TRACES.first).mean())
        means.append(mean)
        line = {"bench": f"{environment}_{algorithm}_{seed}", "mean_return": round(mean, 1)}
        print(json.dumps(line | {"cpu_s": round(time.process_time() - cpu_s, 1)}), flush=True)
    reached = sum(mean >= goal for mean in means)
    print(json.dumps({"bench": f"{environment}_{algorithm}", "goal": goal, "reached": reached}), flush=True)


def main() -> None:
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or ["short"]
    if "short" in wanted:
        cloud("ppo", 409_600, (0,), "ppo_short")
    for algorithm in ("ppo", "dqn"):
        if algorithm in wanted:
            cloud(algorithm, STEPS[algorithm], PRESET_TRAINING.each(), algorithm)
    if "cartpole" in wanted:
        control("CartPole-v1", "ppo", 100_000, 475.0)
        control("CartPole-v1", "dqn", 100_000, 475.0)
    if "pendulum" in wanted:
        control("Pendulum-v1", "ppo", 200_000, -200.0)


if __name__ == "__main__":
    main()
