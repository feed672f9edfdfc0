"""Rules that see only what an agent sees: constant, Kubernetes', feed-forward, and one of ten tuned parameters.

A rule has `reset(n)` before n episodes and `act(obs) -> int64[N]`, actions 0-4 for -2 to +2 replicas.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from headrace.learners.cloud.plant import (
    ACTION_CHANGES,
    ACTION_ZERO,
    FEATURES,
    FRAMES,
    LOG_QUEUE,
    P95,
    PENDING,
    RATE,
    RATE_UNIT_RPS,
    READY,
    REPLICAS_MAX,
    SERVICE_RATE_RPS,
    UTILISATION,
)

Observation = NDArray[np.float32]
Actions = NDArray[np.int64]
FloatArray = NDArray[np.float64]

STATIC_REPLICAS: Final = 13
"""The best of all constant numbers on draw_traces(seed=0, count=2048)."""
HPA_TARGET: Final = 0.65
HPA_TOLERANCE: Final = 0.1
HPA_WINDOW_STEPS: Final = 3
KUBERNETES_WINDOW_STEPS: Final = 10
"""Kubernetes' default stabilisation window, 300 s."""
RATE_TARGET: Final = 0.6
RATE_KEEP: Final = 0.5


@runtime_checkable
class Baseline(Protocol):
    """A controller with memory: reset(n) before n episodes, then one act a step."""

    def reset(self, count: int) -> None:
        """Forget everything; `count` episodes start."""

    def act(self, obs: Observation) -> Actions:
        """float32[N, 32] -> int64[N], 0-4 for -2 to +2 replicas."""


def latest(obs: Observation, feature: int) -> FloatArray:
    """A feature of the newest frame, still in the observation's units: float64[N]."""
    return obs[:, (FRAMES - 1) * FEATURES + feature].astype(np.float64)


def replicas(obs: Observation) -> FloatArray:
    """Ready and pending replicas: float64[N], whole numbers."""
    return np.rint((latest(obs, READY) + latest(obs, PENDING)) * REPLICAS_MAX)


def towards(desired: FloatArray, current: FloatArray) -> Actions:
    """The action that comes nearest to the desired number of replicas."""
    low, high = ACTION_CHANGES[0], ACTION_CHANGES[-1]
    change: Actions = np.clip(desired - current, low, high).astype(np.int64) + ACTION_ZERO
    return change


class Static:
    """A constant number of replicas."""

    def __init__(self, replicas: int = STATIC_REPLICAS) -> None:
        self.replicas = replicas

    def reset(self, count: int) -> None:
        """It has no memory."""

    def act(self, obs: Observation) -> Actions:
        """Towards the constant, two replicas a step."""
        current = replicas(obs)
        return towards(np.full_like(current, self.replicas), current)


class HorizontalPodAutoscaler:
    """The Kubernetes rule: ceil(current * metric / target), left alone within the tolerance.

    Scaling down waits until every recommendation of the stabilisation window agrees. By default `current` counts ready
    and pending replicas, as the formula reads, and the window is 3 steps (90 s). With `discount_pending`, as in
    Kubernetes' controller, pods that are not ready count as unused when it scales up, and not at all when it scales
    down.

    That is not its strongest form: what a cluster runs by default is `hpa_kubernetes`. Quote both.

    Source: kubernetes.io, Horizontal Pod Autoscaling, 'Algorithm details'; kubernetes/kubernetes,
    pkg/controller/podautoscaler/replica_calculator.go, GetResourceReplicas.
    """

    def __init__(
        self,
        target: float = HPA_TARGET,
        window_steps: int = HPA_WINDOW_STEPS,
        *,
        discount_pending: bool = False,
    ) -> None:
        self.target = target
        self.window_steps = window_steps
        self.discount_pending = discount_pending
        self.reset(0)

    def reset(self, count: int) -> None:
        """Forget the recommendations."""
        del count
        self._recommended: list[FloatArray] = []

    def act(self, obs: Observation) -> Actions:
        """Towards the highest recommendation of the window, but up at once."""
        current = replicas(obs)
        self._recommended.append(self._recommend(obs, current))
        self._recommended = self._recommended[-self.window_steps :]
        newest, highest = self._recommended[-1], np.max(self._recommended, axis=0)
        return towards(np.where(newest > current, newest, np.minimum(highest, current)), current)

    def _recommend(self, obs: Observation, current: FloatArray) -> FloatArray:
        ratio = latest(obs, UTILISATION) / self.target
        base = current
        if self.discount_pending:
            ready = np.rint(latest(obs, READY) * REPLICAS_MAX)
            base = np.where(ratio > 1.0, current, ready)
            # What is not ready yet may take the wish to grow away, never turn it round.
            ratio = np.where(ratio > 1.0, np.maximum(ratio * ready / current, 1.0), ratio)
        steady = np.abs(ratio - 1.0) <= HPA_TOLERANCE
        return np.where(steady, current, np.ceil(base * ratio))


