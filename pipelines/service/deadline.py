"""An end in time: a job that was told to stop, and can't as a dependency hangs, is ended.

Nothing is lost by it: a job's place is its commit on the log, and what it wrote beyond that is written again, the
same to the byte, by the next run. SIGKILL at any moment is no worse; the fault tests send it.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, NoReturn

logger = logging.getLogger(__name__)

STOP_S: Final = 4.0
"""From SIGTERM to the end of a process that hangs: a second less than a job may take."""


@contextmanager
def ended_in_time(limit_s: float = STOP_S) -> Iterator[None]:
    """Once SIGTERM has come while the block runs, end the process with the block, at the latest after `limit_s`.

    Python runs a signal's handler in the main thread, which may be inside a driver's call for seconds: so a thread
    hears of the signal through a socket, at once. Something must handle SIGTERM, or it ends the process anyway. With
    the block all is closed and committed, and the interpreter's own end, which can wait for drivers' threads, is
    left out.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    told = threading.Event()
    thread = threading.Thread(target=_watch, args=(reader, limit_s, told), name="deadline", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()
        thread.join(0.1)
    if told.is_set():
        end()


def _watch(reader: socket.socket, limit_s: float, told: threading.Event) -> None:
    with reader:
        while (signals := reader.recv(64)) and signal.SIGTERM not in signals:
            pass
    if signals:
        told.set()
        time.sleep(limit_s)
        logger.warning("not stopped within %g s of SIGTERM: ended; the next run goes on from the last commit", limit_s)
        end()


def end(code: int = 0) -> NoReturn:
    """End the process at once, all that it has printed flushed.

    The interpreter's own end is left out: torch's takes a second of CPU, and ten where the disk is busy.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
