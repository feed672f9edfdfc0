"""A clean stop: who wishes it, who has seen it, and what a job does not finish then."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from headrace.pipelines.runtime.liveness import Liveness


@dataclass(slots=True)
class Stop:
    """A wish to stop, whether the source has ended, the failure that ended it, and the loop's signs of life."""

    requested: bool = False
    finished: bool = False
    failure: Exception | None = None
    liveness: Liveness = field(default_factory=Liveness)

    def renew(self) -> None:
        """Forget the wish, the end and the failure: the same job runs once more."""
        self.requested, self.finished, self.failure = False, False, None

    def guarded(self, step: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        """Return the step such that its first error ends the flow: Bytewax itself would print a Rust panic.

        After it no step does anything more, so nothing is committed that was not done.
        """

        def run_step(*items: Any) -> list[Any]:  # noqa: ANN401
            self.liveness.seen()
            if self.failure:
                return []
            try:
                return step(*items)
            except StopIteration:
                raise
            except Exception as error:  # noqa: BLE001 it is raised again by `run`
                self.failure = error
                return []

        return run_step


class StoppedError(Exception):
    """A stop was asked for while a dependency was down: nothing more can be finished, and nothing is lost."""


def paused(stop: Stop, wait_s: float) -> bool:
    """Wait; whether a stop was requested meanwhile, which ends it."""
    until_s = time.monotonic() + wait_s
    while not stop.requested and (left_s := until_s - time.monotonic()) > 0:
        stop.liveness.seen()
        time.sleep(min(0.1, left_s))
    return stop.requested


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT ask for a clean stop."""
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
