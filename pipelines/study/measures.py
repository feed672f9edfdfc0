"""What is measured of a run: convergence, level, sample efficiency, time. Definitions are in DEFINITIONS, as told."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.learners.cloud.workload import EPISODE_STEPS
from headrace.pipelines.study.run import Run

LEVEL_SHARE: Final = 0.1
"""Of the curve's end, whose mean is the level that a run converges to."""
TOLERANCE: Final = 1.0
"""Return; of evaluations, which are on the same traces and hardly waver."""
TRAINING_TOLERANCE: Final = 3.0
"""Return; of blocks of training episodes, whose traces differ: about three standard errors."""
BLOCK_EPISODES: Final = 256
THRESHOLD: Final = "hpa_kubernetes"

Floats = NDArray[np.float64]


class Convergence(NamedTuple):
    """When a curve came to rest: after so many episodes, or not within the budget, which `episodes` then is."""

    episodes: float
    converged: bool


class Measure(NamedTuple):
    """A number of each run. digits: as the report shows it. definition: as the report tells it."""

    label: str
    unit: str
    digits: int
    definition: str
    of: Callable[[Run, Mapping[str, float]], float]


def converged_at(episodes: Sequence[float], values: Sequence[float], tolerance: float) -> Convergence:
    """Find the first point from which on a curve stays within the tolerance of its final level.

    The level is the mean of the last tenth of the points. A curve that is not within it before that tenth begins has
    not converged: it is censored at the budget's end.
    """
    outside = np.flatnonzero(np.abs(np.asarray(values) - level(values)) > tolerance)
    first = int(outside[-1]) + 1 if len(outside) else 0
    if first >= len(values) - _tenth(values):
        return Convergence(float(episodes[-1]), converged=False)
    return Convergence(float(episodes[first]), converged=True)


def level(values: Sequence[float]) -> float:
    """Return the mean of the last tenth of a curve; NaN of none."""
    return float(np.mean(values[-_tenth(values) :])) if values else math.nan


def _tenth(values: Sequence[float]) -> int:
    return max(1, round(LEVEL_SHARE * len(values)))


def convergence(run: Run) -> Convergence:
    """On evaluation return."""
    return converged_at([step / EPISODE_STEPS for step in run.steps], run.evaluation, TOLERANCE)


def blocks(run: Run) -> tuple[list[float], list[float]]:
    """Return the mean training return of each BLOCK_EPISODES episodes, and the number of episodes at its end.

    A run with fewer has one block.
    """
    ends: list[float] = []
    means: list[float] = []
    count, total = 0, 0.0
    for ended, mean in zip(run.ended, run.training, strict=True):
        if ended:
            count, total = count + ended, total + ended * mean
        if count >= BLOCK_EPISODES:
            ends.append((ends[-1] if ends else 0.0) + count)
            means.append(total / count)
            count, total = 0, 0.0
    if not ends and count:
        return [float(count)], [total / count]
    return ends, means


def _reaches(name: str) -> Callable[[Run, Mapping[str, float]], float]:
    """Episodes until the first evaluation at or above a rule's return on the same traces; the budget's if never."""

    def of(run: Run, rules: Mapping[str, float]) -> float:
        there = np.flatnonzero(np.asarray(run.evaluation) >= rules[name])
        return run.steps[there[0] if len(there) else -1] / EPISODE_STEPS

    return of


MEASURES: Final[Mapping[str, Measure]] = {
    "episodes": Measure(
        "Episodes to convergence", "episodes", 0,
        definition=f"the first evaluation from which on the return stays within {TOLERANCE:g} of its final level, "
        "which is the mean of the last tenth of the evaluations. A run that gets there only within that tenth has not "
        "converged and counts with the whole budget",
        of=lambda run, _: convergence(run).episodes,
    ),
    "level": Measure(
        "Reward at convergence", "return", 2,
        definition="that final level: unscaled return of the greedy policy, mean over the traces of the evaluations",
        of=lambda run, _: level(run.evaluation),
    ),
    "final": Measure(
        "Return of the final policy", "return", 2,
        definition="of the policy at the budget's end, greedy, on held-out traces used for nothing else",
        of=lambda run, _: float(np.mean(run.final)),
    ),
    "training_episodes": Measure(
        "Episodes to convergence, on training return", "episodes", 0,
        definition=f"as above, on the mean return of each {BLOCK_EPISODES} training episodes (exploration included), "
        f"within {TRAINING_TOLERANCE:g}",
        of=lambda run, _: converged_at(*blocks(run), TRAINING_TOLERANCE).episodes,
    ),
    "training_level": Measure(
        "Reward at convergence, on training return", "return", 2,
        definition="mean of the last tenth of those blocks",
        of=lambda run, _: level(blocks(run)[1]),
    ),
    "efficiency": Measure(
        "Sample efficiency", "episodes", 0,
        definition="episodes until the first evaluation at or above the rule that Kubernetes runs by default "
        "(`hpa_kubernetes`) on the same traces",
        of=_reaches(THRESHOLD),
    ),
    "rate_rule": Measure(
        "Episodes until the rate rule is reached", "episodes", 0,
        definition="as above, at or above the rate rule; a run that never is counts with the whole budget",
        of=_reaches("rate_rule"),
    ),
    "area": Measure(
        "Mean return over the budget", "return", 2,
        definition="mean of all evaluations, the area below the learning curve",
        of=lambda run, _: float(np.mean(run.evaluation)),
    ),
    "cpu_s": Measure(
        "Training time, CPU", "s", 1,
        definition="CPU seconds of a run's training on one thread, without its evaluations; the advisor's judging "
        "counts as training",
        of=lambda run, _: run.train_cpu_s,
    ),
    "wall_s": Measure(
        "Training time, wall", "s", 1,
        definition="the same on the clock, whatever else the machine did",
        of=lambda run, _: run.train_wall_s,
    ),
}  # fmt: skip
