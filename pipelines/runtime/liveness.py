"""Signs of life of a job's main loop, which writes them; other threads read."""

import logging
import time
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Liveness:
    """When the main loop was last seen, and what it waits for.

    seen_s, down_s: by time.monotonic. waits_for: what the dependency said that failed the last time, "" where all
    answered; down_s: since when it fails. retries: failed calls since the start.
    """

    seen_s: float = field(default_factory=time.monotonic)
    began_s: float = field(default_factory=time.monotonic)
    waits_for: str = ""
    down_s: float = 0.0
    retries: int = 0

    def seen(self) -> None:
        """The main loop is here."""
        self.seen_s = time.monotonic()

    def failed(self, error: Exception) -> None:
        """A dependency is down; its call will be tried again."""
        self.seen()
        self.retries += 1
        if not self.waits_for:
            self.down_s = self.seen_s
        self.waits_for = str(error) or type(error).__name__

    def answered(self) -> None:
        """A call that may fail has not."""
        if self.waits_for:
            self.seen()
            logger.info("recovered after %.1f s: %s", self.seen_s - self.down_s, self.waits_for)
            self.waits_for = ""
