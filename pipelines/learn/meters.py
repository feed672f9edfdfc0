"""What a learner measures of itself: how old and how stale the data is that it learns from."""

from collections import deque
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners.judge.canary import Found
from headrace.pipelines.service.histogram import LONG_SECONDS, Histogram
from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch

MAX_ROWS: Final = 1 << 18
"""Transitions of which it is remembered when they were emitted, until a candidate has learned from them."""


class LearnerMeters:
    """Since the process started; none of it is in the checkpoint.

    promoted, refused: candidates. staleness: the newest version's number less that of the version which acted, mean
    over the last rows that say which; None before there were any. transition_to_policy_s: from a transition's event
    time to the first candidate that learned from it, judged and stored. window_to_policy_s: the same from the append
    time of the window that emitted it. dropped_share: rows of the last rollout that were too old to learn from;
    effective_share: how many of the others count, by their weights. None before a rollout, and of algorithms without.
    canary: what the one that runs has shown by now.
    """

    def __init__(self) -> None:
        self.promoted = 0
        self.refused = 0
        self.staleness: float | None = None
        self.dropped_share: float | None = None
        self.effective_share: float | None = None
        self.canary: Found | None = None
        self.transition_to_policy_s = Histogram(LONG_SECONDS)
        self.window_to_policy_s = Histogram(LONG_SECONDS)
        self._emitted_ms: deque[NDArray[np.int64]] = deque()
        self._rows = 0
        self._appended_ms: deque[int] = deque(maxlen=MAX_ROWS)

    def emitted(self, append_ms: int) -> None:
        """A window is about to be taken in."""
        self._appended_ms.append(append_ms)

    def took(self, rows: TransitionBatch, newest_version: int) -> None:
        """Rows have come in."""
        self._emitted_ms.append(rows.ts)
        self._rows += len(rows)
        while self._rows > MAX_ROWS and len(self._emitted_ms) > 1:
            self._rows -= len(self._emitted_ms.popleft())
        acted = rows.policy_version[rows.policy_version != NO_POLICY_VERSION]
        if len(acted):
            self.staleness = newest_version - float(acted.mean())

    def learned(self, metrics: Mapping[str, float]) -> None:
        """An update was made."""
        self.dropped_share = metrics.get("dropped_share")
        self.effective_share = metrics.get("effective_share")

    def judged(self, *, promoted: bool, now_ms: int) -> None:
        """A candidate is stored; it has learned from all that was taken in."""
        self.promoted += promoted
        self.refused += not promoted
        if self._emitted_ms:
            self.transition_to_policy_s.observe_all((now_ms - np.concatenate(self._emitted_ms)) / 1000)
        self.window_to_policy_s.observe_all((now_ms - np.array(self._appended_ms, np.int64)) / 1000)
        self._emitted_ms.clear()
        self._appended_ms.clear()
        self._rows = 0
