"""The ends of a dataflow: a source that polls, a sink that calls, and how it is run."""

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main
from typing_extensions import override

from headrace.pipelines.runtime.stop import Stop, StoppedError

logger = logging.getLogger(__name__)


@dataclass
class _PollPartition(StatelessSourcePartition[Any]):
    poll: Callable[[], list[Any]]
    stop: Stop

    @override
    def next_batch(self) -> list[Any]:
        if self.stop.failure:
            raise StopIteration
        return self.poll()


@dataclass
class PollSource(DynamicSource[Any]):
    """A source that calls `poll` for its items until it raises StopIteration, or a step fails."""

    poll: Callable[[], list[Any]]
    stop: Stop

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _PollPartition:
        assert worker_count == 1, "one process, one worker: start more processes instead"
        return _PollPartition(self.stop.guarded(self.poll), self.stop)


@dataclass
class _CallPartition(StatelessSinkPartition[Any]):
    write: Callable[[list[Any]], list[Any]]

    @override
    def write_batch(self, items: list[Any]) -> None:
        self.write(items)


@dataclass
class CallSink(DynamicSink[Any]):
    """A sink that hands its items to `write`."""

    write: Callable[[list[Any]], list[Any]]

    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _CallPartition:
        return _CallPartition(self.write)


def wired(
    name: str,
    stop: Stop,
    source: tuple[str, Callable[[], list[Any]]],
    steps: Iterable[tuple[str, Callable[[Any], list[Any]]]],
    sink: tuple[str, Callable[[list[Any]], list[Any]]],
) -> Dataflow:
    """Return the dataflow of a source that polls, steps in order and a sink, each with its name; `stop` ends all."""
    flow = Dataflow(name)
    items = op.input(source[0], flow, PollSource(source[1], stop))
    for step_name, step in steps:
        items = op.flat_map(step_name, items, stop.guarded(step))
    op.output(sink[0], items, CallSink(stop.guarded(sink[1])))
    return flow


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
