"""The ends of partitions, asked for by a thread of their own: no scrape waits for a broker that is down."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from headrace.schemas.ports import Log

logger = logging.getLogger(__name__)

ANSWER_S: Final = 1.0
"""How long a scrape waits for the log."""
FRESH_S: Final = 30.0
"""For how long an end that is known stands in where the log does not answer; after it, it is left out."""

TopicPartition = tuple[str, int]
"""Topic and partition."""


class Ends:
    """The ends of the partitions that `places` names, as the log has them when somebody asks.

    The log must be usable from any thread, as all of headrace's are.
    """

    def __init__(self, log: Log, places: Callable[[], Iterable[TopicPartition]]) -> None:
        self._log = log
        self._places = places
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._known: dict[TopicPartition, tuple[int, float]] = {}

    def now(self) -> dict[TopicPartition, int]:
        """Return the ends as they are now; where the log does not answer in time, what was known a moment ago.

        Scrapes that come while the log is being asked share its answer.
        """
        with self._lock:
            if not self._closed and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._ask, name="ends", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread:
            thread.join(ANSWER_S)
        now_s = time.monotonic()
        return {place: end for place, (end, at_s) in self._known.items() if now_s - at_s <= FRESH_S}

    def _ask(self) -> None:
        """Note each place's end. What the log did not tell of stays as it was: one failure is enough of a wait."""
        known = {place: self._known.get(place) for place in self._places()}
        try:
            for place in known:
                known[place] = (self._log.bounds(*place)[1], time.monotonic())
        except Exception as error:  # noqa: BLE001 a scrape must not end the job
            logger.debug("lag is not known: %s", error)
        self._known = {place: at for place, at in known.items() if at is not None}

    def close(self) -> None:
        """Ask no more. A question that is under way is not waited for."""
        self._closed = True
