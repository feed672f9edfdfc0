"""The demo as a user runs it: small, twice with one seed, once with another."""

import json
import os
import re
import signal
import subprocess
import sys
from email import message_from_bytes, policy
from pathlib import Path

import pytest

HEADRACE = str(Path(sys.executable).with_name("headrace"))


def demo(out, *more):
    done = subprocess.run(
        [HEADRACE, "demo", "--out", str(out), "--windows", "10", "--json", *more], capture_output=True, check=True
    )
    (line,) = done.stdout.splitlines()
    return json.loads(line)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return demo(tmp_path_factory.mktemp("demo") / "out")


def test_it_beats_the_hpa_rule_on_held_out_traces(first):
    """Even a sixth of the full run does, paired, with its whole interval above 0."""
    assert first["traces"] >= 512
    assert first["difference"]["hpa"]["low"] > 0
    means = first["evaluation"]
    assert means["hpa"] < means["policy"] < means["clairvoyant"]
    rules = {"static", "hpa", "hpa_kubernetes", "rate_rule", "tuned_rule", "clairvoyant"}
    assert set(means) == set(first["named"]) == {"policy", *rules}
    assert set(first["difference"]) == rules


def test_everything_that_it_says_is_there(first):
    """Rows, versions, reports and the digest."""
    assert first["transitions"] == 10 * 64 * 100
    assert first["rejected"] == 0
    assert first["chunks"] >= first["windows"] > 0
    promoted = [version for version in first["policies"] if version["promoted"]]
    assert promoted
    versions = [path for path in first["reports"] if ".version." in path]
    assert len(versions) == len(promoted)
    for path in first["reports"]:
        assert "<html" in Path(path).read_text()
        assert Path(path).with_suffix(".md").exists()
    message = message_from_bytes(Path(first["digest"]).read_bytes(), policy=policy.default)
    assert message["Subject"].startswith(f"cloud: v{promoted[-1]['version']} ")
    assert Path(first["digest"]).stat().st_size < 100_000


def test_the_same_seed_gives_the_same_hashes(first, tmp_path):
    """Rows and policies are equal to the bit; another seed's are not."""
    again, other = demo(tmp_path / "again"), demo(tmp_path / "other", "--seed", "1")
    assert again["index_hash"] == first["index_hash"]
    assert again["policies"] == first["policies"]
    assert again["evaluation"] == first["evaluation"]
    assert other["index_hash"] != first["index_hash"]
    assert other["policies"][0]["hash"] != first["policies"][0]["hash"]


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path):
    """It refuses to write among files that it did not make."""
    (tmp_path / "thesis.tex").write_text("years of work")
    done = subprocess.run([HEADRACE, "demo", "--out", str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == 1
    assert b"--out" in done.stderr
    assert (tmp_path / "thesis.tex").exists()


def test_ctrl_c_stops_it_in_one_line_and_the_next_leaves_others_files(shell):
    """Interrupted in the midst of learning; then the folder, with a user's own files, is taken for another demo."""
    process = subprocess.Popen(
        [HEADRACE, "demo", "--out", "d"],
        cwd=shell.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith(b"window   5 of 60")
    os.killpg(process.pid, signal.SIGINT)
    printed, told = process.communicate(timeout=20.0)
    assert (process.returncode, printed) == (130, b"")
    assert told.decode().splitlines()[-1] == "headrace: stopped; the next demo begins anew"
    assert len(told.splitlines()) <= 2, "at most a window's beside it"

    out = shell.folder / "d"
    mine = [out / "mine.txt", out / "reports" / "mine.md", out / "stream" / "mine.txt"]
    (out / "reports").mkdir()
    for path in mine:
        path.write_text("mine")
    (out / "reports" / "cloud.version.9.md").write_text("of an earlier demo")
    done = shell("demo", "--out", "d", "--windows", "2", "--agents", "2").stdout.decode()
    assert [path.read_text() for path in mine] == ["mine"] * 3
    assert not (out / "reports" / "cloud.version.9.md").exists()

    (line,) = re.findall(r"^export .+$", done, re.MULTILINE)
    environment = dict(one.split("=", 1) for one in line.split()[1:])
    assert set(environment) == {"HEADRACE_LOG", "HEADRACE_INDEX", "HEADRACE_POLICIES", "HEADRACE_TOKENS"}
    found = shell("query", "windows", "--task", "cloud", "--json", environment=environment).stdout
    assert {json.loads(window)["task"] for window in found.splitlines()} == {"cloud"}
