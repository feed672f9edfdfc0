"""Deep Q-learning: updates, replay and the state between them."""

from headrace.learners.dqn.config import DQNConfig, exploration_at, learning_rate_at, priority_correction_at
from headrace.learners.dqn.state import DQNState, gone_back, init, policy_arrays, state_from_arrays, state_to_arrays
from headrace.learners.dqn.updates import greedy, update, update_prioritised

__all__ = [
    "DQNConfig",
    "DQNState",
    "exploration_at",
    "gone_back",
    "greedy",
    "init",
    "learning_rate_at",
    "policy_arrays",
    "priority_correction_at",
    "state_from_arrays",
    "state_to_arrays",
    "update",
    "update_prioritised",
]
