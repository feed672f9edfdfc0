"""How the best fixed schedule and the advisor's cadence were chosen, on seeds and traces of the search's own.

The criterion is the final policy's mean return; nothing here looks at the paper.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from headrace.learners import seeds
from headrace.pipelines.study import store
from headrace.pipelines.study.design import PLAIN_DQN, SEARCH_TRACES, Arm, Budget, Cadence, FixedSchedule, scheduled
from headrace.pipelines.study.pool import jobs, run_all

DRAWN: Final = 9

GRID: Final[Mapping[str, Sequence[Any]]] = {
    "exploration_share": (0.05, 0.1, 0.3, 0.6),
    "epsilon_end": (0.02, 0.05, 0.1, 0.2),
    "learning_rate": (5e-4, 1e-3, 2e-3),
    "guide": (("", 0.0), ("rate_rule", 0.4), ("rate_rule", 0.8)),
}
"""Within the bounds that the advisor has; a guide is the rule that exploration follows, and how much of it."""


def candidates() -> dict[str, FixedSchedule]:
    """Return the preset's own schedule and points of the grid, drawn once."""
    rng = np.random.default_rng(seeds.STUDY_CANDIDATES.first)
    found = {"schedule-00": FixedSchedule()}
    while len(found) <= DRAWN:
        drawn = {name: values[int(rng.integers(len(values)))] for name, values in GRID.items()}
        rule, share = drawn.pop("guide")
        one = FixedSchedule(**drawn, explore_rule=rule, explore_share=share)
        if one not in found.values():
            found[f"schedule-{len(found):02d}"] = one
    return found


def cadences() -> dict[str, Cadence]:
    """Return how often the advisor may be asked: after each of so many evaluations, or every second time."""
    return {f"cadence-{points}-{every}": Cadence(points, every) for points, every in ((1, 1), (2, 1), (2, 2), (5, 1))}


def search(
    folder: Path, processes: int, budget: Budget, on_done: Callable[[int, int], None] = lambda *_: None
) -> list[dict[str, Any]]:
    """Run every candidate with every seed of the search, and return them with their mean returns, the best first."""
    budget = Budget(budget.steps, budget.curve_traces, SEARCH_TRACES, seeds.STUDY_SEARCH.first)
    schedules, asked = candidates(), cadences()
    arms = {name: Arm(scheduled(one)) for name, one in schedules.items()}
    arms |= {name: Arm(PLAIN_DQN, one) for name, one in asked.items()}
    run_all(folder, jobs(arms, seeds.STUDY_SEARCH_TRAINING.each(), budget), processes, on_done)
    returns: dict[str, list[float]] = {name: [] for name in arms}
    for run in store.read(folder):
        returns[run.arm].append(float(np.mean(run.final)))
    means = {name: float(np.mean(values)) for name, values in returns.items()}
    told: dict[str, FixedSchedule | Cadence] = {**schedules, **asked}
    order = sorted(told, key=means.__getitem__, reverse=True)
    return [{"name": name, "mean_return": means[name], **asdict(told[name])} for name in order]
