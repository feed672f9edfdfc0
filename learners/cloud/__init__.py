"""CloudService-v0: an autoscaler's task, partially observed, with all randomness drawn at reset.

Importing this package registers `headrace/CloudService-v0` with Gymnasium, and does nothing else.
"""

from gymnasium.envs.registration import register

from headrace.learners.cloud.env import ENVIRONMENT_ID, CloudEnv, CloudVectorEnv, observation_space
from headrace.learners.cloud.outcomes import OUTCOMES
from headrace.learners.cloud.plant import (
    ACTION_NAMES,
    FEATURE_NAMES,
    FEATURE_SCALES,
    FEATURE_UNITS,
    OBSERVATION_NAMES,
    REWARD_SCALE,
    REWARD_TERMS,
    Simulation,
)
from headrace.learners.cloud.workload import EPISODE_STEPS, STEP_MS, Traces, draw_traces

__all__ = [
    "ACTION_NAMES",
    "ENVIRONMENT_ID",
    "EPISODE_STEPS",
    "FEATURE_NAMES",
    "FEATURE_SCALES",
    "FEATURE_UNITS",
    "OBSERVATION_NAMES",
    "OUTCOMES",
    "REWARD_SCALE",
    "REWARD_TERMS",
    "STEP_MS",
    "CloudEnv",
    "CloudVectorEnv",
    "Simulation",
    "Traces",
    "draw_traces",
    "observation_space",
]

register(
    id=ENVIRONMENT_ID,
    entry_point="headrace.learners.cloud.env:CloudEnv",
    vector_entry_point="headrace.learners.cloud.env:CloudVectorEnv",
)
