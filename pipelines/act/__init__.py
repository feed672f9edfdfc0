"""An agent that acts by the version that serves, and takes each new one as it is promoted.

agent = follow("cartpole")
"""

from headrace.pipelines.act.agent import Agent, follow

__all__ = ["Agent", "follow"]
