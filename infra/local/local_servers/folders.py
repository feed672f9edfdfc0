"""A folder for servers of a test, from which nothing outlives the test."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local_servers import processes


@contextmanager
def temporary() -> Iterator[Path]:
    """Give an empty folder; in the end kill every server that was started in it, and remove it.

    A watchdog does the same if this process ends in any other way, SIGKILL included.
    """
    folder = Path(tempfile.mkdtemp(prefix="headrace-servers-"))
    watchdog = Path(__file__).with_name("watchdog.py")
    environment = os.environ | {"PYTHONPATH": str(watchdog.parent.parent)}
    with subprocess.Popen(  # noqa: S603 the command is ours
        [sys.executable, str(watchdog), str(os.getpid()), str(folder)],
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    ) as guard:
        try:
            yield folder
        finally:
            clear(folder)
            guard.terminate()


def clear(folder: Path) -> None:
    """Kill every server that runs in a folder and remove the folder."""
    processes.signal_all(processes.find(folder, below=True), signal.SIGKILL)
    processes.ended(folder, within_s=10, below=True)
    shutil.rmtree(folder, ignore_errors=True)
