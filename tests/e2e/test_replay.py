"""The quarantine: what was rejected for a reason that time heals is sent again, once."""

import json
import time

from shell import ordered, transitions


def test_what_came_before_its_task_is_replayed_once(shell):
    shell.prepare(add=False)
    rows = transitions(40)
    large = json.dumps([{**row, "agent_id": "large", "step": i} for i, row in enumerate(transitions(500))]).encode()
    assert len(large) > 65_536, "the quarantine keeps less of it than there is"
    shell.write("early.jsonl", [*rows, large, b"{bad"])
    shell.json("produce", "early.jsonl", "--anyway")
    assert shell.json("run", "ingest", "--until-caught-up")["rejected"] == {"unknown_task": 41, "syntax": 1}
    assert shell.json("produce", "early.jsonl", "--close", "--anyway")["heartbeats"] == 0
    shell.json("run", "ingest", "--until-caught-up")

    shell.json("task", "add", "valve.json")
    assert shell("rejected", "replay").stdout == b"82 messages sent again; now `headrace run ingest`\n"
    counts = shell.json("run", "ingest", "--until-caught-up")
    assert (counts["transitions"], counts["rejected"]) == (1080, {})
    assert shell.json("rejected", "replay")["replayed"] == 0
    found = shell.lines("query", "transitions", "--task", "valve")
    assert len(found) == 540, "what was sent twice is there once"
    assert ordered([row for row in found if row["agent_id"] != "large"]) == ordered(rows)


def test_a_replay_that_fails_again_is_replayed_only_on_request(shell):
    shell.prepare()
    now_ms = time.time_ns() // 1_000_000
    ahead = {**transitions(1)[0], "ts": now_ms + 3_600_000}
    shell.write("ahead.jsonl", [ahead, b"{bad"])
    shell.json("produce", "ahead.jsonl", "--anyway")
    shell.json("run", "ingest", "--until-caught-up")
    assert shell.json("rejected", "replay")["replayed"] == 1
    shell.json("run", "ingest", "--until-caught-up")
    clock = shell.lines("rejected", "list", "--rule", "clock")
    first, second = sorted(clock, key=lambda entry: "replayed" in entry)
    assert second["replayed"] == f"transitions/{first['partition']}/{first['offset']}"
    assert f" {second['replayed']} ".encode() in shell.here("rejected", "list")
    assert shell.json("rejected", "replay")["replayed"] == 0
    assert shell.json("rejected", "replay", "--rule", "clock")["replayed"] == 1
    assert shell.json("rejected", "replay", "--all")["replayed"] == 1, "the bad line; the clock's are done"
    assert shell.json("rejected", "replay", "--all")["replayed"] == 0


def test_windows_that_cannot_be_closed_yet_are_named(shell):
    shell.prepare()
    now_ms = time.time_ns() // 1_000_000
    shell.write("now.jsonl", [{**transitions(1)[0], "ts": now_ms}])
    sent = shell("produce", "now.jsonl", "--close")
    assert b"valve: windows from" in sent.stderr
    assert b"may stay open" in sent.stderr
    counts = shell.json("run", "ingest", "--until-caught-up")
    assert (counts["chunks"], counts["windows"], counts["rejected"]) == (1, 0, {})
