"""CloudService to train in: many episodes at once."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.learners.cloud.controllers import RULES, RateRule
from headrace.learners.cloud.features import cloud_features, cloud_prior
from headrace.learners.cloud.plant import ACTION_NAMES, FEATURES, FRAMES, REPLICAS_MAX, REWARD_SCALE, Simulation
from headrace.learners.cloud.plant import RATE_UNIT_RPS as DEMAND_UNIT_RPS
from headrace.learners.cloud.workload import LEAD_STEPS, Load, draw_traces
from headrace.learners.simulate.scenarios import chosen
from headrace.learners.simulate.training_environments import Step, TrainingEnvironment
from headrace.schemas.errors import SettingsError
from headrace.schemas.scenarios import Scenario

FORESIGHT_STEPS: Final = 12
"""Demands ahead that a critic sees in training: three times what a new pod takes to become ready."""
_POD_COLUMNS: Final = 5


class CloudTrainingEnvironment(TrainingEnvironment):
    """`CloudService-v0` on fresh traces every episode.

    seed: of the traces. privileged: whether to tell what no agent sees: the plant's state and the demands to come.
    shadow: whether the rate rule runs along on the same traces. scenarios: loads of some of the episodes; raises
    SettingsError for what is none.
    """

    width = FRAMES * FEATURES
    actions = len(ACTION_NAMES)
    rules = RULES
    return_scale = REWARD_SCALE

    def __init__(
        self,
        count: int,
        seed: int,
        *,
        privileged: bool = False,
        shadow: bool = False,
        scenarios: Sequence[Scenario] = (),
    ) -> None:
        self.count = count
        self.privileged_width = _POD_COLUMNS + 1 + FORESIGHT_STEPS if privileged else 0
        self.features, self.prior = cloud_features(), cloud_prior()
        self._rng = np.random.default_rng(seed)
        self._rule = RateRule() if shadow else None
        self._scenarios, self._loads = scenarios, [*map(_load, scenarios), Load()]
        self._begin()

    def step(self, actions: NDArray[np.int64]) -> Step:
        """One step of all episodes; they all end together, by truncation."""
        obs, reward, _, done = self._simulation.step(actions)
        shadow = self._shadow_reward()
        privileged = self._privileged_now()
        never, cut = np.zeros(self.count, np.bool_), np.full(self.count, done)
        step = Step(reward.astype(np.float32), shadow, never, cut, obs, privileged)
        self.obs, self.privileged = obs, privileged
        if done:
            self._begin()
        return step

    def _begin(self) -> None:
        seed = int(self._rng.integers(2**63 - 1))
        turns = chosen(self._scenarios, self._rng.random(self.count)) if self._scenarios else ()
        traces = draw_traces(seed, self.count, loads=[self._loads[turn] for turn in turns])
        self._simulation = Simulation(traces)
        self.obs = self._simulation.observation()
        if self._rule is not None:
            self._rule.reset(self.count)
            self._shadow = Simulation(traces)
            self._shadow_obs = self._shadow.observation()
        if self.privileged_width:
            self._demands = _windows(traces.arrivals_rps)
        self.privileged = self._privileged_now()

    def _shadow_reward(self) -> NDArray[np.float32] | None:
        if self._rule is None:
            return None
        self._shadow_obs, reward, _, _ = self._shadow.step(self._rule.act(self._shadow_obs))
        return reward.astype(np.float32)

    def _privileged_now(self) -> NDArray[np.float32] | None:
        """Pods by age, the queue, the demand just served and those to come: float32[N, 18]."""
        if not self.privileged_width:
            return None
        now = self._simulation
        pods = np.concatenate([now.ready[None], now.pending, np.log1p(now.queue)[None]]) / REPLICAS_MAX
        return np.concatenate([pods.T.astype(np.float32), self._demands[now.step_index]], axis=1)


def _load(scenario: Scenario) -> Load:
    try:
        return msgspec.convert(scenario.changes, Load)
    except msgspec.ValidationError as error:
        known = ", ".join(Load.__struct_fields__)
        raise SettingsError(f"{scenario.changes} is no load of CloudService, which has {known}: {error}") from error


def _windows(arrivals_rps: NDArray[np.float64]) -> NDArray[np.float32]:
    """The demand of the step before each step and of those from it on: float32[T + 1, N, 13].

    Beyond the trace's end the last demand stays.
    """
    demands = arrivals_rps.T[LEAD_STEPS - 1 :] / DEMAND_UNIT_RPS
    padded = np.concatenate([demands, np.repeat(demands[-1:], FORESIGHT_STEPS, axis=0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, FORESIGHT_STEPS + 1, axis=0)
    return np.ascontiguousarray(windows, np.float32)
