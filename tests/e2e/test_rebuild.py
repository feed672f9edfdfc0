"""An index that was lost is rebuilt from the log, to the byte."""

import json


def test_a_lost_index_is_rebuilt_from_the_log(shell, tmp_path):
    shell("init", "--segment", "16")
    (tmp_path / "valve.json").write_text(
        json.dumps({"task": "valve", "observations": ["x"], "actions": ["a", "b"], "window_ms": 1000})
    )
    shell("task", "add", "valve.json")
    row = {"schema_version": 1, "task": "valve", "episode_id": "e", "obs": [0.5], "action": 1, "reward": 1.0}
    row |= {"next_obs": [0.25], "terminated": False, "truncated": False}
    lines = [{**row, "agent_id": f"a{i % 3}", "step": i // 3, "ts": 1_767_225_600_000 + 37 * i} for i in range(300)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, lines)))
    shell("produce", "data.jsonl", "--close")
    (tmp_path / "bad.jsonl").write_text("{}\nnonsense\n")
    shell("produce", "bad.jsonl", "--anyway")
    shell("run", "ingest", "--until-caught-up")
    refused = shell("rejected", "list", "--json").stdout
    expected = shell("index", "hash").stdout
    for path in (tmp_path / ".headrace").glob("index.db*"):
        path.unlink()
    assert b"--from-start" in shell("init", "--segment", "16").stderr
    shell("run", "ingest", "--until-caught-up")
    assert shell("index", "hash").stdout != expected
    shell("run", "ingest", "--until-caught-up", "--from-start")
    assert shell("index", "hash").stdout == expected
    assert shell("rejected", "list", "--json").stdout == refused
