"""A thread that follows what serves a task: whatever is down, who acts has what came last."""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from headrace.learners.stream.exploring import Exploration
from headrace.pipelines.act.versions import Reader, Version, keep
from headrace.schemas.records import TaskSpec

logger = logging.getLogger(__name__)

LONGEST_WAIT_S: Final = 30.0
"""Between two looks while something is down."""
LOOKS: Final = 60
"""Then log and store are opened anew: a file or a topic that another took the place of does not say so."""


class Follower:
    """Looks on the log every so often, and gives each new version away.

    opened: opens log and store, which the stack closes. taken: is given the task's spec once it is known, and each
    version with how agents explore by now; what it raises refuses the version. path: where the version is kept.
    """

    def __init__(
        self,
        opened: Callable[[ExitStack], Reader],
        taken: Callable[[TaskSpec | None, Version | None, Exploration], None],
        every_s: float,
        path: Path | None,
    ) -> None:
        self.trouble = ""
        self._opened = opened
        self._taken = taken
        self._every_s = every_s
        self._path = path
        self._version: Version | None = None
        self._kept = True
        self._spec: TaskSpec | None = None
        self._failures = 0
        self._looked, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="headrace-follow", daemon=True)

    def start(self, version: Version | None, wait_s: float) -> None:
        """Begin with the version at hand; wait for the first look, but no longer than this."""
        self._version = version
        self._thread.start()
        self._looked.wait(wait_s)

    def close(self) -> None:
        """End the thread; one that waits for a dependency is left behind."""
        self._closed.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                with ExitStack() as stack:
                    self._follow(stack)
            except Exception as error:  # noqa: BLE001 whatever it is, agents go on with what they have
                self._tell(f"{type(error).__name__}: {error}")
            self._looked.set()
            self._closed.wait(min(self._every_s * 2.0**self._failures, LONGEST_WAIT_S))
            self._failures = min(self._failures + 1, 32)

    def _follow(self, stack: ExitStack) -> None:
        """Look again and again, with what is open, until a look fails, or long enough."""
        reader = self._opened(stack)
        for _ in range(LOOKS):
            if self._closed.is_set():
                return
            self._look(reader)
            self._tell("")
            self._failures = 0
            self._looked.set()
            self._closed.wait(self._every_s)

    def _look(self, reader: Reader) -> None:
        self._spec = self._spec or reader.spec()
        version = reader.newer(self._version)
        self._taken(self._spec, version, reader.exploration())
        if version is not None:
            self._version, self._kept = version, self._path is None
            logger.info("agent acts by %s@%d", version.task, version.number)
        if self._path is not None and self._version is not None and not self._kept:
            keep(self._path, self._version)  # what fails is tried again at the next look
            self._kept = True

    def _tell(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            logger.warning("%s; what serves is looked for again, and the agent acts on as it does", trouble)
        elif self.trouble and not trouble:
            logger.info("what serves is followed again")
        self.trouble = trouble
