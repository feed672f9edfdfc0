"""Stacks on the session's servers, each with names of its own."""

import uuid

import pytest
from fault_stack import IMPATIENT, Stack


@pytest.fixture(scope="module")
def new_stack(servers, tmp_path_factory):
    """Return a function that gives a stack: prefix, keyspace and cache prefix that nobody else uses."""
    kafka, cassandra, redis = servers
    made = []

    def new(log_options=IMPATIENT, **urls):
        name = f"f{uuid.uuid4().hex[:10]}"
        keyspace = f"cassandra://{cassandra.host}:{cassandra.port}/{name}"
        own = {
            "log": f"{kafka.url}/{name}?{log_options}",
            "index": keyspace,
            "cache": f"{redis.url}?prefix={name}:",
            "policies": keyspace,
        }
        made.append(Stack(tmp_path_factory.mktemp(name), own | urls, f"{kafka.host}:{kafka.port}"))
        return made[-1]

    yield new
    for stack in made:
        stack.close()
