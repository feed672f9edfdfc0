"""One JSON line each: the API on one core under load, beside a bare FastAPI route in the same run, by turns.

Run: `python tests/bench/bench_serve.py`. It needs `wrk` (`apt-get install wrk`) and two cores: the server has one, who
asks the other.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from timing import report

HEADRACE = Path(sys.executable).with_name("headrace")
SECONDS, ROUNDS, CONNECTIONS, BATCH, WIDTH = 4, 3, 8, 256, 32
"""Windows and batches are asked for by 8 connections at once, one decision by one after the other."""
PREPARED = (
    ("init",),
    ("run", "fleet", "--windows", "9", "--every", "0"),
    ("run", "ingest", "--until-caught-up"),
    ("learner", "set", "cloud", "candidate_rows=25600", "--reason", "a version is enough"),
    ("run", "learn", "--until-caught-up", "--gate", "none"),
)
SCRIPT = """
wrk.method, wrk.body = "{method}", {body}
wrk.headers["Content-Type"] = "application/json"
function done(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format("HERE %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(95), failed))
end
"""


def bare(port: int) -> None:
    """The least that FastAPI can do: a route that answers a constant, one that reads a body first."""
    import uvicorn  # noqa: PLC0415 a server of its own
    from fastapi import FastAPI, Request  # noqa: PLC0415
    from fastapi.responses import Response  # noqa: PLC0415

    app = FastAPI(docs_url=None)

    @app.get("/bare")
    async def get() -> Response:
        return Response(b'{"items":[]}', media_type="application/json")

    @app.post("/bare")
    async def post(request: Request) -> Response:
        await request.body()
        return Response(b'{"version":1}', media_type="application/json")

    uvicorn.run(app, port=port, http="httptools", ws="none", access_log=False, log_level="error")


@contextmanager
def running(folder: Path, port: int, path: str, *command: str | Path) -> Iterator[str]:
    """A server on the first core; its address."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(["taskset", "-c", "0", *command], cwd=folder, env=env, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(address + path)
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def load(folder: Path, connections: int, url: str, body: bytes | None = None) -> tuple[float, float]:
    """(requests/s, p95 in ms) under a steady load; an answer that is none of 2xx fails the run."""
    text = "nil" if body is None else f"[==[{body.decode()}]==]"
    script = folder / "load.lua"
    script.write_text(SCRIPT.format(method="GET" if body is None else "POST", body=text))
    command = [
        "taskset",
        "-c",
        "1",
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{SECONDS}s",
        "--timeout",
        "10s",
        "-s",
        script,
        url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    requests, micros, p95_us, failed = map(int, re.findall(r"HERE (\d+) (\d+) (\d+) (\d+)", done.stdout)[0])
    assert not failed, done.stdout
    return requests / micros * 1e6, p95_us / 1e3


Asked = tuple[str, bytes | None]


def by_turns(folder: Path, connections: int, one: Asked, other: Asked) -> list[tuple[float, float]]:
    """The median round of each, measured by turns."""
    rounds = [(load(folder, connections, *one), load(folder, connections, *other)) for _ in range(ROUNDS)]
    return [sorted(found)[ROUNDS // 2] for found in zip(*rounds, strict=True)]


def main() -> None:
    """Prepare a stream, then measure."""
    if not shutil.which("wrk"):
        sys.exit("bench_serve needs wrk: apt-get install wrk")
    obs = np.random.default_rng(0).normal(size=(BATCH, WIDTH)).astype(np.float32).round(4)
    one, many = ({"task": "cloud", "obs": obs[:count].astype(float).round(4).tolist()} for count in (1, BATCH))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for arguments in PREPARED:
            subprocess.run([HEADRACE, *arguments], cwd=folder, check=True, capture_output=True)
        served = running(folder, 18_181, "/readyz", HEADRACE, "serve", "--address", "127.0.0.1:18181")
        with served as ours, running(folder, 18_182, "/bare", sys.executable, __file__, "bare", "18182") as theirs:
            time.sleep(2)  # the weights are loaded
            windows, plain = by_turns(
                folder, CONNECTIONS, (f"{ours}/v1/tasks/cloud/windows", None), (f"{theirs}/bare", None)
            )
            told("serve_windows", windows, plain)
            body = json.dumps(one).encode()
            decide, plain = by_turns(folder, 1, (f"{ours}/v1/decide", body), (f"{theirs}/bare", body))
            told("serve_decide", decide, plain)
            body = json.dumps(many).encode()
            batch, plain = by_turns(folder, CONNECTIONS, (f"{ours}/v1/decide", body), (f"{theirs}/bare", body))
            told("serve_decide_256", batch, plain, decisions_per_s=batch[0] * BATCH)


def told(name: str, ours: tuple[float, float], plain: tuple[float, float], **more: float) -> None:
    """Print a line: requests a second and p95 of both, and the ratio of the latter."""
    figures = {"requests_per_s": ours[0], "p95_ms": ours[1], "bare_requests_per_s": plain[0], "bare_p95_ms": plain[1]}
    report(name, **figures, p95_to_bare=ours[1] / plain[1], **more)


if __name__ == "__main__":
    bare(int(sys.argv[2])) if sys.argv[1:2] == ["bare"] else main()
