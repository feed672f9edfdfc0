"""What README.md tells a reader to type works, in the order that it stands there."""

import csv
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from headrace.pipelines.cli import demo

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BIN = str(Path(sys.executable).parent)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(line, folder):
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory):
    """The folder after the quick start, and what each command printed."""
    folder = tmp_path_factory.mktemp("quick-start")
    task, data = blocks("json")
    (folder / "valve.json").write_text(task)
    (folder / "data.jsonl").write_text(data)
    _, commands, _ = blocks("sh")
    return folder, {line: run(line, folder) for line in commands.splitlines()}


def test_the_quick_start(quick_start):
    """The good transition is indexed as it was sent, the bad one is in the quarantine."""
    _, printed = quick_start
    sent = [json.loads(line) for line in blocks("json")[1].splitlines()]
    (got,) = map(json.loads, printed["headrace query transitions --task valve --agent valve-1 --json"].splitlines())
    assert got == sent[0]
    (_, decision) = printed["headrace query similar valve --obs 0.1,0.2,0.35"].splitlines()
    assert re.search(r"^0\.0\d+ .* valve-1 +e1 +0 +c +1\.5 ", decision)
    assert "action" in printed["headrace rejected list"]
    assert re.fullmatch(r"[0-9a-f]{64}\n", printed["headrace index hash"])


def test_the_policies(tmp_path):
    """Versions are listed, retrained to the same weights, compared, rolled back, promoted and trained."""
    _, _, commands = blocks("sh")
    printed = {line: run(line, tmp_path) for line in commands.splitlines()}
    assert "the same weights" in printed["headrace policy replay cloud@2"]
    assert "paired on 512 traces" in printed["headrace policy diff cloud@1 cloud@2"]
    rolled_back = printed['headrace policy rollback cloud --hold --reason "cloud@2 needs a second look"']
    assert rolled_back == "cloud@1 serves; promotion by `learn` is on hold\n"
    promoted = printed['headrace policy promote cloud@2 --reason "it was fine"']
    assert promoted == "cloud@2 serves; promotion by `learn` is free\n"


def test_the_closed_loop(tmp_path):
    """An agent that follows what is learned beside it soon does many times better than chance."""
    code, _ = blocks("python")
    (tmp_path / "loop.py").write_text(code)
    _, init, ingest, learn, loop = next(block for block in blocks("console") if "loop.py" in block).splitlines()
    run(init, tmp_path)
    running = []
    try:
        for line in (ingest, learn, loop):
            name, *words = line.removesuffix(" &").split()
            started = subprocess.Popen([f"{BIN}/{name}", *words], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
            running.append(started)
        returns = []
        for line in running[-1].stdout:
            mean, version = re.fullmatch(r"\d+ steps: mean return (\d+), version (\w+)\n", line).groups()
            returns.append(int(mean))
            if version != "None" and returns[-1] > 120:
                break
    finally:
        for one in running:
            one.terminate()
        for one in running:
            one.communicate(timeout=30)
    assert returns[0] < 30
    assert returns[-1] > 120


def an_oven_s_history(machines=10, steps=3_000):
    """An oven that is kept near 21 degrees by a coarse rule, with many actions at random."""
    rng = np.random.default_rng(0)
    yield "machine", "time", "temperature", "load", "action", "reward"
    for machine in range(machines):
        temperature, load, time = 20.0, 0.5, datetime(2026, 5, 1, tzinfo=UTC)
        for _ in range(steps):
            rule = "cool" if temperature > 26 else "heat" if temperature < 16 else "wait"
            action = str(rng.choice(["cool", "wait", "heat"])) if rng.random() < 0.4 else rule
            reward = -abs(temperature - 21.0) / 5.0 - 0.2 * (action != "wait")
            yield f"m{machine}", time.isoformat(), round(temperature, 3), round(load, 3), action, round(reward, 4)
            load = float(np.clip(load + 0.1 * rng.standard_normal(), 0.0, 1.0))
            moved = {"cool": -2.0, "wait": 0.0, "heat": 2.0}[action]
            temperature += moved + (load - 0.5) * 3.0 + 0.5 * rng.standard_normal()
            time += timedelta(minutes=10)


def test_a_history_without_a_simulator(tmp_path):
    """From a table to a policy that the rows show to be better, its report, and an agent that acts by it."""
    _, code = blocks("python")
    (tmp_path / "convert.py").write_text(code)
    with (tmp_path / "history.csv").open("w") as file:
        csv.writer(file).writerows(an_oven_s_history())
    commands = next(block for block in blocks("console") if "convert.py" in block).splitlines()
    printed = {line: run(line, tmp_path) for line in commands}
    assert printed["headrace produce history.jsonl --check"].startswith("29,990 lines, 29,990 of them good")
    assert re.search(r"^oven@\d  \w+ +yes  .*\+\d+\.\d+ to agents", printed["headrace policy list"], re.MULTILINE)
    assert "No simulator has tested it" in "".join(path.read_text() for path in (tmp_path / "reports").rglob("*.md"))
    acts = (
        "from headrace.pipelines.act import follow; import numpy as np; agent = follow('oven', explore=False); "
        "print(agent.act(np.float32([32, .5])), agent.policy_version is not None)"
    )
    assert run(f'python -c "{acts}"', tmp_path) == "0 True\n"  # it cools what is hot


def test_the_other_commands_exist(quick_start):
    """Each `headrace ...` in the text is a command, each `make ...` a target."""
    folder, _ = quick_start
    for job in ("ingest", "learn", "explain", "digest", "fleet"):
        assert f"run {job}" in README
        assert "--help" in run(f"headrace run {job} --help", folder)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= set(targets)


def test_the_demos_folder_is_one():
    """The default, that of `make demo`, what `make clean` removes, and what git ignores."""
    (default,) = (option.default for option in demo.command.params if option.name == "out")
    makefile = (ROOT / "Makefile").read_text()
    assert f"headrace demo --out {default}\n" in makefile
    assert re.search(rf"^\trm -rf .*\b{default}$", makefile, re.MULTILINE)
    assert f"{default}/" in (ROOT / ".gitignore").read_text().splitlines()
    assert f"(`{default}/`)" in README


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(path):
    """Each file that is linked is there."""
    assert (ROOT / path).exists()
