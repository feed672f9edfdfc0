"""A real ingest process, killed with SIGKILL at random points and started again each time."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from messages import T0, TASKS, random_records

from headrace.pipelines.query.index_hash import index_hash
from headrace.pipelines.settings import read_settings
from headrace.pipelines.topics import messages
from headrace.pipelines.wiring import open_services
from headrace.schemas.ports import Record
from headrace.sinks.sqlite.index import SqliteIndex
from headrace.sinks.sqlite.log import SqliteLog

HEADRACE = str(Path(sys.executable).with_name("headrace"))
MESSAGES = 20_000


class SetClock:
    now_ms = T0

    def __call__(self):
        return self.now_ms


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder whose log holds tasks and many mixed messages, none ingested."""
    folder = tmp_path_factory.mktemp("recorded")
    clock = SetClock()
    urls = {"log": f"sqlite://{folder}/log.db", "index": f"sqlite://{folder}/index.db"}
    with open_services(read_settings(urls), clock, create=True) as services:
        services.initialise(partitions=2, segment=64)
        services.log.send([Record("tasks", s.task.encode(), msgspec.json.encode(s)) for s in TASKS])
        block = []
        for now, record in random_records(np.random.default_rng(7), MESSAGES):
            block.append(record)
            if len(block) == 50:
                clock.now_ms = now
                services.log.send(block)
                block = []
    return folder


def command(folder, *more):
    return [
        HEADRACE,
        "run",
        "ingest",
        "--log",
        f"sqlite://{folder}/log.db",
        "--index",
        f"sqlite://{folder}/index.db",
        *more,
    ]


def outcome(folder):
    """The index's hash, the last summary of each window, and each rejected message's place."""
    index, log = SqliteIndex(folder / "index.db"), SqliteLog(folder / "log.db", SetClock())
    try:
        told = [(k, v) for batch in messages(log, "windows") for k, v in zip(batch.keys, batch.values, strict=True)]
        assert max(Counter(told).values()) == 1, "an identical message came twice"
        rejected = Counter(
            tuple(value for name, value in headers if name in {"partition", "offset", "rule"})
            for batch in messages(log, "transitions.rejected")
            for headers in batch.headers
        )
        assert max(rejected.values()) == 1, "a message was rejected twice"
        return index_hash(index), dict(told), set(rejected)
    finally:
        index.close()
        log.close()


@pytest.fixture(scope="module")
def expected(recorded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "copy"
    shutil.copytree(recorded, folder)
    subprocess.run(command(folder, "--until-caught-up"), check=True, capture_output=True)
    found = outcome(folder)
    assert len(found[1]) > 1_000
    assert len(found[2]) > 1_000
    return found


def committed(folder):
    """The sum of the group's offsets, read beside the running process."""
    with sqlite3.connect(f"file:{folder}/log.db?mode=ro", uri=True) as connection:
        return connection.execute("SELECT coalesce(sum(offset), 0) FROM commits").fetchone()[0]


@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=pytest.mark.long)])
def test_sigkill_at_random_points(recorded, expected, tmp_path, kills):
    """Whenever it was killed, the rows, the last windows and the rejections are those of an undisturbed run."""
    folder = tmp_path / "killed"
    shutil.copytree(recorded, folder)
    rng = random.Random(kills)
    at_work = 0
    for _ in range(kills):
        process = subprocess.Popen(command(folder), stderr=subprocess.PIPE)
        assert process.stderr is not None
        assert b"ready" in process.stderr.readline()
        time.sleep(rng.random() * 15 / kills)
        at_work += committed(folder) < MESSAGES
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert at_work > kills // 3, "too few kills fell into its work"
    subprocess.run(command(folder, "--until-caught-up"), check=True, capture_output=True)
    assert outcome(folder) == expected


def test_sigterm_is_a_clean_stop(recorded, expected, tmp_path):
    """It exits with 0, and what follows goes on from there."""
    folder = tmp_path / "stopped"
    shutil.copytree(recorded, folder)
    for _ in range(3):
        before = committed(folder)
        process = subprocess.Popen(command(folder), stderr=subprocess.PIPE)
        while committed(folder) == before:
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=5)
        assert process.returncode == 0, log.decode()
        assert b"Traceback" not in log
    subprocess.run(command(folder, "--until-caught-up"), check=True, capture_output=True)
    assert outcome(folder) == expected