def hpa_kubernetes() -> HorizontalPodAutoscaler:
    """The rule as a cluster runs it by default: window of 300 s, pods that are not ready discounted."""
    return HorizontalPodAutoscaler(window_steps=KUBERNETES_WINDOW_STEPS, discount_pending=True)


class RateRule:
    """Feed-forward: a smoothed rate over what a replica should serve (50/s * .6)."""

    def __init__(self, target: float = RATE_TARGET, keep: float = RATE_KEEP) -> None:
        self.target = target
        self.keep = keep
        self.reset(0)

    def reset(self, count: int) -> None:
        """Forget the smoothed rate; the next reading starts it."""
        del count
        self._rate_rps: FloatArray | None = None

    def act(self, obs: Observation) -> Actions:
        """Towards ceil(rate / (50 * target))."""
        rate_rps = latest(obs, RATE) * RATE_UNIT_RPS
        if self._rate_rps is not None:
            rate_rps = self.keep * self._rate_rps + (1 - self.keep) * rate_rps
        self._rate_rps = rate_rps
        return towards(np.ceil(rate_rps / (SERVICE_RATE_RPS * self.target)), replicas(obs))


class RuleParameters(NamedTuple):
    """What is tuned; `python -m headrace.learners.cloud.tuning` found TUNED."""

    keep_up: float  # share of the old average that stays where the rate rises, 0-1
    keep_down: float  # likewise where it falls
    trend_keep: float  # share of the old trend that stays, 0-1
    trend_gain: float  # steps that the trend is carried forward where it rises
    trend_down: float  # likewise where it falls
    safety: float  # replicas per square root of servers
    spare: float  # replicas on top
    queue_gain: float  # replicas per unit of the queue's reading (ln(1 + requests) / 10)
    latency_gain: float  # replicas per unit of latency beyond the objective
    deadband: float  # how many replicas too many are left alone, beyond rounding

    @classmethod
    def clipped(cls, values: FloatArray) -> Self:
        """Shares cut to 0-.98, the deadband to 0 and more."""
        numbers = dict(zip(cls._fields, map(float, values), strict=True))
        for name in ("keep_up", "keep_down", "trend_keep"):
            numbers[name] = min(max(numbers[name], 0.0), 0.98)
        numbers["deadband"] = max(numbers["deadband"], 0.0)
        return cls(**numbers)


TUNED: Final = RuleParameters(
    keep_up=0.385,
    keep_down=0.389,
    trend_keep=0.542,
    trend_gain=0.591,
    trend_down=0.395,
    safety=1.422,
    spare=0.405,
    queue_gain=-0.442,
    latency_gain=-0.213,
    deadband=0.555,
)
"""Found by `python -m headrace.learners.cloud.tuning`, on seeds.TUNING, which are used for nothing else."""


class TunedRule:
    """A feed-forward rule of ten parameters: how far hand-made control goes on this task.

    Replicas = servers + safety * sqrt(servers) + spare, where servers = forecast rate / 50 (square-root staffing:
    Halfin, Whitt 1981; Whitt 1992). The forecast is an average of the rate that rises faster than it falls, carried
    forward along its trend; backlog and latency readings add to it. A deadband keeps the rule from following noise.
    """

    def __init__(self, parameters: RuleParameters = TUNED) -> None:
        self.parameters = parameters
        self.reset(0)

    def reset(self, count: int) -> None:
        """Forget averages and trends; the next reading starts them."""
        del count
        self._average: FloatArray | None = None
        self._trend: FloatArray = np.zeros(1)

    def act(self, obs: Observation) -> Actions:
        """Towards what the forecast asks for."""
        rule, current = self.parameters, replicas(obs)
        servers = self._forecast_rps(latest(obs, RATE) * RATE_UNIT_RPS) / SERVICE_RATE_RPS
        late = np.maximum(latest(obs, P95) - 1.0, 0.0)
        desired = servers + rule.safety * np.sqrt(servers) + rule.spare
        desired += rule.queue_gain * latest(obs, LOG_QUEUE) + rule.latency_gain * late
        # Half a replica either way is rounding; shrinking waits for the deadband too.
        down = np.minimum(current, np.rint(desired + rule.deadband))
        return towards(np.where(desired < current, down, np.rint(desired)), current)

    def _forecast_rps(self, rate: FloatArray) -> FloatArray:
        rule = self.parameters
        average = rate if self._average is None else self._average
        keep = np.where(rate > average, rule.keep_up, rule.keep_down)
        self._average = keep * average + (1.0 - keep) * rate
        self._trend = rule.trend_keep * self._trend + (1.0 - rule.trend_keep) * (self._average - average)
        gain = np.where(self._trend > 0.0, rule.trend_gain, rule.trend_down)
        return np.maximum(self._average + gain * self._trend, 0.0)


RULES: Final[Mapping[str, Callable[[], Baseline]]] = {
    "hpa": HorizontalPodAutoscaler,
    "hpa_kubernetes": hpa_kubernetes,
    "rate_rule": RateRule,
    "tuned_rule": TunedRule,
}
"""What decides by what an agent sees."""
