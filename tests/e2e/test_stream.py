"""A user's own data: init, task add, produce, run ingest, query, index hash, rejected, doctor."""

import json
import subprocess

import pytest
from shell import ENVIRONMENT, HEADRACE, T0, VALVE, Shell, ordered, transitions

COUNT = 400
BAD = {
    3: b'{"task": "valve", "agent_id": "agent-1"',
    50: json.dumps({**transitions(1)[0], "obs": [1.0]}).encode(),
    120: b"\x1b[31m\xff\x00 not text",
    200: json.dumps({**transitions(1)[0], "agent_id": "a b"}).encode(),
    300: b"[]",
}


def mixed() -> list[bytes]:
    """Good lines, as a user's program would write them, with bad ones and empty ones between."""
    lines = [json.dumps(row).encode() for row in transitions(COUNT)]
    for place, bad in sorted(BAD.items(), reverse=True):
        lines[place:place] = [bad, b"", b"  "]
    return lines


def ingested(shell: Shell, *options: object) -> Shell:
    shell.prepare()
    shell.write("mixed.jsonl", mixed())
    shell.json("produce", "mixed.jsonl", "--close", *options)
    shell.json("run", "ingest", "--until-caught-up")
    return shell


@pytest.fixture(scope="module")
def stream(new_shell) -> Shell:
    shell = new_shell()
    (shell.folder / "valve.json").write_text(json.dumps(VALVE))
    shell.write("mixed.jsonl", mixed())
    shell("init", "--partitions", 2, "--segment", 64)
    shell("task", "add", "valve.json")
    shell("produce", "mixed.jsonl", "--close")
    shell("run", "ingest", "--until-caught-up")
    return shell


def test_transitions_come_back_as_they_were_sent(stream):
    found = stream.lines("query", "transitions", "--task", "valve")
    assert ordered(found) == ordered(transitions(COUNT))
    printed = next(row for row in found if row["step"] == 1 and row["agent_id"] == "agent-1")
    assert printed["obs"] == [0.5, -1.5, 3.4028235e38], "the shortest form that reads back the same"
    places = [(row["agent_id"], row["ts"]) for row in found]
    by_agent = [[ts for agent, ts in places if agent == name] for name in {agent for agent, _ in places}]
    assert all(times == sorted(times) for times in by_agent)


def test_a_query_selects_by_agent_and_time(stream):
    found = stream.lines(
        "query",
        "transitions",
        "--task",
        "valve",
        "--agent",
        "agent-2",
        "--from",
        T0 + 12_345,
        "--to",
        "2023-11-14T22:14:00",
    )
    end_ms = T0 + 40_000
    wanted = [r for r in transitions(COUNT) if r["agent_id"] == "agent-2" and T0 + 12_345 <= r["ts"] < end_ms]
    assert ordered(found) == ordered(wanted)
    assert len(stream.lines("query", "transitions", "--task", "valve", "--limit", 3)) == 3


def test_windows_and_chunks_tell_of_all_rows(stream):
    windows = stream.lines("query", "windows", "--task", "valve", "--by", "group")
    chunks = stream.lines("query", "chunks", "--task", "valve")
    assert sum(window["rows"] for window in windows) == COUNT, "--close has closed every window"
    assert sum(chunk["rows"] for chunk in chunks) == COUNT
    assert sum(chunk["totals"]["rows"] for chunk in chunks) == COUNT
    assert len({chunk["segment"] for chunk in chunks}) > 2
    told = {
        (w["group"], w["start_ms"], w["partition"], c["segment"], c["checksum"]) for w in windows for c in w["chunks"]
    }
    assert told == {(c["group"], c["start_ms"], c["partition"], c["segment"], c["checksum"]) for c in chunks}
    starts = {window["start_ms"] for window in windows}
    assert starts == {T0 + i * 10_000 for i in range(10)}
    some = stream.lines("query", "windows", "--task", "valve", "--agent", "agent-0", "--to", T0 + 20_000)
    assert [window["start_ms"] for window in some] == [T0 + 10_000, T0]
    assert all([agent["agent_id"] for agent in window["agents"]] == ["agent-0"] for window in some)
    rolled = stream.lines("query", "windows", "--task", "valve")
    assert [window["start_ms"] for window in rolled] == [T0 + i * 10_000 for i in range(10)][::-1]
    assert sum(window["rows"] for window in rolled) == COUNT
    agents = stream.lines("query", "agents", "--task", "valve")
    assert sum(agent["rows"] for agent in agents) == COUNT
    assert {agent["agent_id"] for agent in agents} == {row["agent_id"] for row in transitions(COUNT)}


