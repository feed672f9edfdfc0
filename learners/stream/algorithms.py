"""The algorithms that can follow a stream: each begins from a seed, or goes on from a checkpoint."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np

from headrace.learners.dqn import dqn
from headrace.learners.dqn.dqn_stream import StreamedDQN
from headrace.learners.ppo import ppo
from headrace.learners.ppo.ppo_stream import StreamedPPO
from headrace.learners.stream.training import Config, Counts, Learned, LearnSettings, Training
from headrace.schemas.records import Bounds, TaskSpec

Algorithm = Literal["dqn", "ppo"]

STREAMED: Final[Mapping[Algorithm, Config]] = {
    "dqn": dqn.DQNConfig(),
    # A stream has no end towards which rates could fall. The first rows are drawn uniformly: an action's weight
    # is then at most the number of actions.
    "ppo": ppo.PPOConfig(
        hidden=(96, 96),
        activation="relu",
        minibatch_size=512,
        normaliser_rows=25_600,
        importance_max=5.0,
        schedule_rows=10**12,
    ),
}
"""What each learns by on a stream, unless told otherwise."""
CONFIGS: Final[Mapping[str, type[Config]]] = {"dqn": dqn.DQNConfig, "ppo": ppo.PPOConfig}


def begun(
    config: Config,
    spec: TaskSpec,
    seed: int,
    settings: LearnSettings,
    learned: Learned = lambda _: None,
) -> Training:
    """Begin a task's training; the configuration's type says by which algorithm."""
    if isinstance(config, dqn.DQNConfig):
        state = dqn.init(config, spec.width, spec.action_count, seed)
        return StreamedDQN(state, settings, task=spec.task, learned=learned)
    bounds = None
    if isinstance(spec.actions, Bounds):
        bounds = np.array([spec.actions.low, spec.actions.high], np.float32)
    return StreamedPPO(
        ppo.init(config, spec.width, spec.action_count, seed, bounds=bounds),
        settings,
        task=spec.task,
        learned=learned,
    )


def restored(
    arrays: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
    spec: TaskSpec,
    settings: LearnSettings,
    counts: Counts,
    learned: Learned,
) -> Training:
    """Go on from a checkpoint, by the algorithm that it is of; raises ValueError or KeyError where it is of none."""
    if meta["algorithm"] == "ppo":
        return StreamedPPO(ppo.state_from_arrays(arrays, meta), settings, counts, task=spec.task, learned=learned)
    state = dqn.state_from_arrays(arrays, meta)
    return StreamedDQN(state, settings, counts, task=spec.task, learned=learned, saved=arrays)
