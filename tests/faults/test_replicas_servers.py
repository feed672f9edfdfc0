"""One of three Cassandra nodes dies under load."""

import time

import pytest
from fault_load import TASK, Load
from fault_stack import told, wait_until


@pytest.mark.parametrize("seconds", [6, pytest.param(30, marks=pytest.mark.long)])
def test_a_node_dies_under_load(new_stack, cassandra_cluster, seconds):
    """With three replicas and LOCAL_QUORUM nobody notices: not ingest, not who reads, and no row is missing."""
    where = cassandra_cluster.url.replace("/headrace?", "/replicas?") + "&consistency=LOCAL_QUORUM"
    stack = new_stack(index=where, policies=where)
    stack.initialise([TASK], segment=1_024)
    node = cassandra_cluster.nodes[1]
    slowest_s = 0.0
    with Load(stack) as load:
        job = stack.start("run", "ingest").ready()
        wait_until(lambda: stack.committed() > 0, 60, job.told)
        time.sleep(1)
        node.kill()
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            sent = load.sent
            slowest_s = max(slowest_s, wait_until(lambda at=sent: stack.committed() >= at, 60, job.told))
            assert job.running, job.told()
    wait_until(lambda: not stack.lag(), 60, job.told)
    job.stop()
    warnings = [line for line in job.told().splitlines() if " INFO " not in line]
    told("a node of three killed", messages=load.sent, slowest_commit_s=slowest_s, warnings=len(warnings))
    assert not warnings
    while_dead = stack.outcome()
    assert while_dead == stack.on_sqlite()
    node.start()
    cassandra_cluster.wait()
    cassandra_cluster.nodes[0].kill()  # what the dead one missed is on the other two, and it has hints of
    assert stack.outcome() == while_dead
