"""The command line as a user has it, in a folder of its own, warnings as errors.

`shell(...)` starts a real process (which takes most of a second, for its imports); `shell.json(...)` and
`shell.lines(...)` run the same command in this one.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from headrace.pipelines.cli import cli

HEADRACE = Path(sys.executable).with_name("headrace")
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")},
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "error",
}
T0 = 1_700_000_000_000
VALVE = {"task": "valve", "observations": ["x0", "x1", "x2"], "actions": ["a", "b", "c", "d"], "window_ms": 10_000}


class Shell:
    """Runs commands in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, *arguments: object, code: int = 0, stdin: bytes = b"", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [HEADRACE, *map(str, arguments)],
            cwd=self.folder,
            env=ENVIRONMENT | (environment or {}),
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        told = f"{arguments}\nstdout: {done.stdout[-2000:]!r}\nstderr: {done.stderr.decode()[-4000:]}"
        assert done.returncode == code, told
        assert b"Traceback" not in done.stderr, told
        return done

    def json(self, *arguments: object, code: int = 0) -> Any:
        """The one JSON object that the command prints."""
        (found,) = self.lines(*arguments, code=code)
        return found

    def lines(self, *arguments: object, code: int = 0) -> list[Any]:
        """The JSON objects that the command prints."""
        return [json.loads(line) for line in self.here(*arguments, "--json", code=code).splitlines()]

    def here(self, *arguments: object, code: int = 0) -> bytes:
        """What the command prints, run in this process."""
        foreign: dict[str, str | None] = {name: None for name in os.environ if name.startswith("HEADRACE_")}
        with contextlib.chdir(self.folder), _own_logging():
            done = CliRunner().invoke(cli, [*map(str, arguments)], env=foreign, catch_exceptions=False)
        assert done.exit_code == code, (arguments, done.output)
        return done.stdout_bytes

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        """Start a command that goes on."""
        return subprocess.Popen(
            [HEADRACE, *map(str, arguments)],
            cwd=self.folder,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def write(self, name: str, lines: Sequence[bytes | dict[str, Any]]) -> str:
        """Write lines to a file."""
        text = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        (self.folder / name).write_bytes(b"\n".join(text) + b"\n")
        return name

    def prepare(self, *, add: bool = True) -> None:
        """Make log and index, and add the task."""
        (self.folder / "valve.json").write_text(json.dumps(VALVE))
        self.json("init", "--partitions", 2, "--segment", 64)
        if add:
            self.json("task", "add", "valve.json")


@contextlib.contextmanager
def _own_logging() -> Iterator[None]:
    """Undo what a command does to logging."""
    root, ours = logging.getLogger(), logging.getLogger("headrace")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    root.handlers.clear()
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        ours.setLevel(levels[1])


def transitions(count: int, agents: int = 4) -> list[dict[str, Any]]:
    """Good transitions over several windows, round robin; numbers that only a float32 round trip keeps."""
    return [
        {
            "schema_version": 1,
            "task": "valve",
            "agent_id": f"agent-{i % agents}",
            "episode_id": f"e{i // 100}",
            "step": i // agents,
            "ts": T0 + i * 250,
            "obs": [0.1 * i, -1.5, 3.4028235e38 if i == 5 else 1e-7],
            "action": i % 4,
            "reward": round(0.01 * i - 1, 2),
            "next_obs": [0.1 * (i + 1), -1.5, 16777216],
            "terminated": i % 100 == 99,
            "truncated": False,
            **({"policy_version": i % 3, "log_prob": -0.3} if i % 5 == 0 else {}),
        }
        for i in range(count)
    ]


def as_float32(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its numbers as float32, for comparison."""
    rounded = {name: np.asarray(row[name], np.float32).tolist() for name in ("obs", "next_obs", "reward")}
    if "log_prob" in row:
        rounded["log_prob"] = float(np.float32(row["log_prob"]))
    return row | rounded


def ordered(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows as float32, in the order of agent and step."""
    return sorted(map(as_float32, rows), key=lambda row: (row["agent_id"], row["step"]))
