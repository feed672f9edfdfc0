"""What a job has done so far, on stderr every few seconds."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

logger = logging.getLogger(__name__)

INTERVAL_S: Final = 5.0


@contextmanager
def reported(describe: Callable[[], str], interval_s: float = INTERVAL_S) -> Iterator[None]:
    """Log what `describe` says whenever it has changed, looked at by a thread each `interval_s`, and at the end."""
    finished = threading.Event()

    def watch() -> None:
        told = describe()
        while not finished.wait(interval_s):
            now = describe()
            if now != told:
                logger.info("%s", now)
                told = now

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
        logger.info("%s", describe())
