"""How well each algorithm learns, on traces that no training and no selection saw; one JSON line a run.

CloudService: unscaled mean return less the rate rule's and the tuned rule's on the same 1,024 traces, with 95 %
intervals. CartPole: whether greedy episodes reach 475 within 100,000 steps. They take minutes;
unless told, only a short run of PPO is made.
Run: `python tests/bench/bench_learn_quality.py [ppo|dqn|cartpole|pendulum|short ...]`.
"""

import sys
from collections.abc import Sequence

import numpy as np
import torch
from timing import report, timed

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
        cpu_s, wall_s, returns = learned(algorithm, ENVIRONMENT_ID, steps, seed, HELD_OUT)
        for rule, others in rules.items():
            gains[rule].append(returns - others)
        figures = {f"over_{rule}": float((returns - other).mean()) for rule, other in rules.items()}
        spent = {"steps": steps, "cpu_s": cpu_s, "wall_s": wall_s}
        report(f"{name}_seed_{seed}", mean_return=float(returns.mean()), **figures, **spent)
    for rule, found in gains.items():
        # The seeds' mean, trace by trace, against the same trace's rule.
        mean, low, high, _ = paired_difference(np.mean(found, axis=0), np.zeros(HELD_OUT))
        report(f"{name}_over_{rule}", mean=mean, low=low, high=high, seeds=len(seeds))


def learned(algorithm: str, environment: str, steps: int, seed: int, episodes: int) -> tuple[float, float, np.ndarray]:
    """Train; return CPU and wall seconds, and the returns of greedy episodes on held-out traces."""
    arrays: dict[str, np.ndarray] = {}

    def learn() -> None:
        arrays.update(train(training_for(algorithm, environment), environment, seed, steps).arrays)

    cpu_s, wall_s = timed(learn)
    return cpu_s, wall_s, evaluated(pack(arrays), environment, episodes, HELD_OUT_TRACES.first)


def control(environment: str, algorithm: str, steps: int, goal: float) -> None:
    """Five seeds of a small control task; mean return of 20 greedy episodes each."""
    means = []
    for seed in range(5):
        cpu_s, _, returns = learned(algorithm, environment, steps, seed, 20)
        means.append(float(returns.mean()))
        report(f"{environment}_{algorithm}_{seed}", mean_return=means[-1], cpu_s=cpu_s)
    report(f"{environment}_{algorithm}", goal=goal, reached=sum(mean >= goal for mean in means))


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
