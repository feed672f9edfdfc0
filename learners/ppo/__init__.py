"""Proximal policy optimisation: updates, rollouts and the state between them."""

from headrace.learners.ppo.config import PPOConfig
from headrace.learners.ppo.rows import Rollout
from headrace.learners.ppo.state import (
    PPOState,
    behaviour_arrays,
    gone_back,
    init,
    policy_arrays,
    progress_of,
    state_from_arrays,
    state_to_arrays,
)
from headrace.learners.ppo.updates import update

__all__ = [
    "PPOConfig",
    "PPOState",
    "Rollout",
    "behaviour_arrays",
    "gone_back",
    "init",
    "policy_arrays",
    "progress_of",
    "state_from_arrays",
    "state_to_arrays",
    "update",
]
