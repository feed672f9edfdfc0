"""`make up` and `make down`, on ports and in a folder of the test's own."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest
from cassandra.cluster import Cluster
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from redis import Redis as Client

from local_servers import ServerError, ports, processes, temporary
from local_servers.local import Local, Plan, Stack

PORTS = ("kafka", "cassandra", "storage", "redis")


def free_plan():
    """A plan of ports that are free on every address that Cassandra may use."""
    taken = []
    for _ in PORTS:
        taken.append(ports.free_port(("127.0.0.1", "127.0.0.2", "127.0.0.3"), taken))
    return Plan(**dict(zip(PORTS, taken, strict=True)))


class Home:
    """A folder, what was said in it, and the stack that runs there."""

    def __init__(self, folder):
        self.said = []
        self.preferred = free_plan()
        self.local = Local(folder, say=self.said.append, preferred=self.preferred)
        self.stack = Stack(self.local.folder, self.preferred)

    def up(self):
        self.said.clear()
        return self.local.up()

    def pids(self):
        return {server.name: server.pid for server in self.stack.servers}


@pytest.fixture(scope="module")
def home():
    """A stack that was brought up the hard way: the first `up` was killed half-way, then came two at once.

    What formats Kafka's folder outlives the first, and is slow: the others wait for it, whose cluster it is then.
    """
    with temporary() as folder:
        home = Home(folder)
        formatter = up_killed_half_way(home)
        others = [Local(folder, say=home.said.append, preferred=home.preferred) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            ups = [pool.submit(other.up) for other in others]
            time.sleep(2)
            formatted = (home.stack.kafka.data / "meta.properties").exists()
            formatter.resume()
            first, second = (up.result() for up in ups)
        assert not formatted, "by another one meanwhile"
        assert first == second
        write(home.stack)
        yield home


def up_killed_half_way(home):
    """Return the formatter, which is frozen."""
    call = f"Local(Path({str(home.local.home)!r}), say=print, preferred={home.preferred}).up()"
    script = f"from local_servers.local import *; {call}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.DEVNULL) as half:
        while not (found := [child for child in psutil.Process(half.pid).children() if formats(child)]):
            time.sleep(0.01)
        found[0].suspend()
        half.kill()
    return found[0]


def formats(process):
    try:
        return "kafka.tools.StorageTool" in process.cmdline()
    except psutil.Error:  # it has ended
        return False


@contextmanager
def session(stack):
    node = stack.cassandra.nodes[0]
    with Cluster([node.host], port=node.port) as cluster:
        yield cluster.connect()


def write(stack):
    """One topic with a message, one table with a row, one key."""
    broker = f"{stack.kafka.host}:{stack.kafka.port}"
    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(30)
    producer = Producer({"bootstrap.servers": broker})
    producer.produce("kept", b"message")
    assert producer.flush(30) == 0
    with session(stack) as cassandra:
        cassandra.execute(
            "CREATE KEYSPACE kept WITH replication = {'class': 'NetworkTopologyStrategy', 'datacenter1': 1}"
        )
        cassandra.execute("CREATE TABLE kept.rows (key int PRIMARY KEY, text text)")
        cassandra.execute("INSERT INTO kept.rows (key, text) VALUES (1, 'row')")
    with Client(host=stack.redis.host, port=stack.redis.port) as redis:
        redis.set("kept", "value")


def read_message(stack):
    consumer = Consumer({"bootstrap.servers": f"{stack.kafka.host}:{stack.kafka.port}", "group.id": "reader"})
    try:
        consumer.assign([TopicPartition("kept", 0, 0)])
        return consumer.poll(30).value()
    finally:
        consumer.close()


def read_row(stack):
    with session(stack) as cassandra:
        return cassandra.execute("SELECT text FROM kept.rows WHERE key = 1").one().text


def read_key(stack):
    with Client(host=stack.redis.host, port=stack.redis.port) as redis:
        return redis.get("kept")


def test_ups_at_once_and_killed_half_way_give_one_stack(home):
    assert len(processes.find(home.local.folder, below=True)) == 3
    assert all(healthy for _, healthy in home.local.status())


def test_up_leaves_the_settings_and_a_second_up_changes_nothing(home):
    settings = home.up()
    pids = home.pids()
    assert None not in pids.values()
    assert dict(line.split("=", 1) for line in home.local.env.read_text().splitlines()) == settings
    assert settings == {
        "HEADRACE_LOG": f"kafka://127.0.0.1:{home.preferred.kafka}",
        "HEADRACE_INDEX": f"cassandra://127.0.0.1:{home.preferred.cassandra}/headrace",
        "HEADRACE_CACHE": f"redis://127.0.0.1:{home.preferred.redis}",
        "HEADRACE_POLICIES": f"cassandra://127.0.0.1:{home.preferred.cassandra}/headrace",
    }
    assert home.up() == settings
    assert home.pids() == pids
    assert sum("already up" in line for line in home.said) == len(pids)


def test_data_survive_down_and_up_and_a_second_down_is_harmless(home):
    home.local.down()
    assert set(home.pids().values()) == {None}
    assert not home.local.env.exists()
    home.said.clear()
    home.local.down()
    assert home.said == ["nothing was up"]
    assert [healthy for _, healthy in home.local.status()] == [False] * 3

    home.up()
    assert (read_message(home.stack), read_row(home.stack), read_key(home.stack)) == (b"message", "row", b"value")


def test_what_was_killed_comes_back_with_its_data_and_the_rest_stays(home):
    home.up()
    before = home.pids()
    for server in (home.stack.kafka, home.stack.cassandra.nodes[0]):
        os.kill(server.pid, signal.SIGKILL)
    assert processes.ended(home.stack.kafka.folder, within_s=10)
    assert processes.ended(home.stack.cassandra.nodes[0].folder, within_s=10)

    home.up()
    after = home.pids()
    assert after["Redis"] == before["Redis"]
    assert None not in after.values()
    assert after["Kafka"] != before["Kafka"]
    assert (read_message(home.stack), read_row(home.stack)) == (b"message", "row")


def test_another_number_of_nodes_is_refused_not_mixed(home):
    with pytest.raises(ServerError, match=r"of 1 Cassandra node.*PURGE=1"):
        home.local.up(nodes=3)


def test_a_taken_port_is_left_to_its_holder_who_is_named(tmp_path):
    home = Home(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", home.preferred.redis))
        taken.listen()
        plan = home.local._make_plan(None)
    assert plan.redis != home.preferred.redis
    assert plan.kafka == home.preferred.kafka
    (line,) = home.said
    assert f"Redis: port {home.preferred.redis} is taken by pid {os.getpid()} (" in line
    assert line.endswith(f"taking {plan.redis}")


def test_a_plan_whose_processes_are_gone_is_only_a_plan(tmp_path):
    home = Home(tmp_path)
    plan = home.local._make_plan(None)
    assert [server.pid for server, _ in home.local.status()] == [None] * 3
    assert home.local._make_plan(None) == plan
    home.local.down()
    assert home.said == ["nothing was up"]


def test_purge_stops_and_drops_everything(home):
    home.local.down(purge=True)
    assert not home.local.folder.exists()
    assert processes.find(home.local.folder, below=True) == []
    assert home.local.status() == []
