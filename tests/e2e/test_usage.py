"""Errors, signals and start-up: exit codes, one clear line, a clean stop, and what is never imported."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from shell import ENVIRONMENT, HEADRACE, transitions

HEAVY = ("torch", "apache_beam", "great_expectations", "openai", "pandas", "scipy", "matplotlib")

LIGHT = ("cli", "cli.run_ingest", "cli.run_fleet", "cli.produce", "cli.query", "cli.rejected", "cli.doctor", "cli.demo")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["quary"], 2, "Did you mean 'query'?"),
        (["run", "ingets"], 2, "Did you mean 'ingest'?"),
        (["produce", "none.jsonl"], 2, "No such file"),
        (["query", "windows"], 2, "--task"),
        (["init", "--partitions", "0"], 2, "--partitions"),
        (["query", "windows", "--task", "t", "--from", "noon"], 2, "neither milliseconds"),
        (
            ["run", "ingest"],
            1,
            "headrace: the log sqlite:.headrace/log.db does not exist: create it with `headrace init`",
        ),
        (["init", "--log", "pulsar://h"], 1, "headrace: --log pulsar://h: unknown scheme 'pulsar'; known: sqlite"),
    ],
)
def test_an_error_is_one_clear_line_and_an_exit_code(shell, arguments, code, told):
    done = shell(*arguments, code=code)
    assert told in done.stderr.decode()
    assert done.stdout == b""
    assert list(shell.folder.iterdir()) == [], "nothing was made"


def test_an_error_that_is_told_ends_the_process_at_once(tmp_path):
    """What libraries do at the interpreter's end is not waited for: torch's took half a minute on a busy machine."""
    code = "import atexit, sys, time; atexit.register(time.sleep, 600); sys.argv[1:] = ['run', 'ingest']"
    code += "; from headrace.pipelines import cli; cli.main()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, check=False, timeout=60)
    assert done.returncode == 1
    assert b"create it with `headrace init`" in done.stderr


def test_an_unknown_variable_is_an_error(shell):
    done = shell("task", "list", code=1, environment={"HEADRACE_LGO": "x"})
    assert b"HEADRACE_LGO; did you mean HEADRACE_LOG?" in done.stderr


def test_errors_of_a_stream_that_is_there(shell):
    shell.prepare()
    assert b"known: valve" in shell("query", "windows", "--task", "valv", code=1).stderr
    assert b"segment 64, 128 was asked for" in shell("init", "--segment", 128, code=1).stderr
    shell.json("init", "--partitions", 2, "--segment", 64)
    (shell.folder / "other.json").write_text(
        '{"task": "valve", "observations": ["x"], "actions": ["a"], "window_ms": 1}'
    )
    assert b"a task never changes" in shell("task", "add", "other.json", code=1).stderr
    (shell.folder / "data.parquet").write_bytes(b"PAR1....")
    assert b"is a Parquet file" in shell("produce", "data.parquet", code=1).stderr
    assert b"at most 8192" in shell("produce", "valve.json", "--batch", 10_000, code=2).stderr
    (shell.folder / ".headrace" / "log.db").unlink()
    found = json.loads(shell("doctor", "--json", code=1).stdout)
    assert not found["ok"]
    wrong = [check for check in found["checks"] if not check["ok"]]
    assert [check["name"] for check in wrong] == ["log"]
    assert "headrace init" in wrong[0]["detail"]


def test_sigterm_is_a_clean_stop(shell):
    shell.prepare()
    shell.write("some.jsonl", transitions(100))
    shell.json("produce", "some.jsonl", "--close")
    job = shell.start("run", "ingest", "-v")
    assert job.stderr is not None
    for line in job.stderr:
        if b"committed {" in line:
            break
    job.send_signal(signal.SIGTERM)
    _, told = job.communicate(timeout=20)
    assert job.returncode == 0, told
    assert b"100 transitions" in told
    assert shell.json("run", "ingest", "--until-caught-up")["messages"] == 0


def test_sigterm_while_it_starts_is_clean_too(shell):
    shell.prepare(add=False)
    job = shell.start("run", "ingest")
    while not handles_sigterm(job.pid):  # before its first lines have run, no program can
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    _, told = job.communicate(timeout=20)
    assert job.returncode == 0, told


WAITS = """
import signal, sys, threading, types
from headrace.pipelines import cli

