"""An agent that follows Kafka and Cassandra, and acts on while they hang."""

import time
import uuid

import msgspec
import numpy as np
import pytest

from headrace.learners.checkpoint import pack, weights_hash
from headrace.pipelines.act import follow
from headrace.pipelines.settings import read_settings
from headrace.pipelines.tasks import add_task
from headrace.pipelines.wiring import open_services
from headrace.schemas.ports import Record
from headrace.schemas.records import PolicyVersion, ServingPolicy, TaskSpec

OBS = np.zeros(2, np.float32)


def promote(services, version, action):
    bias = np.zeros(2, np.float32)
    bias[action] = 20.0
    weights = pack({"logits.weight": np.zeros((2, 2), np.float32), "logits.bias": bias})
    found = weights_hash(weights)
    made = PolicyVersion(
        "valve", version, None, "ppo", {}, 0, "0", found, 0, 0, [], {}, None, promoted=True, reason="a test"
    )
    services.policies.put(made, weights)
    record = ServingPolicy("valve", version, found, "test", "a test", 0)
    services.log.send([Record("policies", b"valve", msgspec.json.encode(record))])


def acts(agent, action, seconds=60.0):
    end = time.monotonic() + seconds
    while agent.act(OBS) != action:
        assert time.monotonic() < end, agent.trouble
        time.sleep(0.05)


@pytest.fixture
def urls(servers):
    kafka, cassandra, _ = servers
    name = f"a{uuid.uuid4().hex[:10]}"
    keyspace = f"cassandra://{cassandra.host}:{cassandra.port}/{name}"
    return {"log": f"{kafka.url}/{name}", "index": keyspace, "policies": keyspace}


@pytest.mark.parametrize("name", ["Kafka", "Cassandra"])
def test_an_agent_acts_on_while_a_server_hangs(servers, urls, name):
    """A thousand acts take no time; what was promoted meanwhile acts once the server is back."""
    server = next(one for one in servers if one.name == name)
    with open_services(read_settings(urls), create=True) as services:
        services.initialise(partitions=1)
        add_task(services.log, TaskSpec("valve", ("x", "y"), ("shut", "open"), 1_000))
        promote(services, 1, 1)
        with follow("valve", log=urls["log"], policies=urls["policies"], look_every_s=0.2, wait_s=60.0) as agent:
            assert (agent.act(OBS), agent.policy_version) == (1, 1)
            server.pause()
            try:
                time.sleep(1.0)
                began = time.monotonic()
                assert {agent.act(OBS) for _ in range(1_000)} == {1}
                assert time.monotonic() - began < 5.0  # each of them would wait for seconds
            finally:
                server.resume()
            promote(services, 2, 0)
            acts(agent, 0)
            assert agent.policy_version == 2
