"""A histogram that is cheap to add to, for one writer; a scrape reads it from another thread."""

from bisect import bisect_left
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds for work on a batch."""
LONG_SECONDS: Final = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0)
"""Bounds for the way of data through the jobs."""


class Histogram:
    """Counts of values by upper bound, as Prometheus has it: a value on a bound lies below it."""

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Add a value."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: NDArray[Any]) -> None:
        """Add values, of any shape."""
        places = np.searchsorted(self.bounds, values.ravel())
        for place, count in enumerate(np.bincount(places, minlength=len(self._counts)).tolist()):
            self._counts[place] += count
        self.total += float(values.sum())

    def buckets(self) -> list[tuple[str, float]]:
        """Return (upper bound, values up to it), the last one's bound being +Inf."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts.copy())), strict=True))
