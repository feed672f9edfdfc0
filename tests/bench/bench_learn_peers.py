"""Environment steps a second of PPO and DQN beside stable-baselines3: same environment, nets and schedule, one thread.

Ours and theirs take turns, so that what else the machine does slows both alike; each line is of medians over rounds,
the ratio of each round's own. stable-baselines3's DQN is neither Double nor dueling and averages no weights:
`dqn_as_theirs` is ours without Double (dueling and averaging stay), `dqn` is ours as it is.

Needs `pip install -e .[bench]`; without it only our own lines are printed. One JSON line each, CPU seconds beside wall.
Run: `python tests/bench/bench_learn_peers.py [rounds]`.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # NumPy's BLAS reads it once, when it is imported

import dataclasses
import functools
import importlib
import importlib.util
import statistics
import sys
import warnings
from collections.abc import Callable

import numpy as np
import torch
from timing import report, timed

from headrace.learners import dqn, ppo
from headrace.learners.cloud import ENVIRONMENT_ID
from headrace.learners.dqn.simulate import DQNTraining
from headrace.learners.ppo.simulate import PPOTraining
from headrace.learners.simulate.training import Training, train

PPO_STEPS, DQN_STEPS, ROUNDS = 102_400, 64_000, 7
PPO = PPOTraining(
    ppo.PPOConfig(activation="relu", minibatch_size=1_024, normaliser_rows=1, kl_stop=0.0),
    environments=256,
    rollout_steps=20,
    privileged=False,
    informed=False,
)
DQN = DQNTraining(dqn.DQNConfig(normaliser_updates=1), environments=64, shadowed=False, informed=False)
SINGLE = dataclasses.replace(DQN, config=dataclasses.replace(DQN.config, double=False))


def compare(name: str, steps: int, own: Callable[[], object], peer: Callable[[], object] | None, rounds: int) -> None:
    """Alternate, after one round that is not counted."""
    calls = [own] if peer is None else [own, peer]
    measured = [[timed(call) for call in calls] for _ in range(rounds + 1)][1:]
    for place, who in enumerate(("ours", "sb3")[: len(calls)]):
        cpu_s, wall_s = (statistics.median(turn[place][clock] for turn in measured) for clock in (0, 1))
        report(f"{name}_{who}", steps_per_cpu_s=steps / cpu_s, steps_per_s=steps / wall_s)
    if peer is not None:
        cpu, wall = (sorted(turn[1][clock] / turn[0][clock] for turn in measured) for clock in (0, 1))
        spread = {"low": cpu[0], "high": cpu[-1]}
        report(f"{name}_to_sb3", times=statistics.median(cpu), **spread, times_wall=statistics.median(wall))


def main() -> None:
    torch.set_num_threads(1)
    np.seterr(all="ignore")
    warnings.filterwarnings("ignore", module="stable_baselines3")
    peer = importlib.import_module("sb3_peer") if importlib.util.find_spec("stable_baselines3") else None
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    cases: tuple[tuple[str, str, Training, int], ...] = (
        ("ppo", "peer_ppo", PPO, PPO_STEPS),
        ("dqn_as_theirs", "peer_dqn", SINGLE, DQN_STEPS),
        ("dqn", "peer_dqn", DQN, DQN_STEPS),
    )
    for name, learn, training, steps in cases:
        own = functools.partial(train, training, ENVIRONMENT_ID, 0, steps)
        theirs = None if peer is None else functools.partial(getattr(peer, learn), training, steps)
        compare(name, steps, own, theirs, rounds)


if __name__ == "__main__":
    main()