def test_an_empty_answer_says_why(stream, shell):
    def told(*question):
        return stream("query", *question, "--task", "valve").stderr.decode()

    assert "no rows of an agent 'agent0'; did you mean agent-" in told("transitions", "--agent", "agent0")
    assert "no windows in that time" in told("windows", "--to", T0)
    assert told("windows", "--from", T0) == ""
    shell.prepare()
    shell.write("some.jsonl", transitions(20))
    assert b"no message waits" in shell("query", "windows", "--task", "valve").stderr
    shell.json("produce", "some.jsonl")
    assert b"20 messages wait on the log: `headrace run ingest`" in shell("query", "chunks", "--task", "valve").stderr
    shell.json("run", "ingest", "--until-caught-up")
    assert b"wait in open windows" in shell("query", "windows", "--task", "valve").stderr
    assert b"did you mean valve?" in shell("query", "windows", "--task", "vlave", code=1).stderr


def test_bad_lines_reach_the_quarantine(stream):
    found = stream.lines("rejected", "list")
    assert sorted(entry["rule"] for entry in found) == ["agent_id", "empty", "syntax", "syntax", "width"]
    by_size = {entry["bytes"]: entry for entry in found}
    assert set(by_size) == {len(bad) for bad in BAD.values()}
    ugly = by_size[len(BAD[120])]
    assert ugly["preview"] == "\\x1b[31m\\xff\\x00 not text"
    assert (ugly["topic"], ugly["key"]) == ("transitions", None)
    assert by_size[len(BAD[200])]["key"] == "a b"
    assert len(stream.lines("rejected", "list", "--rule", "width")) == 1


def test_the_same_data_gives_the_same_hash(stream, new_shell):
    first = stream("index", "hash").stdout
    assert len(first.strip()) == 64
    stream.json("run", "ingest", "--until-caught-up")
    assert stream.json("index", "hash")["index_hash"].encode() == first.strip(), "there was nothing more to do"
    again = ingested(new_shell())
    assert again.here("index", "hash") == first


def test_packed_messages_hold_the_same_transitions(stream, new_shell):
    packed = ingested(new_shell(), "--batch", "30")
    query = ("query", "transitions", "--task", "valve")
    assert packed.here(*query, "--json") == stream.here(*query, "--json")
    rules = [sorted(e["rule"] for e in s.lines("rejected", "list")) for s in (packed, stream)]
    assert rules[0] == rules[1]
    packed.write("more.jsonl", transitions(100, agents=1))
    sent = packed.json("produce", "more.jsonl", "--batch", "30")
    assert (sent["lines"], sent["messages"]) == (100, 4)


def test_the_doctor_finds_everything_in_order(stream):
    found = stream.json("doctor")
    assert found["ok"]
    checks = {check["name"]: check for check in found["checks"]}
    assert all(check["ok"] for check in checks.values())
    assert {
        "versions",
        "log",
        "index",
        "cache",
        "policies",
        "mail",
        "narrator",
        "topics",
        "tasks",
        "layout",
        "lag",
        "jobs",
        "serving",
    } <= set(checks)
    assert checks["lag"]["detail"] == "group ingest is 0 messages behind"
    assert checks["jobs"]["detail"] == "learn never ran; explain never ran; digest never ran"


def test_people_get_tables(stream):
    for what, word in (("windows", b"mean reward"), ("chunks", b"checksum"), ("transitions", b"episode")):
        shown = stream.here("query", what, "--task", "valve", "--limit", 2)
        assert word in shown
        assert len(shown.splitlines()) == 3
    assert b"--limit N shows more" in stream("query", "windows", "--task", "valve", "--limit", 2).stderr
    assert b"valve" in stream.here("task", "list")
    assert stream.lines("task", "list") == [VALVE]


def test_a_closed_pipe_is_no_fault(stream):
    line = f"{HEADRACE} query transitions --task valve --json | head -1"
    done = subprocess.run(
        ["bash", "-c", line], cwd=stream.folder, env=ENVIRONMENT, capture_output=True, timeout=60, check=True
    )
    assert json.loads(done.stdout)["task"] == "valve"
    assert done.stderr == b""


def test_lines_may_come_from_stdin(shell):
    shell.prepare()
    rows = transitions(20)
    shell("produce", "-", stdin=b"".join(json.dumps(row).encode() + b"\r\n" for row in rows) + b"\n\n")
    shell.json("run", "ingest", "--until-caught-up")
    assert ordered(shell.lines("query", "transitions", "--task", "valve")) == ordered(rows)
    windows = shell.lines("query", "windows", "--task", "valve")
    assert windows == [], "nothing has moved stream time on"