class Told(threading.Condition):
    def _release_save(self):
        super()._release_save()
        signal.raise_signal(signal.{signal})  # its waiter has given the lock up, and not taken it again

class Opening(types.ModuleType):
    @property
    def command(self):
        told = Told(threading.Lock())
        with told:
            told.wait()

sys.modules["headrace.pipelines.cli.run_ingest"] = Opening("run_ingest")
sys.argv = ["headrace", "run", "ingest"]
cli.main()
"""
"""A job that, while it starts, waits as drivers do for their threads, and is told to stop at the worst moment."""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_stop_inside_a_drivers_lock_is_clean_too(name):
    done = subprocess.run(
        [sys.executable, "-c", WAITS.format(signal=name)], capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")


def handles_sigterm(pid):
    (caught,) = re.findall(r"^SigCgt:\s+([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_ingest_is_ready_soon(shell):
    """CPU seconds of the whole of `run ingest --until-caught-up` on an empty log: other tests may run beside it."""
    shell.prepare(add=False)
    before = os.times()
    shell("run", "ingest", "--until-caught-up")
    after = os.times()
    spent_s = after.children_user - before.children_user + after.children_system - before.children_system
    assert spent_s < 1.6  # .9 on a quiet machine


def test_help_is_quick_and_teaches(shell):
    before = os.times()
    told = shell("--help").stdout.decode()
    after = os.times()
    assert after.children_user - before.children_user < 0.5  # .2 on a quiet machine
    for word in ("headrace demo", "headrace init", "task add", "produce", "run ingest", "query windows", "doctor"):
        assert word in told
    assert b"HEADRACE_INDEX" in shell("run", "ingest", "--help").stdout


def test_heavy_packages_are_not_imported():
    code = "import sys" + "".join(f", headrace.pipelines.{module}" for module in LIGHT)
    code += f"; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=ENVIRONMENT, timeout=60)
    assert done.stdout.strip() == b"[]"


def test_a_driver_is_loaded_only_where_it_is_used():
    """A job checks all of its URLs, those of backends too that it has no use for, and loads nothing heavy for that."""
    urls = {
        "index": "cassandra://host/keyspace?replication=3",
        "policies": "cassandra://host/keyspace",
        "cache": "rediss://host?prefix=a:",
        "advisor": "openai:model?mode=log",
    }
    code = "import sys; from headrace.pipelines import settings, wiring"
    code += f"; wiring.Services(settings.read_settings({urls!r}))"
    code += f"; print([name for name in ('cassandra', 'redis', *{HEAVY!r}) if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=ENVIRONMENT, timeout=60)
    assert done.stdout.strip() == b"[]"


def test_the_command_is_where_it_should_be():
    assert HEADRACE.exists()


def test_retention_is_said_once_and_may_be_changed(shell):
    def kept():
        (log,) = [check["detail"] for check in shell.json("doctor")["checks"] if check["name"] == "log"]
        return log

    shell.json("init", "--retention", "1.5d", "--retention-size", "500MB")
    assert "transitions kept 36 hours and 500 MB; " in kept()
    shell.json("init", "--retention", "none", "--retention-size", "2 gb")
    assert "windows kept 2000 MB" in kept()
    shell.json("init")
    assert "windows kept 2000 MB" in kept()
    shell.json("init", "--retention", "none")
    assert "kept" not in kept()
    for wrong in ("7", "d", "0d", "-1h", "1w"):
        assert b"such as 7d" in shell("init", "--retention", wrong, code=2).stderr
