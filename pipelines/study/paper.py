"""The paper's figures, from its tables 1, 3 and 4, and what follows from them by arithmetic."""

from collections.abc import Mapping
from typing import Any, Final

from headrace.learners.judge.comparison import eta_squared_of, one_way_from_summary
from headrace.pipelines.study.design import PAPER_ARMS

RUNS: Final = 20
F, DF_BETWEEN, DF_WITHIN, ETA_SQUARED = 34.6, 2, 57, 0.55

MEANS: Final[Mapping[str, tuple[float, ...]]] = {
    "episodes": (680.0, 420.0, 610.0),
    "level": (210.0, 225.0, 215.0),
    "efficiency": (512.0, 378.0, 489.0),
    "cpu_s": (45.0 * 60, 38.0 * 60, 42.0 * 60),
}
"""By measure, in the order of PAPER_ARMS."""
SPREADS: Final[Mapping[str, tuple[float, ...]]] = {"episodes": (25.0, 18.0, 20.0), "level": (10.0, 8.0, 9.0)}
"""What follows the ± sign."""
EXPLAINED: Final[Mapping[str, tuple[float | None, float]]] = {
    "interpretability": (2.1, 4.6),
    "time_ms": (None, 92.0),
    "adjustments": (3.0, 9.0),
    "satisfaction": (68.0, 87.0),
}
"""Table 3, by measure: of RL alone, and of RL with an LLM."""
UNKNOWN: Final = (
    "Whether ± is a standard deviation or a standard error, over how many runs (F(2, 57) means 60 in three arms).",
    (
        "What convergence and sample efficiency are. The latter has no unit; by the text, which calls PPO the most "
        "efficient learner, a lower figure is better."
    ),
    (
        "The environment: its reward has another scale (returns of 210 to 225; here a perfect plan reaches about 98), "
        "so absolute figures cannot be compared, only orders and ratios."
    ),
    "Hyper-parameters and hardware, by which training takes minutes there and seconds here.",
)


def arithmetic() -> list[dict[str, Any]]:
    """Compute the F that the paper's own means and spreads give, under both readings of ±."""
    found = []
    for measure, spreads in SPREADS.items():
        for reading, factor in (("standard deviation", 1.0), ("standard error", RUNS**0.5)):
            test = one_way_from_summary(MEANS[measure], [spread * factor for spread in spreads], RUNS)
            found.append(
                {"measure": measure, "reading": reading, "f": test.f, "p": test.p, "eta_squared": test.eta_squared}
            )
    return found


def told() -> dict[str, Any]:
    """Return all of it as data."""
    return {
        "arms": list(PAPER_ARMS),
        "means": {name: list(values) for name, values in MEANS.items()},
        "spreads": {name: list(values) for name, values in SPREADS.items()},
        "f": F,
        "df": [DF_BETWEEN, DF_WITHIN],
        "eta_squared": ETA_SQUARED,
        "eta_squared_from_f": eta_squared_of(F, DF_BETWEEN, DF_WITHIN),
        "arithmetic": arithmetic(),
        "unknown": list(UNKNOWN),
    }
