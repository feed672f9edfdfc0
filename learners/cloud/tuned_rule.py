"""A feed-forward rule of ten parameters: how far hand-made control goes on this task.

Replicas = servers + safety * sqrt(servers) + spare, where servers = forecast rate / 50 (square-root
staffing: Halfin, Whitt 1981; Whitt 1992). The forecast is an average of the rate that rises faster than
it falls, carried forward along its trend; backlog and latency readings add to it. A deadband keeps the
rule from following noise.
"""

from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from headrace.learners.cloud.plant import LOG_QUEUE, P95, RATE, RATE_UNIT_RPS, SERVICE_RATE_RPS

FloatArray = NDArray[np.float64]


class RuleParameters(NamedTuple):
    """What is tuned; `python -m headrace.learners.cloud.tuning` found TUNED.

    Attributes:
        keep_up: share of the old average that stays where the rate rises, 0-1.
        keep_down: likewise where it falls.
        trend_keep: share of the old trend that stays, 0-1.
        trend_gain: steps that the trend is carried forward where it rises.
        trend_down: likewise where it falls.
        safety: replicas per square root of servers.
        spare: replicas on top.
        queue_gain: replicas per unit of the queue's reading (ln(1 + requests) / 10).
        latency_gain: replicas per unit of latency beyond the objective.
        deadband: how many replicas too many are left alone, beyond rounding.
    """

    keep_up: float
    keep_down: float
    trend_keep: float
    trend_gain: float
    trend_down: float
    safety: float
    spare: float
    queue_gain: float
    latency_gain: float
    deadband: float

    @classmethod
    def clipped(cls, values: FloatArray) -> Self:
        """Shares cut to 0-.98, the deadband to 0 and more."""
        numbers = dict(zip(cls._fields, map(float, values), strict=True))
        for name in ("keep_up", "keep_down", "trend_keep"):
            numbers[name] = min(max(numbers[name], 0.0), 0.98)
        numbers["deadband"] = max(numbers["deadband"], 0.0)
        return cls(**numbers)


START: Final = RuleParameters(0.4, 0.5, 0.6, 1.0, 0.5, 1.5, 0.5, 0.0, 0.0, 0.3)
"""A plain guess, where tuning begins."""


class Forecast:
    """The rule's memory: N episodes' averages and trends."""

    def __init__(self, parameters: RuleParameters) -> None:
        self.parameters = parameters
        self.reset()

    def reset(self) -> None:
        """Forget; the next reading starts the average."""
        self._average: FloatArray | None = None
        self._trend: FloatArray = np.zeros(1)

    def wanted(self, frame: FloatArray, current: FloatArray) -> FloatArray:
        """How many replicas there should be.

        Args:
            frame: float64[N, 8], the newest frame, in the observation's units.
            current: float64[N], replicas ready and pending.

        Returns:
            float64[N], whole numbers.
        """
        rule = self.parameters
        rate = frame[:, RATE] * RATE_UNIT_RPS
        average = rate if self._average is None else self._average
        keep = np.where(rate > average, rule.keep_up, rule.keep_down)
        moved = keep * average + (1.0 - keep) * rate
        self._trend = rule.trend_keep * self._trend + (1.0 - rule.trend_keep) * (moved - average)
        self._average = moved
        gain = np.where(self._trend > 0.0, rule.trend_gain, rule.trend_down)
        servers = np.maximum(moved + gain * self._trend, 0.0) / SERVICE_RATE_RPS
        late = np.maximum(frame[:, P95] - 1.0, 0.0)
        desired = servers + rule.safety * np.sqrt(servers) + rule.spare
        desired += rule.queue_gain * frame[:, LOG_QUEUE] + rule.latency_gain * late
        # Half a replica either way is rounding; shrinking waits for the deadband too.
        wanted = np.rint(desired)
        result: FloatArray = np.where(desired < current, np.minimum(current, np.rint(desired + rule.deadband)), wanted)
        return result
