"""ingest: transitions in; chunks, windows, decisions, rejected messages and the commit out. One dataflow.

    log ─► split ─► check ─► fold ─► store

An item is one partition's micro-batch. The steps know of each other by the items alone.
"""

import time
from collections.abc import Callable
from typing import Any

from bytewax.dataflow import Dataflow

from headrace.pipelines.ingest.folding import Folding
from headrace.pipelines.ingest.meters import IngestCounts, IngestMeters
from headrace.pipelines.ingest.reading import Checking, Reading
from headrace.pipelines.ingest.storing import Storing
from headrace.pipelines.runtime.flow import wired
from headrace.pipelines.runtime.retry import retried
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import TRANSITIONS, WINDOWS
from headrace.schemas.ports import Cache, Index, Log
from headrace.schemas.records import Layout
from headrace.sinks.chunks import CachedChunks


def dataflow(ingest: "Ingest") -> Dataflow:
    """Wire the steps; `Ingest.steps` tells the item's shape after each."""
    return wired("ingest", ingest.stop, ("log", ingest.poll), ingest.steps(), ("store", ingest.store))


class Ingest:
    """The steps of the dataflow put together, and what the process has done."""

    def __init__(
        self,
        log: Log,
        index: Index,
        cache: Cache,
        layout: Layout,
        *,
        poll_messages: int = 4_096,
        until_caught_up: bool = False,
        accept_gap: bool = False,
        from_start: bool = False,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stop, self.meters = Stop(), IngestMeters()
        self.index, self.chunks = index, CachedChunks(index, cache)
        windows_partitions = log.topic(WINDOWS).partitions  # fails where the log is down: later on that is waited for
        log, index = retried(log, self.stop), retried(index, self.stop, "index")
        tasks = TaskTable(log, layout)
        self.reading = Reading(
            log,
            index,
            self.stop,
            layout.segment,
            poll_messages=poll_messages,
            until_caught_up=until_caught_up,
            accept_gap=accept_gap,
            from_start=from_start,
        )
        self._checking = Checking(tasks, layout)
        self.folding = Folding(log, index, tasks, layout, self.meters, timer)
        self.storing = Storing(index, self.chunks, self.reading.member, windows_partitions, self.meters, timer)
        self.poll, self.store, self.close = self.reading.poll, self.storing.store, self.reading.member.close

    def steps(self) -> list[tuple[str, Callable[[Any], list[Any]]]]:
        """Return what the dataflow does with each item between its source and its sink.

        The source gives Opened | Revoked | MessageBatch | EndOfLog | Tick. All steps hand on Opened, Revoked and Tick.
        """
        return [
            ("split", self._checking.split),  # MessageBatch, each within one segment | EndOfLog
            ("check", self._checking.check),  # Piece | EndOfLog
            ("fold", self.folding.fold),  # Fold
        ]

    def catch_up(self) -> None:
        """Aim for the log's present end once more (the embedded run does so at each step)."""
        self.stop.renew()
        self.reading.member.aim()

    @property
    def counts(self) -> IngestCounts:
        """What this process has done."""
        return self.meters.counts

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """The commits of the partitions that this process has, by topic and partition; from any thread."""
        return {(TRANSITIONS, partition): offset for partition, offset in self.storing.committed.copy().items()}
