"""What a job has done so far, on stderr every few seconds."""

import logging
import sys
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


@contextmanager
def bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that is told (done, total); a person who watches sees a bar on stderr, nobody else anything."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console  # noqa: PLC0415 slow to load
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(unit, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)
