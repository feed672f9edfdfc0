"""`headrace query similar`: the nearest of a user's own decisions, and what followed them."""

import json
import sqlite3

import pytest
from shell import T0, VALVE, Shell, transitions

COUNT = 400
LAST_STEP = COUNT // 4 - 1
TASK = {**VALVE, "reward_terms": ["speed", "cost"]}


def rows():
    """Agents in turn, an episode of 25 steps each; x0 rises by .1 a row. One episode ends, one is cut off."""
    found = transitions(COUNT)
    for i, row in enumerate(found):
        row["terminated"], row["truncated"] = i == 101, i == 202
        row["obs"] = [round(0.1 * i, 1), -1.5, 0.0]
        if i % 4 != 3:
            row["reward_terms"] = {"speed": 0.5, "cost": -0.25} if i % 4 else {"speed": 0.5}
    return found


def ingested(shell: Shell, every: int, *options: str) -> Shell:
    (shell.folder / "valve.json").write_text(json.dumps(TASK))
    shell.json("init", "--partitions", 2, "--segment", 64, "--sample-every", every, *options)
    shell.json("task", "add", "valve.json")
    shell.write("data.jsonl", rows())
    shell.json("produce", "data.jsonl", "--close", *options)
    shell.json("run", "ingest", "--until-caught-up", *options)
    return shell


@pytest.fixture(scope="module")
def stream(new_shell) -> Shell:
    return ingested(new_shell(), 1)


def similar(shell, *options):
    return shell.lines("query", "similar", "valve", *options)


def names(found):
    return [(one["agent_id"], one["episode_id"], one["step"]) for one in found]


def test_the_nearest_come_with_what_followed(stream):
    """Row 40 is agent-0's step 10: its next five rewards are those of rows 44, 48, 52, 56 and 60."""
    sent = rows()
    found = similar(stream, "--obs", "4.04,-1.5,0", "--limit", 3, "--steps", 5)
    assert names(found) == [("agent-0", "e0", 10), ("agent-1", "e0", 10), ("agent-3", "e0", 9)]
    assert [one["distance"] for one in found] == sorted(one["distance"] for one in found)
    first = found[0]
    for name in ("ts", "obs", "action", "reward", "reward_terms", "policy_version", "terminated", "truncated"):
        assert first[name] == sent[40][name]
    assert first["next_obs"] == pytest.approx(sent[40]["next_obs"])
    followed = first["followed"]
    later = [sent[i] for i in (44, 48, 52, 56, 60)]
    assert followed["steps"] == 5
    assert followed["actions"] == [row["action"] for row in later]
    assert followed["reward_sum"] == pytest.approx(sum(row["reward"] for row in later))
    assert followed["reward_terms"] == {"speed": 2.5}
    assert followed["end"] is None


def test_what_followed_stops_where_the_episode_does(stream):
    """Row 101 ends agent-1's episode e1 at step 25; row 202 cuts agent-2's at step 50; row 99 is e0's last."""
    (end,) = similar(stream, "--obs", "10.1,-1.5,0", "--limit", 1)
    assert (end["step"], end["followed"]["steps"], end["followed"]["end"]) == (25, 0, "terminated")
    (cut,) = similar(stream, "--obs", "20.2,-1.5,0", "--limit", 1)
    assert (cut["step"], cut["followed"]["steps"], cut["followed"]["end"]) == (50, 0, "truncated")
    (near,) = similar(stream, "--obs", "9.8,-1.5,0", "--limit", 1)
    assert (near["agent_id"], near["step"], near["followed"]["steps"]) == ("agent-2", 24, 0), "the episode's last row"
    (last,) = similar(stream, "--obs", "38.9,-1.5,0", "--limit", 1, "--steps", 1_000)
    assert (last["step"], last["followed"]["steps"]) == (LAST_STEP - 2, 2), "as far as the index goes"


def test_what_an_agent_saw_is_looked_for_elsewhere(stream):
    found = similar(stream, "--like", "agent-2/e1/30", "--limit", 4)
    assert set(names(found)) == {
        ("agent-0", "e1", 30),
        ("agent-1", "e1", 30),
        ("agent-3", "e1", 30),
        ("agent-0", "e1", 31),
    }
    assert len(similar(stream, "--like", "agent-2/e1/30", "--limit", 250)) == 249


