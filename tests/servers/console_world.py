"""A small stream for the console's browser tests, and the server on it, which can be killed and started again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
from stream import open_stream

from headrace.pipelines.topics import DIRECTIVES, REJECTED
from headrace.schemas.ports import Record
from headrace.schemas.records import Directive

REASON = "<img src=x onerror=document.title='owned'>"


def make(folder):
    """Agents acted in nine windows, and versions were learned from them; a directive stands, a message was rejected."""
    stream = open_stream(folder)
    for topic in ("mails", "ratings", "operations"):
        stream.log.create(topic, 1)
    fleet = stream.fleet(seed=3)
    for _ in range(9):
        fleet.emit_window(stream.advance)
    stream.ingest()
    stream.learn()
    ts = stream.clock.now_ms
    one = Directive(
        "cloud.2.1", "cloud", "learning_rate", 5e-4, "rules:", "accepted", "bounds", REASON, ts, "", 1e-3, 2
    )
    headers = (("rule", b"unknown_task"), ("reason", REASON.encode()), ("topic", b"transitions"))
    headers = (*headers, ("partition", b"0"), ("offset", b"7"))
    value = json.dumps({"task": "cloud", "agent_id": REASON}).encode()
    send(stream, Record(DIRECTIVES, b"cloud", msgspec.json.encode(one)), Record(REJECTED, b"a", value, headers))
    return stream


def send(stream, *records):
    """Append records, as another process would."""
    stream.log.send(records)


class Server:
    """`headrace serve` on a stream."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, 0, None

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        urls = {"log": "sqlite", "index": "sqlite", "policies": "file"}
        names = {"log": "log.db", "index": "index.db", "policies": "policies"}
        options = [f"--{part}={scheme}://{self.folder}/{names[part]}" for part, scheme in urls.items()]
        command = [Path(sys.executable).with_name("headrace"), "serve", "--address", f"127.0.0.1:{self.port}"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
        log = self.folder / "serve.log"
        with log.open("wb") as file:
            self.process = subprocess.Popen([*command, *options], cwd=self.folder, env=environment, stderr=file)
        until = time.monotonic() + 60.0
        while not (found := re.search(rb"serve is ready: http://127.0.0.1:(\d+)", log.read_bytes())):
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        self.port = int(found[1])

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """End it as an init system does; return the seconds that it took, and its status."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=20)
        return time.monotonic() - began, status
