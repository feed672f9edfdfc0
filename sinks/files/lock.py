"""A lock that one process of this machine has, whoever else asks; it says whose it is."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from headrace.schemas.errors import StorageError
from headrace.sinks.files.policies import storage_errors


@contextmanager
def held(path: Path, what: str, remedy: str) -> Iterator[None]:
    """Hold the lock file while the block runs; raises StorageError, which names the process that has it.

    The operating system takes the lock away from a process that has ended, however it did; the file stays, as its
    removal would let two others have it.
    """
    with storage_errors(path):
        file = path.open("a+")
    with file:  # closing it unlocks
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read(80).strip() or "another process has it"
            raise StorageError(f"{what}: {owner}: {remedy}") from None
        with storage_errors(path):
            file.truncate(0)
            file.write(f"pid {os.getpid()} has it since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
            file.flush()
        yield
