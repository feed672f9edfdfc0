"""A training that was cut short: what it had at its last point is a policy, and can be made again to the bit."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.learners.simulate.curve import CurvePoint, Moment, OnPoint, Trained
from headrace.learners.simulate.training import TrainingConfig, train
from headrace.schemas.scenarios import Scenario


class _ReachedError(Exception):
    """Training has come to where it was cut short."""


@dataclasses.dataclass(slots=True)
class _Kept:
    """The policy at the newest point. until: where training ends, None at its own end."""

    until: int | None = None
    curve: list[CurvePoint] = dataclasses.field(default_factory=list)
    trained: Trained | None = None

    def watch(self, moment: Moment) -> Mapping[str, Any]:
        """Keep a copy of the policy; changes nothing."""
        self.curve.append(moment.point)
        if self.until is None or self.until == moment.point.steps:
            arrays = {name: np.array(values) for name, values in moment.arrays().items()}
            self.trained = Trained(arrays, moment.point.steps, moment.updates, [*self.curve])
        if self.until is not None and moment.point.steps >= self.until:
            raise _ReachedError
        return {}


def train_unless_stopped(
    training: TrainingConfig,
    environment: str,
    seed: int,
    steps: int,
    on_point: OnPoint,
    scenarios: Sequence[Scenario] = (),
) -> tuple[Trained, int | None]:
    """Train as `train` does; where Ctrl-C stops it, return what it had at its last point, and at which step that was.

    Raises KeyboardInterrupt where it had come to no point yet.
    """
    kept = _Kept()
    try:
        return train(training, environment, seed, steps, on_point, watch=kept.watch, scenarios=scenarios), None
    except KeyboardInterrupt:
        if kept.trained is None:
            raise
        return kept.trained, kept.trained.steps


def train_until(
    training: TrainingConfig,
    environment: str,
    seed: int,
    steps: int,
    until: int,
    on_point: OnPoint,
    scenarios: Sequence[Scenario] = (),
) -> Trained:
    """Train as `train` does, up to the point at which it was stopped."""
    kept = _Kept(until)
    try:
        done = train(training, environment, seed, steps, on_point, watch=kept.watch, scenarios=scenarios)
    except _ReachedError:
        assert kept.trained is not None
        return kept.trained
    return done
