"""PPO's entry in the table of algorithms."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.learners.ppo import ppo
from headrace.learners.ppo.ppo_simulate import PPOTraining
from headrace.learners.ppo.ppo_stream import StreamedPPO
from headrace.learners.stream.algorithms import Algorithm
from headrace.learners.stream.training import Counts, Learned, LearnSettings
from headrace.schemas.records import Bounds, TaskSpec


def _begin(config: ppo.PPOConfig, spec: TaskSpec, seed: int, settings: LearnSettings, learned: Learned) -> StreamedPPO:
    bounds = None
    if isinstance(spec.actions, Bounds):
        bounds = np.array([spec.actions.low, spec.actions.high], np.float32)
    state = ppo.init(config, spec.width, spec.action_count, seed, bounds=bounds)
    return StreamedPPO(state, spec.task, settings, learned)


def _restore(
    arrays: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
    spec: TaskSpec,
    settings: LearnSettings,
    counts: Counts,
    learned: Learned,
) -> StreamedPPO:
    return StreamedPPO(ppo.state_from_arrays(arrays, meta), spec.task, settings, learned, counts)


ALGORITHM = Algorithm(
    # A stream has no end towards which rates could fall. The first rows are drawn uniformly: an action's weight
    # is then at most the number of actions.
    streamed=ppo.PPOConfig(
        hidden=(96, 96),
        activation="relu",
        minibatch_size=512,
        normaliser_rows=25_600,
        importance_max=5.0,
        schedule_rows=10**12,
    ),
    begin=_begin,
    restore=_restore,
    continuous=True,
    needs_log_prob=True,
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
