"""The rule that a share of the exploration may follow, in training by simulation."""

from collections.abc import Callable, Mapping

import numpy as np

from headrace.learners.stream.exploring import DecisionRule


class Guide:
    """Puts a decision rule's actions in the place of some random ones. Without a rule nothing is drawn.

    count: episodes at once, N. A rule's memory is of all of them: it starts anew when any ends. rules: by name, what
    makes one.
    """

    def __init__(self, count: int, rules: Mapping[str, Callable[[], DecisionRule]]) -> None:
        self._count = count
        self._rules = rules
        self._name = ""
        self._rule: DecisionRule | None = None

    def guided(
        self, random: np.ndarray, obs: np.ndarray, name: str, share: float, rng: np.random.Generator
    ) -> np.ndarray:
        """Return the random actions int64[N], a share of them replaced by the rule's for obs float32[N, D].

        Raises KeyError where the environment has no such rule.
        """
        if name != self._name:
            self._name, self._rule = name, self._rules[name]() if name else None
            self.ended(np.True_)
        if self._rule is None:
            return random
        return np.where(rng.random(self._count) < share, self._rule.act(obs), random)

    def ended(self, done: np.ndarray | np.bool_) -> None:
        """Forget, where episodes ended: bool[N]."""
        if self._rule is not None and done.any():
            self._rule.reset(self._count)
