"""fleet, ingest, learn, explain and digest as jobs of their own, on one folder: a policy, its report, its mail."""

import re
import shutil
from pathlib import Path

import msgspec
import pytest
from shell import Shell, transitions

from headrace.sinks.files.policies import FilePolicyStore


@pytest.fixture(scope="module")
def done(new_shell) -> Shell:
    shell = new_shell()
    shell.json("init", "--segment", 64)
    assert shell.json("run", "fleet", "--windows", 5, "--every", 0) == {"windows": 5, "transitions": 32_000}
    assert shell.json("run", "ingest", "--until-caught-up")["transitions"] == 32_000
    learned = shell.json("run", "learn", "--gate", "none", "--until-caught-up")
    assert (learned["task"], learned["rows"], learned["serving"]) == ("cloud", 32_000, 1)
    assert shell.json("run", "explain", "--until-caught-up")["reports"] >= 1
    return shell


def test_the_version_is_listed(done):
    (version,) = done.lines("policy", "list", "--task", "cloud")
    assert (version["policy"], version["serves"], version["promoted"]) == ("cloud@1", True, True)
    assert version["chunks"] > 0
    assert b"cloud@1  yes" in done.here("policy", "list")


def test_returns_on_different_traces_are_not_set_side_by_side(done, tmp_path):
    """The list tells what the gate decided by; a version trained in simulation was not there."""
    shell = Shell(shutil.copytree(done.folder, tmp_path / "copy"))
    store = FilePolicyStore(shell.folder / ".headrace" / "policies")
    (judged,) = store.versions("cloud")
    later = msgspec.structs.replace(judged, evaluation={}, difference=None, promoted=False)
    unjudged = msgspec.structs.replace(later, version=2, reason="no simulator to judge it by")
    store.put(unjudged, store.weights("cloud", 1))
    simulated = msgspec.structs.replace(later, version=3, config={"source": "simulation"}, evaluation={"policy": 7.5})
    store.put(simulated, store.weights("cloud", 1))
    shell.here("policy", "promote", "cloud@2", "--reason", "as a test")
    _, *rows = shell.here("policy", "list").decode().splitlines()
    begins = ["no +yes +" + re.escape(f"{judged.difference.mean:+.3f} to floor"), "yes +no", "no +no"]
    for number, (row, begin) in enumerate(zip(rows, begins, strict=True), 1):
        assert re.match(rf"cloud@{number} +{begin}", row), row
    assert "7.5" not in rows[2]
    assert max(map(len, rows)) <= 80
    told = [shell.here("policy", "show", f"cloud@{number}").decode() for number in (1, 2, 3)]
    assert "mean returns as of the gate's fixed traces" in told[0]
    assert "none: nothing simulated it" in told[1]
    assert "mean return in simulation, on traces of its own: policy 7.50" in told[2]


def test_what_can_not_serve_or_be_learned_from_is_said(shell):
    """Of the valve nobody has a simulator, and one row in five says how likely its action was."""
    shell.prepare()
    shell.write("some.jsonl", transitions(100))
    shell.json("produce", "some.jsonl", "--close")
    shell.json("run", "ingest", "--until-caught-up")
    learn = ("run", "learn", "--algorithm", "ppo", "--until-caught-up")
    told = shell(*learn, "--gate", "simulator").stderr.decode()
    assert "valve: 100 rows (80 of them say no log_prob, which PPO needs: `follow(task, env=env)` has" in told
    assert "say it), 0 updates, nothing serves yet" in told
    assert "`headrace policy promote` or `headrace run learn --gate data`" in told
    assert "without a simulator" not in shell(*learn).stderr.decode()


def test_duplicates_are_told(shell):
    """A second fleet of the same seed begins where the first one did."""
    shell.json("init")
    told = []
    for _ in range(2):
        shell.json("run", "fleet", "--windows", 1, "--every", 0, "--agents", 2)
        told.append(shell("run", "ingest", "--until-caught-up").stderr.decode())
    assert "duplicates" not in told[0]
    assert ", without 200 duplicates" in told[1]


def test_its_report_can_be_read(done):
    listed = done.lines("report", "list", "--task", "cloud")
    report = next(entry for entry in listed if entry["kind"] == "version")
    assert report["policy_version"] == 1
    shown = done.json("report", "show", report["report_id"])
    assert shown["report_id"] == report["report_id"]
    assert done.here("report", "show", report["report_id"]).startswith(b"# ")
    assert b"<html" in done.here("report", "show", report["report_id"], "--html")
    paths = done.json("report", "export", "--all", "--out", "told")["reports"]
    assert {Path(path).stem for path in paths} == {one["report_id"] for one in done.lines("report", "list")}
    assert all((done.folder / path).with_suffix(".md").exists() for path in paths)
    assert b"name reports, or say --all" in done("report", "export", code=2).stderr
    assert b"`headrace report list`" in done("report", "show", "none", code=1).stderr


def test_it_is_mailed_once(done):
    (digest_id,) = done.json("run", "digest", "--once", "--to", "a@example.org")["sent"]
    mail = (done.folder / ".headrace" / "mail" / f"{digest_id}.eml").read_text()
    assert "To: a@example.org" in mail
    assert done.json("run", "digest", "--once")["sent"] == []


def test_a_schedule_that_is_none_is_an_error(done):
    assert b"is no cron expression" in done("run", "digest", "--cron", "daily-ish", code=1).stderr


def test_ppo_as_a_job(new_shell):
    """Agents begin uniformly, then draw from what was learned; versions can be retrained, and are reported on."""
    shell = new_shell()
    shell.json("init", "--segment", 64)
    shell.json("run", "fleet", "--windows", 5, "--every", 0)
    shell.json("run", "ingest", "--until-caught-up")
    options = ("run", "learn", "--algorithm", "ppo", "--gate", "none", "--until-caught-up")
    learned = shell.json(*options)
    assert (learned["algorithm"], learned["rows"], learned["serving"]) == ("ppo", 32_000, 1)
    shell.json("run", "fleet", "--windows", 4, "--every", 0, "--seed", 1)
    shell.json("run", "ingest", "--until-caught-up")
    learned = shell.json(*options)
    assert (learned["rows"], learned["serving"]) == (57_600, 2)
    rows = shell.lines("query", "transitions", "--task", "cloud", "--agent", "agent-0000")
    assert {row.get("policy_version") for row in rows} == {None, 1}
    assert all(row["log_prob"] < 0.0 for row in rows)
    assert b"the same weights" in shell.here("policy", "replay", "cloud@2")
    assert shell.json("run", "explain", "--until-caught-up")["reports"] >= 2


def test_ppo_has_no_replay_to_set(done):
    """Settings that the algorithm lacks are a usage error, before anything is learned."""
    refused = done("run", "learn", "--algorithm", "ppo", "--n-step", 3, "--until-caught-up", code=2)
    assert b"--n-step and --priority are DQN's" in refused.stderr
