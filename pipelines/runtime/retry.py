"""Retries with back-off: of one call, and of every call to a port."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from headrace.pipelines.runtime.stop import Stop, StoppedError, paused
from headrace.schemas.errors import CommitConflictError, UnavailableError
from headrace.schemas.records import Dependency

logger = logging.getLogger(__name__)

FIRST_WAIT_S: Final = 0.05
LONGEST_WAIT_S: Final = 10.0

Result = TypeVar("Result")
Port = TypeVar("Port")


@dataclass(slots=True)
class Backoff:
    """Waits that double from the first to the longest."""

    first_s: float = FIRST_WAIT_S
    longest_s: float = LONGEST_WAIT_S
    failures: int = 0

    def next_s(self) -> float:
        """Return how long to wait after one more failure."""
        self.failures += 1
        return min(self.first_s * 2.0 ** min(self.failures - 1, 64), self.longest_s)

    def reset(self) -> None:
        """Begin anew: the call was answered."""
        self.failures = 0


def retrying(call: Callable[[], Result], stop: Stop, dependency: Dependency = "log") -> Result:
    """Call until the dependency is up again, with back-off; raises StoppedError when a stop was requested."""
    backoff = Backoff()
    while True:
        try:
            result = call()
        except UnavailableError as error:
            stop.liveness.failed(error, dependency)
            wait_s = backoff.next_s()
            logger.warning("%s; trying again in %.2g s", error, wait_s)
            if paused(stop, wait_s):
                raise StoppedError(str(error)) from error
        except CommitConflictError:
            stop.liveness.fenced += dependency == "log"
            raise
        else:
            stop.liveness.answered()
            return result


def retried(port: Port, stop: Stop, dependency: Dependency = "log") -> Port:
    """Return the port such that each of its calls is tried again until the dependency is up, as by `retrying`.

    A call that streams is read to its end within its try. What else is a port of it (a log's subscription, an index's
    decisions) is retried as well. `close` is tried once: nobody waits for a dependency in order to leave it.
    dependency: what does not answer where a call fails.
    """
    return cast("Port", _Retried(port, stop, dependency))


class _Retried:
    def __init__(self, port: Any, *waiting: Any) -> None:  # noqa: ANN401 any port
        self.port = port
        self._waiting = waiting

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 whatever the port has
        if name == "decisions":  # to give them may ask the dependency already: an index prepares their statements
            return _Retried(retrying(lambda: getattr(self.port, name), *self._waiting), *self._waiting)
        found = getattr(self.port, name)
        if not callable(found) or name == "close":
            return found

        def call(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            result = retrying(lambda: _read_whole(found(*arguments, **named)), *self._waiting)
            return _Retried(result, *self._waiting) if name == "subscribe" else result

        return call


def _read_whole(result: Any) -> Any:  # noqa: ANN401
    return iter([*result]) if isinstance(result, Iterator) else result
