"""DQN's entry in the table of algorithms."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.learners.dqn import dqn
from headrace.learners.dqn.dqn_simulate import DQNTraining
from headrace.learners.dqn.dqn_stream import StreamedDQN
from headrace.learners.stream.algorithms import Algorithm
from headrace.learners.stream.training import Counts, Learned, LearnSettings
from headrace.schemas.records import TaskSpec

_STREAMED = dqn.DQNConfig()


def _begin(config: dqn.DQNConfig, spec: TaskSpec, seed: int, settings: LearnSettings, learned: Learned) -> StreamedDQN:
    state = dqn.init(config, spec.width, spec.action_count, seed)
    return StreamedDQN(state, spec.task, settings, learned)


def _restore(
    arrays: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
    spec: TaskSpec,
    settings: LearnSettings,
    counts: Counts,
    learned: Learned,
) -> StreamedDQN:
    state = dqn.state_from_arrays(arrays, meta)
    return StreamedDQN(state, spec.task, settings, learned, counts, arrays)


def _scheduled(rows: int, samples_per_row: float) -> dqn.DQNConfig:
    """Let the schedules be as long as the stream."""
    updates = int(rows * samples_per_row / _STREAMED.batch_size)
    return dataclasses.replace(_STREAMED, learning_rate_steps=updates, epsilon_steps=rows)


ALGORITHM = Algorithm(
    streamed=_STREAMED,
    scheduled=_scheduled,
    begin=_begin,
    restore=_restore,
    simulated=DQNTraining(
        dqn.DQNConfig(
            discount=0.99,
            batch_size=128,
            replay_capacity=50_000,
            learning_rate_final=1e-4,
            polyak=0.01,
            centre_rewards=False,
            averaging=0.01,
            epsilon_end=0.02,
        ),
        environments=8,
        learning_starts=1_000,
        updates_per_step=2.0,
        exploration_share=0.2,
    ),
)
