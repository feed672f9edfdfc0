"""DQN's entry in the table of algorithms."""

import dataclasses

from headrace.learners import dqn
from headrace.learners.dqn.simulate import DQNTraining
from headrace.learners.dqn.stream import StreamedDQN
from headrace.learners.stream.algorithms import Algorithm
from headrace.learners.stream.exploring import Exploration
from headrace.schemas.records import TaskSpec

_AGENTS = Exploration()
# A stream goes on: what changes late must be learned too. And nobody knows beforehand how late a reward comes: with
# sums over five steps one that is seen seldom, or many steps off, is learned of from few rows.
_STREAMED = dqn.DQNConfig(
    discount=0.99,
    n_step=5,
    learning_rate_final=1e-4,
    epsilon_start=_AGENTS.start,
    epsilon_end=_AGENTS.end,
    epsilon_steps=_AGENTS.steps,
)
_LAST_RATE = 1e-5
"""Where the length of the stream is known, the last updates only average."""


def _init(config: dqn.DQNConfig, spec: TaskSpec, seed: int) -> dqn.DQNState:
    return dqn.init(config, spec.width, spec.action_count, seed)


def _scheduled(rows: int, samples_per_row: float) -> dqn.DQNConfig:
    """Let the schedules of CloudService's configuration be as long as the stream."""
    config = dqn.DQNConfig(learning_rate_final=_LAST_RATE, epsilon_steps=rows)
    return dataclasses.replace(config, learning_rate_steps=int(rows * samples_per_row / config.batch_size))


ALGORITHM = Algorithm(
    streamed=_STREAMED,
    scheduled=_scheduled,
    init=_init,
    load=dqn.state_from_arrays,
    training=StreamedDQN,
    fixed=("hidden", "replay_capacity", "quantiles", "n_step", "priority"),
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
