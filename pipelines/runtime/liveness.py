"""Signs of life of a job's main loop, which writes them; other threads read."""

import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from headrace.schemas.records import Dependency

logger = logging.getLogger(__name__)


SHORTEST_S: Final = 1.0
"""A dependency that was away for less was hardly away: its call was tried again, and answered."""


class Outage(NamedTuple):
    """A dependency that did not answer from began_s until ended_s, by time.monotonic."""

    dependency: Dependency
    began_s: float
    ended_s: float


@dataclass(slots=True)
class Liveness:
    """When the main loop was last seen, and what it waits for.

    seen_s, down_s: by time.monotonic. waits_for: what the dependency said that failed the last time, "" where all
    answered; down_s: since when it fails. retries: failed calls since the start. fenced: commits that the
    log refused, since the start. outages: those that are over, for who takes them from there.
    """

    seen_s: float = field(default_factory=time.monotonic)
    began_s: float = field(default_factory=time.monotonic)
    waits_for: str = ""
    down_s: float = 0.0
    dependency: Dependency = "log"
    retries: int = 0
    fenced: int = 0
    outages: deque[Outage] = field(default_factory=lambda: deque(maxlen=256))

    def seen(self) -> None:
        """The main loop is here."""
        self.seen_s = time.monotonic()

    def failed(self, error: Exception, dependency: Dependency) -> None:
        """A dependency is down; its call will be tried again."""
        self.seen()
        self.retries += 1
        if not self.waits_for:
            self.down_s, self.dependency = self.seen_s, dependency
        self.waits_for = str(error) or type(error).__name__

    def answered(self) -> None:
        """A call that may fail has not."""
        if self.waits_for:
            self.seen()
            logger.info("recovered after %.1f s: %s", self.seen_s - self.down_s, self.waits_for)
            self.waits_for = ""
            if self.seen_s - self.down_s >= SHORTEST_S:
                self.outages.append(Outage(self.dependency, self.down_s, self.seen_s))
