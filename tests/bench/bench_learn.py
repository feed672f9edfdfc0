"""One JSON line each: a decision at batch 1, replay sampling, updates. One thread, single core.

Run: `python tests/bench/bench_learn.py`.
"""

import itertools
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from timing import best_s, report

from headrace.learners import dqn, ppo
from headrace.learners.acting import Policy
from headrace.learners.cloud.features import cloud_features, cloud_prior
from headrace.learners.dqn.prioritised import PrioritisedReplay
from headrace.learners.dqn.replay import Batch, ReplayBuffer

WIDTH, ACTIONS, ROUNDS = 32, 5, 200


def best_seconds(call: Callable[[], object], calls: int) -> float:
    """CPU seconds a call in the fastest of 200 short rounds."""
    return best_s(call, ROUNDS, max(1, calls // ROUNDS))


Memory = TypeVar("Memory", ReplayBuffer, PrioritisedReplay)


def filled(buffer: Memory, capacity: int) -> Memory:
    """A full buffer of random transitions."""
    rng = np.random.default_rng(0)
    for _ in range(capacity // 6_400):
        obs, next_obs = (rng.standard_normal((6_400, WIDTH), dtype=np.float32) for _ in range(2))
        reward = rng.standard_normal(6_400, dtype=np.float32)
        action = rng.integers(ACTIONS, size=6_400)
        buffer.add(Batch(obs, action, reward, next_obs, np.zeros(6_400, np.bool_)))
    return buffer


def products(batch: int, hidden: tuple[int, ...]) -> Callable[[], None]:
    """The bare matrix products of a DQN update, into memory that is there: what no update on torch's CPU goes below.

    Three forward passes (online before and after the step, target after it), one backward.
    """
    widths = (WIDTH, *hidden, ACTIONS)
    values = [torch.randn(batch, width) for width in widths]
    weights = [torch.randn(shape) for shape in itertools.pairwise(widths)]
    gradients = [torch.empty_like(weight) for weight in weights]

    def call() -> None:
        for _ in range(3):
            for given, weight, out in zip(values, weights, values[1:], strict=False):
                torch.mm(given, weight, out=out)
        for i in reversed(range(len(weights))):
            torch.mm(values[i].t(), values[i + 1], out=gradients[i])
            if i:
                torch.mm(values[i + 1], weights[i].t(), out=values[i])

    return call


def main() -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    config = dqn.DQNConfig(normaliser_updates=50)
    capacity = config.replay_capacity
    buffer, state = filled(ReplayBuffer(capacity, WIDTH), capacity), dqn.init(config, WIDTH, ACTIONS, seed=0)

    def learn() -> None:
        nonlocal state
        state, _ = dqn.update(state, buffer.sample(state.rng, config.batch_size))

    update_s = best_seconds(learn, 200)
    policy, obs = Policy(dqn.policy_arrays(state)), buffer.sample(state.rng, 64).obs
    decide_s = best_seconds(lambda: policy.decide(obs[0]), 20_000)
    act_s = best_seconds(lambda: policy.act(obs, 0.02, state.rng), 2_000)
    sample_s = best_seconds(lambda: buffer.sample(state.rng, 256), 2_000)
    report("decision", batch=1, microseconds=decide_s * 1e6, limit_microseconds=6.0)
    report("decision", batch=64, microseconds=act_s * 1e6)
    report("replay_sample", batch=256, items_per_s=256 / sample_s, floor_items_per_s=5e6)
    memory = filled(PrioritisedReplay(capacity, WIDTH), capacity)
    memory.reprioritise(np.arange(capacity), state.rng.exponential(size=capacity))
    drawn_s = best_seconds(lambda: memory.sample(state.rng, 256, 0.5), 2_000)
    drawn = memory.sample(state.rng, 256, 0.5)
    written_s = best_seconds(lambda: memory.reprioritise(drawn.places, drawn.weight), 2_000)
    report("replay_prioritised", batch=256, items_per_s=256 / drawn_s, floor_items_per_s=1.9e6)
    report("replay_reprioritise", batch=256, items_per_s=256 / written_s)
    agent = ppo.init(
        ppo.PPOConfig(activation="relu"), WIDTH, ACTIONS, 0, features=cloud_features(), prior=cloud_prior()
    )
    actor = Policy(ppo.policy_arrays(agent))
    actor_s = best_seconds(lambda: actor.decide(obs[0]), 20_000)
    report("decision_prior", batch=1, microseconds=actor_s * 1e6, limit_microseconds=6.0)
    floor_s = best_seconds(products(config.batch_size, config.hidden), 200)
    report("update", batch=config.batch_size, updates_per_s=1 / update_s, microseconds=update_s * 1e6)
    report("update_floor", batch=config.batch_size, microseconds=floor_s * 1e6, times_floor=update_s / floor_s)


if __name__ == "__main__":
    main()
