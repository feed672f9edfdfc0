"""The study as a user runs it: killed, it goes on where it was; the report has every table."""

import os
import re
import signal
import subprocess
import time

import pyarrow.parquet as pq
import pytest
from shell import ENVIRONMENT, HEADRACE

from headrace.schemas.errors import SettingsError

ARGUMENTS = ("study", "run", "--arms", "dqn,dqn+schedule", "--seeds", "2", "--steps", "25600", "--processes", "1")


def stored(folder):
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.glob("runs/*.parquet")}


def test_a_killed_study_goes_on_and_repeats_nothing(shell):
    """SIGKILL after the first run; then the same command makes the rest, and once more nothing."""
    out = shell.folder / "s"
    process = subprocess.Popen(
        [HEADRACE, *ARGUMENTS, "--out", "s"], cwd=shell.folder, env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 120.0
    while not stored(out) and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = stored(out)
    assert 1 <= len(before) < 4, "the kill came between the first run and the last"
    went_on = shell.json(*ARGUMENTS, "--out", "s")
    assert went_on["made"] <= 4 - len(before)
    after = stored(out)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before, "a finished run is never repeated"
    assert shell.json(*ARGUMENTS, "--out", "s")["made"] == 0

    report = shell.json("study", "report", "s", "--page", "docs/study.md")
    assert report["arms"] == ["dqn", "dqn+schedule"]
    assert report["seeds"] == [1_000, 1_001]
    assert (shell.folder / "docs" / "study" / "learning_curves.png").exists()
    text = (shell.folder / "docs" / "study.md").read_text()
    again, made = re.findall(r"`headrace (study (?:report|run) [^`]+)`", text)[:2]
    assert again == "study report docs/study --page docs/study.md"
    assert made == "study run --arms dqn,dqn+schedule --seeds 2 --steps 25600 --out DIR"
    assert shell.json(*made.replace("DIR", "s").split())["made"] == 0, "it is the same design"
    assert shell.json(*again.split())["table1"] == report["table1"]
    assert (shell.folder / "docs" / "study.md").read_text() == text
    assert shell.json("study", "report", "docs/study")["table1"] == report["table1"]
    rows = pq.read_table(shell.folder / "docs" / "study" / "runs.parquet").to_pylist()
    assert len({row["weights_hash"] for row in rows}) >= 3, "seeds differ"
    with pytest.raises(SettingsError, match="another design"):
        shell.here("study", "run", "--arms", "dqn", "--seeds", "2", "--steps", "51200", "--out", "s")


@pytest.fixture
def interruptible():
    """Ctrl-C reaches what is started: a shell has its background jobs ignore it, and they hand that on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_a_study_at_once(shell):
    """What was stored stays, the processes of the pool end too, and the next command goes on.

    The study is longer than what goes on from it: the signal must come before its end, however late it comes.
    """
    out = shell.folder / "s"
    process = subprocess.Popen(
        [HEADRACE, *ARGUMENTS, "--seeds", "6", "--processes", "2", "--out", "s"],
        cwd=shell.folder,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    until = time.monotonic() + 120.0
    while not stored(out) and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=10.0)  # which waits for all that hold stderr, so for the pool's too
    assert process.returncode == 1
    assert [line for line in told.decode().splitlines() if line and " of 12: " not in line] == ["Aborted!"]
    before = stored(out)
    assert 1 <= len(before) < 12, "the signal came between the first run and the last"
    there = sum(name.split(".")[1] in {"1000", "1001"} for name in before)
    assert shell.json(*ARGUMENTS, "--out", "s")["made"] == 4 - there
    assert {name: stored(out)[name] for name in before} == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("report", "none"), "no runs of a study"),
        (("report", "none", "--page", "x.html"), r"ends in \.md"),
        (("run", "--arms", "dqn,sarsa"), "choose among"),
        (("run", "--steps", "30000"), "multiple of 25600"),
    ],
)
def test_what_cannot_be_studied_is_refused(shell, arguments, told):
    with pytest.raises(SettingsError, match=told):
        shell.here("study", *arguments)
    assert list(shell.folder.iterdir()) == [], "nothing was made"
