"""How a fleet's agents explore: by a schedule, and by the directives that stand for their task. NumPy alone."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import epsilon_at
from headrace.schemas.directives import SETTING
from headrace.schemas.records import Directive

Observations = NDArray[np.float32]
Actions = NDArray[np.int64]


_STATED: Final = {"epsilon_start": "start", "epsilon_end": "end", "epsilon_steps": "steps"}
"""What people call the schedule's parts, as settings of a task's learner."""


class DecisionRule(Protocol):
    """A decision rule over N episodes; it may remember what it saw since it was reset."""

    def reset(self, count: int) -> None:
        """Begin N = count episodes."""

    def act(self, obs: Observations) -> Actions:
        """Return the actions int64[N] of observations float32[N, D]."""


@dataclass(frozen=True, slots=True)
class Exploration:
    """How often an agent acts at random: linearly less over `steps` environment steps of the whole fleet.

    rule, share: a decision rule that takes a share of the random actions' place.
    """

    start: float = 1.0
    end: float = 0.02
    steps: int = 38_400
    rule: str = ""
    share: float = 0.0

    def stated(self, settings: Mapping[str, Any]) -> "Exploration":
        """Return what it becomes by settings of a task's learner, as in its file; others change nothing."""
        return dataclasses.replace(self, **{own: settings[name] for name, own in _STATED.items() if name in settings})

    def with_directive(self, one: Directive) -> "Exploration":
        """Return what it becomes by a directive; one that is not about exploring changes nothing."""
        name = one.target if one.change == SETTING else one.change
        if name in _STATED:
            return self.stated({name: int(one.value) if name == "epsilon_steps" else one.value})
        if one.change == "explore_rule":
            return dataclasses.replace(self, rule=one.target if one.value else "", share=one.value)
        return self


class Explorer:
    """Chooses between a policy's action, a random one and a rule's. Without directives it draws as it did without.

    base: how it explores without directives. rules: those that the environment has, by name; a directive about another
    changes nothing.
    """

    def __init__(self, base: Exploration, rules: Mapping[str, Callable[[], DecisionRule]]) -> None:
        self.now = base
        self.base = base
        self._rules = rules
        self._standing: dict[str, Directive] = {}
        self._rule: DecisionRule | None = None

    def apply(self, records: list[Directive]) -> None:
        """Follow what was accepted or undone since."""
        for one in records:
            if one.verdict == "accepted":
                self._standing[one.directive_id] = one
            elif one.verdict == "undone":
                self._standing.pop(one.directive_id, None)
        self.now = self.base
        for one in self._standing.values():
            if one.change != "explore_rule" or one.target in self._rules:
                self.now = self.now.with_directive(one)

    def begin(self, count: int) -> None:
        """Start N = count episodes: a rule remembers what it saw since then."""
        self._rule = self._rules[self.now.rule]() if self.now.rule else None
        if self._rule:
            self._rule.reset(count)

    def act(
        self,
        choose: Callable[[float], Actions],
        obs: Observations,
        steps: int | None,
        rng: np.random.Generator,
    ) -> Actions:
        """Return an action for each row, int64[N].

        choose: gives epsilon-greedy actions. steps: so many were taken before; None while no policy serves, when every
        action explores.
        """
        epsilon = 1.0 if steps is None else epsilon_at(steps, self.now.start, self.now.end, self.now.steps)
        if self._rule is None:
            return choose(epsilon)
        by_rule = epsilon * self.now.share
        # Of the rest so many are random that epsilon holds for both together.
        actions = choose((epsilon - by_rule) / (1.0 - by_rule))
        return np.where(rng.random(len(obs)) < by_rule, self._rule.act(obs), actions)
