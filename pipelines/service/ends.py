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

Place = tuple[str, int]
"""Topic and partition."""


class Ends:
    """The ends of the partitions that `places` names, as the log has them when somebody asks.

    The log must be usable from any thread, as all of headrace's are.
    """

    def __init__(self, log: Log, places: Callable[[], Iterable[Place]]) -> None:
        self._log = log
        self._places = places
        self._changed = threading.Condition()
        self._asked = self._answered = 0
        self._closed = False
        self._known: dict[Place, tuple[int, float]] = {}
        self._thread: threading.Thread | None = None

    def now(self) -> dict[Place, int]:
        """Return the ends as they are now; where the log does not answer in time, what was known a moment ago."""
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._answer, name="ends", daemon=True)
                self._thread.start()
            self._asked += 1
            asked = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= asked or self._closed, ANSWER_S)
            now_s = time.monotonic()
            return {place: end for place, (end, at_s) in self._known.items() if now_s - at_s <= FRESH_S}

    def _answer(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked > self._answered or self._closed)
                if self._closed:
                    return
                asked = self._asked
            found = self._ask()
            with self._changed:
                self._known = {place: self._known[place] for place in found if place in self._known}
                self._known.update({place: at for place, at in found.items() if at is not None})
                self._answered = asked
                self._changed.notify_all()

    def _ask(self) -> dict[Place, tuple[int, float] | None]:
        """Return each place's end, None for those that the log did not tell of: one failure is enough of a wait."""
        found: dict[Place, tuple[int, float] | None] = dict.fromkeys(self._places())
        try:
            for place in found:
                found[place] = (self._log.bounds(*place)[1], time.monotonic())
        except Exception as error:  # noqa: BLE001 a scrape must not end the job, nor this thread
            logger.debug("lag is not known: %s", error)
        return found

    def close(self) -> None:
        """Ask no more. A question that is under way is not waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
