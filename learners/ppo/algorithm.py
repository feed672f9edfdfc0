"""PPO's entry in the table of algorithms."""

import numpy as np

from headrace.learners import ppo
from headrace.learners.ppo.simulate import PPOTraining
from headrace.learners.ppo.stream import StreamedPPO
from headrace.learners.stream.algorithms import Algorithm
from headrace.schemas.records import TaskSpec


def _init(config: ppo.PPOConfig, spec: TaskSpec, seed: int) -> ppo.PPOState:
    box = spec.action_bounds
    bounds = np.array([box.low, box.high], np.float32) if box else None
    return ppo.init(config, spec.width, spec.action_count, seed, bounds=bounds)


ALGORITHM = Algorithm(
    # A stream has no end towards which rates could fall. The first rows are drawn uniformly: an action's weight
    # is then at most the number of actions.
    streamed=ppo.PPOConfig(
        hidden=(96, 96),
        activation="relu",
        minibatch_size=512,
        normaliser_rows=409_600,
        importance_max=5.0,
        schedule_rows=10**12,
    ),
    init=_init,
    load=ppo.state_from_arrays,
    training=StreamedPPO,
    continuous=True,
    needs_log_prob=True,
    fixed=("hidden", "critic_hidden", "activation", "log_std"),
    simulated=PPOTraining(
        ppo.PPOConfig(
            discount=0.99,
            gae_lambda=0.95,
            epochs=8,
            minibatch_size=128,
            kl_stop=0.02,
            learning_rate=1e-3,
            critic_learning_rate=1e-3,
            normaliser_rows=20_000,
        ),
        environments=8,
        rollout_steps=128,
    ),
)
