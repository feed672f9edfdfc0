"""The API on Kafka, Cassandra and Redis: sent, taken in, read back; and Kafka frozen, which is told and mended."""

import json
import uuid

import msgspec
import pytest
from running import Running
from served import PUMP, VALVE, row
from test_serve import Server


@pytest.fixture
def urls(servers):
    kafka, cassandra, redis = servers
    name = f"a{uuid.uuid4().hex[:10]}"
    keyspace = f"cassandra://{cassandra.host}:{cassandra.port}/{name}"
    return {
        "HEADRACE_LOG": f"{kafka.url}/{name}",
        "HEADRACE_INDEX": keyspace,
        "HEADRACE_POLICIES": keyspace,
        "HEADRACE_CACHE": f"{redis.url}?prefix={name}:",
    }


def test_the_api_on_servers(servers, urls, tmp_path):
    run = lambda *arguments: Running.run(tmp_path, *arguments, **urls)  # noqa: E731
    run("init", "--segment", "64", "--grace-ms", "1000")
    for spec in (VALVE, PUMP):
        (tmp_path / "task.json").write_bytes(msgspec.json.encode(spec))
        run("task", "add", "task.json")
    server = Server(tmp_path, **urls)
    kafka = next(one for one in servers if one.name == "Kafka")
    try:
        server.until(lambda: server.ask("/readyz")[0] == 200)
        sent = [row(VALVE, f"v{agent}", step) for agent in range(4) for step in range(40)]
        assert server.ask("/v1/transitions", sent) == (202, {"messages": 160, "rows": 160, "rejected": 0, "items": []})
        run("run", "ingest", "--until-caught-up")
        _, agents = server.ask("/v1/tasks/valve/agents?from=0")
        assert [(one["agent_id"], one["rows"]) for one in agents["items"]] == [(f"v{agent}", 40) for agent in range(4)]
        server.until(lambda: server.ask("/v1/tasks/valve/windows")[1]["items"])
        assert sum(lag["behind"] for lag in server.ask("/v1/lag")[1]["items"] if lag["group"] == "ingest") == 0
        status, told = server.decide()
        assert (status, "no version serves valve" in told) == (503, True)
        kafka.pause()
        try:
            status, told = server.ask("/v1/transitions", row(VALVE, "v9", 1), timeout_s=60)
            assert (status, json.loads(told)["status"]) == (503, 503), told
            assert server.ask("/v1/tasks/valve/windows")[0] == 200  # the index is there
        finally:
            kafka.resume()
        server.until(lambda: server.ask("/v1/transitions", row(VALVE, "v9", 1))[0] == 202)
        server.until(lambda: server.ask("/readyz")[0] == 200)
    finally:
        server.process.kill()
        server.process.wait()
