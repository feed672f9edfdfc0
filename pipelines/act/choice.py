"""What an agent acts by now, and what takes its place."""

import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import BoxPolicy
from headrace.learners.stream.exploring import Exploration
from headrace.pipelines.act.choosers import Chooser, Drawn, EpsilonGreedy, Greedy, UniformBox, UniformChoice
from headrace.pipelines.act.versions import Version
from headrace.schemas.errors import SettingsError
from headrace.schemas.records import TaskSpec


class Choice:
    """What an agent acts by now: `chooser` is replaced as a whole, by the thread that follows.

    exploration: None where the agent doesn't explore. width, actions, bounds: those of the task; None until known.
    """

    def __init__(self, task: str, exploration: Exploration | None, rng: np.random.Generator) -> None:
        self.chooser: Chooser | None = None
        self._task = task
        self._exploration = exploration
        self._rng = rng
        self._shape: tuple[int, int, bool] | None = None

    def fits(self, width: int, actions: int, bounds: NDArray[np.float32] | None) -> None:
        """Learn the task's shape; act by chance until there is something better."""
        self._shape = (width, actions, bounds is not None)
        if self.chooser is None:
            box = None if bounds is None else UniformBox(bounds[0], bounds[1], self._rng)
            self.chooser = box or UniformChoice(actions, self._rng)

    def take(self, spec: TaskSpec | None, version: Version | None, exploration: Exploration) -> None:
        """Go on by a version, and explore as is said now; raises SettingsError for a version that does not fit."""
        if self._shape is None and spec is not None:
            box = spec.action_bounds
            bounds = np.array([box.low, box.high], np.float32) if box else None
            self.fits(spec.width, spec.action_count, bounds)
        if version is not None:
            self._require_fit(version)
            self.chooser = self._of(version, exploration)
        elif isinstance(self.chooser, EpsilonGreedy):
            self.chooser.exploration = exploration

    def _of(self, version: Version, exploration: Exploration) -> Chooser:
        policy, number = version.policy, version.number
        if self._exploration is None:
            return Greedy(policy, number)
        if isinstance(policy, BoxPolicy) or policy.softmax:
            return Drawn(policy, number, self._rng)
        # The schedule counts the steps of all agents, so that one that starts late does not begin anew.
        before = self.chooser.steps if isinstance(self.chooser, EpsilonGreedy) else 0
        return EpsilonGreedy(policy, number, exploration, max(before, version.steps), self._rng)

    def _require_fit(self, version: Version) -> None:
        policy = version.policy
        found = (policy.observation_width, policy.actions, isinstance(policy, BoxPolicy))
        if self._shape is not None and found != self._shape:
            raise SettingsError(
                f"{self._task}@{version.number} takes {found[0]} observations and gives {found[1]} "
                f"{'continuous' if found[2] else 'discrete'} actions; the task has {self._shape[0]} and "
                f"{self._shape[1]}: it is a policy of another task"
            )
