"""Whose turn it is in a training that scenarios vary."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.scenarios import Scenario


def chosen(scenarios: Sequence[Scenario], draws: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return whose turn it is, int[N] of draws float64[N] from 0 to 1: a scenario's place, or their number for none."""
    return np.searchsorted(np.cumsum([one.share for one in scenarios]), draws, side="right")
