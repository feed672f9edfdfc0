"""Jobs that are killed, by SIGKILL, are told of as that; those that stop are not."""

import json
from contextlib import closing

from running import Running
from shell import transitions

from headrace.pipelines.topics import OPERATIONS, messages, records
from headrace.schemas.records import Operation
from headrace.sinks.sqlite.log import SqliteLog


def starts(shell):
    with closing(SqliteLog(shell.folder / ".headrace" / "log.db", lambda: 0)) as log:
        return sum(one.kind == "started" for one in records(messages(log, OPERATIONS), Operation))


def facts(shell):
    shell.json("run", "explain", "--until-caught-up", "--interval-ms", 30_000, "--metrics", "off")
    found = {}
    for one in shell.lines("report", "list"):
        report = shell.json("report", "show", one["report_id"])
        for fact in report["facts"]["facts"]:
            if fact["fact_id"].startswith(("operations.starts", "operations.failures")):
                found[fact["fact_id"]] = found.get(fact["fact_id"], 0) + fact["value"]
    return found


def test_a_kill_and_a_restart_are_counted(shell):
    shell.prepare()
    rows = transitions(800)
    for place in range(3):
        shell.write("some.jsonl", [json.dumps(row).encode() for row in rows[place * 200 :][:200]])
        shell.json("produce", "some.jsonl", "--close")
        if place != 1:
            shell.json("run", "ingest", "--until-caught-up", "--metrics", "off")
            continue
        for number, end in enumerate((Running.kill, Running.end)):
            job = Running(shell.folder, "ingest", "--metrics", "off")
            job.until(lambda job: job.told().count("is ours") == 2)
            job.until(lambda _job, least=2 + number: starts(shell) >= least)
            end(job)
    assert starts(shell) == 4
    told = facts(shell)
    assert told["operations.failures.ingest"] == 1
    assert told["operations.starts.ingest"] >= 3
    assert not any(name.endswith(("failures.explain", "failures.learn")) for name in told)
