"""How well streamed learners learn tasks unlike CloudService, from stream rows, without a gate; one JSON line a run.

Rows of random play (or of a half-trained policy) go through `learners.stream` window by window, as the learner takes
them; the last policy plays greedily, and PPO's also as it draws, beside random play. `--live`: agents act with the
newest candidate, and each candidate plays 100 greedy episodes.
Run: `python tests/bench/bench_learn_tasks.py --tasks cartpole,acrobot,gridworld --algorithm dqn,ppo --seeds 3`.
"""

import argparse
import dataclasses
import json

import numpy as np
import torch
from learn_tasks import TASKS, Agents, returns_of, spec_of
from timing import report, timed

from headrace.learners.acting import BoxPolicy, Policy, epsilon_at
from headrace.learners.stream.algorithms import algorithm, begun
from headrace.learners.stream.exploring import Exploration
from headrace.learners.stream.training import LearnSettings, Training

WINDOW_ROWS = 4_000


def main() -> None:
    """Every task, algorithm and seed that is asked for."""
    torch.set_num_threads(1)
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--tasks", default="cartpole,acrobot,gridworld")
    asked.add_argument("--algorithm", default="dqn,ppo")
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--rows", type=int, default=100_000)
    asked.add_argument("--episodes", type=int, default=20)
    asked.add_argument("--live", action="store_true")
    asked.add_argument("--candidate-rows", type=int, default=10_000)
    asked.add_argument("--config", type=json.loads, default={}, help="JSON that replaces defaults of the algorithm")
    asked.add_argument("--settings", type=json.loads, default={}, help="JSON that replaces defaults of LearnSettings")
    given = asked.parse_args()
    for name in given.tasks.split(","):
        try:
            TASKS[name].make()
        except Exception as error:  # noqa: BLE001 a package that is not installed
            print(json.dumps({"bench": name, "left_out": str(error)}), flush=True)
            continue
        for kind in given.algorithm.split(","):
            if kind in TASKS[name].algorithms:
                for seed in range(given.seeds):
                    (live if given.live else offline)(name, kind, seed, given)


def training_of(name: str, kind: str, seed: int, given: argparse.Namespace) -> Training:
    """A learner as the job begins it."""
    config = dataclasses.replace(algorithm(kind).streamed, **given.config)
    return begun(config, spec_of(name), seed, LearnSettings(gate="none", **given.settings))


def policy_of(training: Training) -> Policy | BoxPolicy:
    """What acts."""
    arrays = training.policy_arrays()
    return BoxPolicy(arrays) if "mean.weight" in arrays else Policy(arrays)


def offline(name: str, kind: str, seed: int, given: argparse.Namespace) -> None:
    """Learn from rows that no learner had a part in."""
    agents, training = Agents(name, seed), training_of(name, kind, seed, given)
    act = agents.half if agents.task.half_trained else agents.uniform
    windows = [agents.window(WINDOW_ROWS, act) for _ in range(given.rows // WINDOW_ROWS)]
    cpu_s, _ = timed(lambda: [training.take([(window, 0)]) for window in windows])
    policy = policy_of(training)
    figures = {
        "greedy": float(returns_of(name, policy, given.episodes, seed).mean()),
        "random": float(returns_of(name, None, given.episodes, seed).mean()),
    }
    if kind == "ppo":
        figures["drawn"] = float(returns_of(name, policy, given.episodes, seed, drawn=True).mean())
    skipped = training.counts.skipped_updates
    report(f"{name}_{kind}_{seed}", **figures, updates=training.updates, skipped=skipped, cpu_s=cpu_s)


def live(name: str, kind: str, seed: int, given: argparse.Namespace) -> None:
    """Let agents act with the newest candidate: DQN's by the fleet's epsilon, PPO's by drawing."""
    agents, training = Agents(name, seed), training_of(name, kind, seed, given)
    policy, version, explores = None, -1, Exploration()
    best, since = -np.inf, 0

    def act(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        if policy is None:
            return agents.uniform(obs)
        if isinstance(policy, BoxPolicy) or policy.softmax:
            return *policy.sample(obs, agents.rng), version
        epsilon = epsilon_at(training.counts.rows, explores.start, explores.end, explores.steps)
        return policy.act(obs, epsilon, agents.rng), np.full(len(obs), np.nan), version

    for _ in range(given.rows // WINDOW_ROWS):
        training.take([(agents.window(WINDOW_ROWS, act), 0)])
        since += WINDOW_ROWS
        if since < given.candidate_rows or not training.updates:
            continue
        policy, version, since = policy_of(training), version + 1 if version >= 0 else 1, 0
        training.counts.version = version
        found = float(returns_of(name, policy, 100, seed).mean())
        best = max(best, found)
        report(f"live_{name}_{kind}_{seed}", rows=training.counts.rows, version=version, greedy=found, best=best)


if __name__ == "__main__":
    main()
