"""fleet, ingest, learn, explain and digest as jobs of their own, on one folder: a policy, its report, its mail."""

import pytest
from shell import Shell


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


def test_its_report_can_be_read(done):
    listed = done.lines("report", "list", "--task", "cloud")
    report = next(entry for entry in listed if entry["kind"] == "version")
    assert report["policy_version"] == 1
    shown = done.json("report", "show", report["report_id"])
    assert shown["report_id"] == report["report_id"]
    assert done.here("report", "show", report["report_id"]).startswith(b"# ")
    assert b"<html" in done.here("report", "show", report["report_id"], "--html")
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
