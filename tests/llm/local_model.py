"""The small model as a user starts it: by `headrace narrator serve-local`."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from headrace.schemas.url import parse_url

HEADRACE = Path(sys.executable).with_name("headrace")


class Served(NamedTuple):
    """url: of the narrator that asks it."""

    url: str
    process: subprocess.Popen[str]

    @property
    def name(self) -> str:
        return parse_url(self.url).path

    @property
    def base_url(self) -> str:
        return parse_url(self.url).options["base_url"]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Served]:
    """Serve a model until the block ends; SIGTERM then ends it with status 0."""
    command = [HEADRACE, "narrator", "serve-local", "--port", "0", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Served(process.stdout.readline().strip(), process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()
