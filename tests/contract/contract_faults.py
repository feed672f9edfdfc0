"""What goes wrong with disks and processes, made to happen."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

NOBODY = 65_534


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """No file of this process can grow beyond the limit, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def child(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run Python code in another process, which is killed with -9 at the end if it still runs."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def unprivileged(script: str, *arguments: object) -> str:
    """Run Python code as somebody to whom permissions apply, and return what it printed."""
    user = NOBODY if os.geteuid() == 0 else None
    imports, _, rest = script.partition("\n\n")
    # Modules are imported as root: the checkout need not be readable by others.
    drop = f"import os; os.setgid({user}); os.setuid({user})" if user else ""
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}\n{drop}\n{rest}", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
