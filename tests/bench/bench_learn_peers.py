"""Environment steps a second of PPO and DQN beside stable-baselines3: same environment, net and schedule, one thread.

Needs `pip install -e .[bench]`; without it only our own lines are printed. One JSON line each, CPU seconds beside wall.
Run: `python tests/bench/bench_learn_peers.py`.
"""

import importlib
import importlib.util
import json
import time
from collections.abc import Callable

import numpy as np
import torch

from headrace.learners import dqn, ppo
from headrace.learners.cloud import ENVIRONMENT_ID
from headrace.learners.training import DQNTraining, PPOTraining, train

PPO_STEPS, DQN_STEPS, ROUNDS = 102_400, 64_000, 2
PPO = PPOTraining(
    ppo.PPOConfig(activation="relu", minibatch_size=1_024, normaliser_rows=1, kl_stop=0.0),
    environments=256,
    rollout_steps=20,
    privileged=False,
    informed=False,
)
DQN = DQNTraining(dqn.DQNConfig(normaliser_updates=1), environments=64, shadowed=False, informed=False)


def steps_per_s(call: Callable[[], object], steps: int) -> dict[str, float]:
    """Of the fastest round: what else the machine does only adds."""
    rounds = []
    for _ in range(ROUNDS):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        call()
        rounds.append((time.process_time() - cpu_s, time.perf_counter() - wall_s))
    cpu_s, wall_s = min(rounds)
    return {"steps_per_cpu_s": steps / cpu_s, "steps_per_s": steps / wall_s}


def main() -> None:
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    peer = importlib.import_module("sb3_peer") if importlib.util.find_spec("stable_baselines3") else None
    for name, training, steps in (("ppo", PPO, PPO_STEPS), ("dqn", DQN, DQN_STEPS)):
        own = steps_per_s(lambda training=training, steps=steps: train(training, ENVIRONMENT_ID, 0, steps), steps)
        report(f"{name}_training", **own)
        if peer is not None:
            learn = getattr(peer, f"peer_{name}")
            theirs = steps_per_s(lambda learn=learn, training=training, steps=steps: learn(training, steps), steps)
            report(f"{name}_sb3", **theirs)
            report(f"{name}_to_sb3", times=own["steps_per_cpu_s"] / theirs["steps_per_cpu_s"])


def report(name: str, **figures: float) -> None:
    """One line of JSON."""
    print(json.dumps({"bench": name, **{key: round(value, 2) for key, value in figures.items()}}), flush=True)


if __name__ == "__main__":
    main()
