"""One line turns any Gymnasium environment's steps into transitions on a log.

env = record(gymnasium.make("CartPole-v1"), task="cartpole")
"""

from headrace.pipelines.record.environment import record

__all__ = ["record"]
