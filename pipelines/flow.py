"""What the dataflows share: a source that polls, a sink that calls, a clean stop, and retries with back-off."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main
from typing_extensions import override

from headrace.pipelines.service.pulse import Pulse
from headrace.schemas.errors import UnavailableError

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
LONGEST_WAIT_S = 10.0


@dataclass(slots=True)
class Stop:
    """A wish to stop, whether the source has ended, the failure that ended it, and the loop's signs of life."""

    requested: bool = False
    finished: bool = False
    failure: Exception | None = None
    pulse: Pulse = field(default_factory=Pulse)

    def guarded(self, step: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        """Return the step such that its first error ends the flow: Bytewax itself would print a Rust panic.

        After it no step does anything more, so nothing is committed that was not done.
        """

        def run_step(*items: Any) -> list[Any]:  # noqa: ANN401
            self.pulse.beat()
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


class _PollPartition(StatelessSourcePartition[Any]):
    def __init__(self, poll: Callable[[], list[Any]], stop: Stop) -> None:
        self._poll = stop.guarded(poll)
        self._stop = stop

    @override
    def next_batch(self) -> list[Any]:
        if self._stop.failure:
            raise StopIteration
        return self._poll()


class PollSource(DynamicSource[Any]):
    """A source that calls `poll` for its items until it raises StopIteration, or a step fails."""

    def __init__(self, poll: Callable[[], list[Any]], stop: Stop) -> None:
        self._poll = poll
        self._stop = stop

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _PollPartition:
        assert worker_count == 1, "one process, one worker: start more processes instead"
        return _PollPartition(self._poll, self._stop)


class _CallPartition(StatelessSinkPartition[Any]):
    def __init__(self, write: Callable[[list[Any]], list[Any]]) -> None:
        self._write = write

    @override
    def write_batch(self, items: list[Any]) -> None:
        self._write(items)


class CallSink(DynamicSink[Any]):
    """A sink that hands its items to `write`."""

    def __init__(self, write: Callable[[list[Any]], list[Any]]) -> None:
        self._write = write

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _CallPartition:
        return _CallPartition(self._write)


class StoppedError(Exception):
    """A stop was asked for while a dependency was down: nothing more can be finished, and nothing is lost."""


def paused(stop: Stop, wait_s: float) -> bool:
    """Wait; whether a stop was requested meanwhile, which ends it."""
    until_s = time.monotonic() + wait_s
    while not stop.requested and (left_s := until_s - time.monotonic()) > 0:
        stop.pulse.beat()
        time.sleep(min(0.1, left_s))
    return stop.requested


def retrying(call: Callable[[], Result], stop: Stop) -> Result:
    """Call until the dependency is up again, with back-off; raises StoppedError when a stop was requested."""
    wait_s = 0.05
    while True:
        try:
            result = call()
        except UnavailableError as error:
            stop.pulse.failed(error)
            logger.warning("%s; trying again in %.2g s", error, wait_s)
            if paused(stop, wait_s):
                raise StoppedError(str(error)) from error
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        else:
            stop.pulse.answered()
            return result


def run(flow: Dataflow, stop: Stop) -> None:
    """Run a dataflow on this process's one worker until its source ends; raises what a step raised."""
    os.environ.pop("BYTEWAX_DATAFLOW_API_ENABLED", None)  # set to anything it opens a port to everyone
    cli_main(flow)  # type: ignore[no-untyped-call]
    if isinstance(stop.failure, StoppedError):
        logger.warning(
            "stopped while a dependency was down (%s); the next run goes on from the last commit", stop.failure
        )
    elif stop.failure:
        raise stop.failure


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT ask for a clean stop."""
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