def test_people_get_a_table(stream):
    shown = stream.here("query", "similar", "valve", "--obs", "10.1,-1.5,0", "--limit", 2).decode().splitlines()
    assert len(shown) == 3
    for part in ("distance", "time (UTC)", "action", "reward", "speed", "cost", "of the next 10", "end"):
        assert part in shown[0]
    assert shown[1].startswith("0.0000")
    assert shown[1].endswith("terminated")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["valve", "--obs", "1,2"], 1, "an observation of valve has 3 numbers (x0, x1, x2), 2 were given"),
        (["valve", "--obs", "1,nan,2"], 1, "x1 is nan: an observation holds finite 32-bit numbers alone"),
        (["valve", "--obs", "1,2,-inf"], 1, "x2 is -inf"),
        (["valve", "--obs", "1e39,2,3"], 1, "x0 is 1e+39"),
        (["valve", "--obs", "1,,3"], 2, "'1,,3' is not a list of numbers"),
        (["valv", "--obs", "1,2,3"], 1, "task 'valv' was never added; did you mean valve? known: valve"),
        (["valve", "--like", "agent-1/e1"], 2, "'agent-1/e1' is not AGENT/EPISODE/STEP"),
        (["valve", "--like", "agent-1/e1/x"], 2, "is not AGENT/EPISODE/STEP"),
        (["valve", "--like", "agent-1/e1/999"], 1, "the index has no transition agent-1/e1/999 of valve"),
        (["valve", "--like", "nobody/e1/9"], 1, "the index has no transition nobody/e1/9 of valve"),
        (["valve"], 2, "--obs or by --like"),
        (["valve", "--obs", "1,2,3", "--like", "agent-1/e1/1"], 2, "one of them"),
        (["valve", "--obs", "1,2,3", "--limit", "0"], 2, "--limit"),
    ],
)
def test_an_error_is_one_clear_line(stream, arguments, code, told):
    done = stream("query", "similar", *arguments, code=code)
    assert told in done.stderr.decode()
    assert done.stdout == b""
    assert code == 2 or done.stderr.count(b"\n") == 1


def test_few_are_sampled_and_the_rate_stays(shell):
    """None of the index's rows is asked for in vain: the command says how many are kept."""
    ingested(shell, 0)
    done = shell("query", "similar", "valve", "--obs", "1,2,3")
    assert done.stdout == b""
    assert b"no other sampled decision of valve: none is, by the index's layout" in done.stderr
    refused = shell("init", "--sample-every", 4, code=1).stderr
    assert b"was written with sample_every 0, 4 was asked for" in refused


def test_a_second_ingest_from_the_start_gives_the_same(shell):
    """Into an index that lost its decisions, as one that was written before there were any."""
    ingested(shell, 3)
    with sqlite3.connect(shell.folder / ".headrace" / "index.db") as database:
        before = database.execute("SELECT * FROM decisions ORDER BY 1, 2, 3, 4, 5, 6, 7").fetchall()
        database.execute("DELETE FROM decisions")
    database.close()
    assert 80 < len(before) < 190
    assert min(row[3] for row in before) >= T0
    shell.json("run", "ingest", "--until-caught-up", "--from-start")
    with sqlite3.connect(shell.folder / ".headrace" / "index.db") as database:
        assert database.execute("SELECT * FROM decisions ORDER BY 1, 2, 3, 4, 5, 6, 7").fetchall() == before
    database.close()


def test_cassandra_answers_as_sqlite_does(cassandra, new_shell, stream):
    """The index finds the nearest of so few, and what is told of each is the same."""
    index = ("--index", f"cassandra://{cassandra.host}:{cassandra.port}/similar")
    shell = ingested(new_shell(), 1, *index)
    for asked in ("4.04,-1.5,0", "-3,0.5,1e9", "30.31,-1,-0.5"):
        found = similar(shell, "--obs", asked, "--limit", 8, *index)
        assert found == similar(stream, "--obs", asked, "--limit", 8)
    found = similar(shell, "--like", "agent-2/e1/30", "--limit", 4, *index)
    assert found == similar(stream, "--like", "agent-2/e1/30", "--limit", 4)
