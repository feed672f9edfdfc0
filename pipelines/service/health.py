"""A job tells the log how it runs, by a thread of its own: the main loop may wait for what is down."""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import msgspec

from headrace.pipelines.runtime.liveness import SHORTEST_S, Outage
from headrace.pipelines.service.service import Service
from headrace.pipelines.topics import OPERATIONS
from headrace.schemas.errors import HeadraceError, UnavailableError
from headrace.schemas.ports import Clock, Record
from headrace.schemas.records import Operation

logger = logging.getLogger(__name__)

RUNNING_S: Final = 300.0
"""How often a run says that it goes on, and how far behind it is."""
LOOK_S: Final = 0.5
END_S: Final = 2.0
"""How long an end waits for its record; without it the run is taken for one that was killed."""
HELD: Final = 1_000
"""Records that wait for a log that is down; the oldest go first."""


class Health:
    """What one run of a job has to say. process: see `Operation`."""

    def __init__(self, service: Service, process: str, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._run = {"job": service.name, "process": process, "began_ms": clock()}
        self._sequence = 0
        self._waiting = deque[Record](maxlen=HELD)
        self._open: tuple[float, int] = (0.0, 0)  # the outage told of last: since when, by both clocks
        self._fenced = 0  # told of so far
        self._key = f"{service.name}/{process}".encode()

    def say(self, kind: Literal["started", "running", "outage", "fenced", "stopped", "failed"], **fields: Any) -> None:  # noqa: ANN401
        """Hold a record for the next `send`."""
        said = Operation(**{"ts": self._clock(), **self._run, **fields}, kind=kind, sequence=self._sequence)
        self._sequence += 1
        self._waiting.append(Record(OPERATIONS, self._key, msgspec.json.encode(said), partition=0))

    def look(self, *, again: bool = False) -> None:
        """Tell of refused commits, of outages that are over, and once, or again, of one that is not."""
        liveness = self._service.liveness
        if (fenced := liveness.fenced) > self._fenced:
            self.say("fenced", commits=fenced - self._fenced)
            self._fenced = fenced
        while liveness.outages:
            self._tell(liveness.outages.popleft())
        if liveness.waits_for:
            outage = Outage(liveness.dependency, liveness.down_s, time.monotonic())
            if outage.ended_s - outage.began_s >= SHORTEST_S and (again or outage.began_s != self._open[0]):
                self._tell(outage)

    def _tell(self, outage: Outage) -> None:
        """An outage's beginning is the same in all that is told of it, though a clock may be set meanwhile."""
        now_ms, now_s = self._clock(), time.monotonic()
        if outage.began_s != self._open[0]:
            self._open = outage.began_s, now_ms - round((now_s - outage.began_s) * 1000)
        ended_ms = now_ms - round((now_s - outage.ended_s) * 1000)
        self.say("outage", dependency=outage.dependency, since_ms=self._open[1], ts=max(ended_ms, self._open[1]))

    def send(self) -> None:
        """Append what is held; it stays held while the log is down. Raises another error of the log."""
        try:
            records = list(self._waiting)
            self._service.log.send(records)
        except UnavailableError as error:
            logger.debug("the log does not answer: %s", error)
        else:
            for _ in records:
                self._waiting.popleft()

    def watch(self, ended: threading.Event, outcome: list[Literal["stopped", "failed"]]) -> None:
        """Say what there is to say until the run has ended. outcome: how it did, by then."""
        self.say("started")
        due_s = time.monotonic() + RUNNING_S
        try:
            self.send()
            while not ended.wait(LOOK_S):
                due = time.monotonic() >= due_s
                self.look(again=due)
                if due:
                    due_s += RUNNING_S
                    self.say("running", lag=round(sum(self._service.lags().values())))
                self.send()
            self.look()
            self.say(outcome[0])
            self.send()
        except HeadraceError as error:  # a topic that an older headrace did not make, a disk that is full
            logger.warning("reports don't tell how %s runs from now on: %s", self._service.name, error)


@contextmanager
def stated(service: Service, process: str, clock: Clock) -> Iterator[None]:
    """Write to `operations` that the job starts, runs, waits and ends, while the block runs."""
    ended, outcome = threading.Event(), list[Literal["stopped", "failed"]]()
    health = Health(service, process, clock)
    thread = threading.Thread(target=health.watch, args=(ended, outcome), name="health", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        outcome.append("failed")
        raise
    else:
        outcome.append("stopped")
    finally:
        ended.set()
        thread.join(END_S)
