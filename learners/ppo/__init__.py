"""Proximal policy optimisation: updates, rollouts and the state between them."""

from headrace.learners.ppo.checkpoint import state_from_arrays, state_to_arrays
from headrace.learners.ppo.state import (
    PPOConfig,
    PPOState,
    Rollout,
    behaviour_arrays,
    init,
    policy_arrays,
    progress_of,
)
from headrace.learners.ppo.updates import update

__all__ = [
    "PPOConfig",
    "PPOState",
    "Rollout",
    "behaviour_arrays",
    "init",
    "policy_arrays",
    "progress_of",
    "state_from_arrays",
    "state_to_arrays",
    "update",
]
