"""How far the jobs are behind the log, and when each last said that it runs. The log is asked once for all who look."""

import threading
import time
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from headrace.pipelines.query.progress import Lag, lags, runs
from headrace.pipelines.serve.access import Reads
from headrace.pipelines.serve.console.render import PageRoute, page
from headrace.pipelines.serve.site import Here
from headrace.schemas.errors import HeadraceError
from headrace.schemas.ports import Log

router = APIRouter(route_class=PageRoute, include_in_schema=False)

FRESH_S: Final = 1.0
MOST_PARTITIONS: Final = 16


@dataclass(frozen=True, slots=True)
class Reader:
    """A job's group on a topic. behind: messages over its partitions; worst: the partitions that are most behind."""

    group: str
    topic: str
    behind: int
    never: bool
    worst: list[Lag]
    partitions: int


@dataclass(frozen=True, slots=True)
class Known:
    """What the log said. trouble: why it does not say it now; "" where it does."""

    readers: list[Reader]
    at_ms: int
    trouble: str


class Lags:
    """The newest lags. While one thread asks, the others get what was known before."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._known = Known([], 0, "")
        self._asked_s = -FRESH_S

    def now(self) -> Known:
        """Return the lags, a second old at most where the log answers."""
        if self._old() and self._lock.acquire(blocking=not self._known.at_ms):
            try:
                if self._old():  # nobody has asked while this thread waited
                    self._ask()
            finally:
                self._lock.release()
        return self._known

    def _old(self) -> bool:
        return time.monotonic() - self._asked_s >= FRESH_S

    def _ask(self) -> None:
        try:
            self._known = Known(readers(lags(self._log)), time.time_ns() // 1_000_000, "")
        except HeadraceError as error:
            self._known = Known(self._known.readers, self._known.at_ms, str(error))
        self._asked_s = time.monotonic()


def readers(found: list[Lag]) -> list[Reader]:
    """Put the partitions of a group and a topic together."""
    by_reader: dict[tuple[str, str], list[Lag]] = {}
    for one in found:
        by_reader.setdefault((one.group, one.topic), []).append(one)
    return [_reader(*name, parts) for name, parts in by_reader.items()]


def _reader(group: str, topic: str, parts: list[Lag]) -> Reader:
    worst = sorted(parts, key=lambda one: (-one.behind, one.partition))[:MOST_PARTITIONS]
    never = all(one.committed is None for one in parts)
    return Reader(group, topic, sum(one.behind for one in parts), never, worst, len(parts))


@router.get("/health")
def health(request: Request, site: Here, _: Reads) -> Response:
    """Tell how the jobs do."""
    known: Known = request.app.state.lags.now()
    jobs = runs([*site.view.operations], site.services.clock())
    return page(request, "health.html.j2", known=known, jobs=jobs)
