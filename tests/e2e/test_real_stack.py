"""Every job on Kafka, Cassandra and Redis, and its topics as another team's plain consumer reads them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import confluent_kafka
import jsonschema
import pyarrow as pa
import pytest

from headrace.pipelines.topics import PARTITIONED, SINGLE
from headrace.schemas.contract_files import FOLDER
from headrace.schemas.partition import partition_of

HEADRACE = Path(sys.executable).with_name("headrace")
PREFIX = "real-stack"
CONTRACTS = {
    "tasks": "task",
    "windows": "window",
    "policies": "policy",
    "reports": "report",
    "directives": "directive",
    "mails": "mail",
    "operations": "operation",
}


class Stack:
    """Runs commands against the servers."""

    def __init__(self, folder, kafka, cassandra, redis):
        self.folder = folder
        self.broker = kafka.url.removeprefix("kafka://")
        keyspace = f"{cassandra.url.rpartition('/')[0]}/{PREFIX.replace('-', '_')}"
        self.environment = os.environ | {
            "HEADRACE_LOG": f"{kafka.url}/{PREFIX}",
            "HEADRACE_INDEX": keyspace,
            "HEADRACE_CACHE": f"{redis.url}?prefix={PREFIX}",
            "HEADRACE_POLICIES": keyspace,
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "error",
        }

    def __call__(self, *arguments, code=0):
        done = subprocess.run(
            [HEADRACE, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr.decode()[-4000:]
        assert b"Traceback" not in done.stderr
        return done.stdout

    def json(self, *arguments):
        return [json.loads(line) for line in self(*arguments, "--json").splitlines()]


@pytest.fixture(scope="module")
def stack(tmp_path_factory, kafka, cassandra, redis):
    """A stream on which each job has run once."""
    folder = tmp_path_factory.mktemp("stack")
    run = Stack(folder, kafka, cassandra, redis)
    run("init", "--partitions", "2")
    run("run", "fleet", "--windows", "5", "--every", "0")
    (folder / "bad.jsonl").write_text('{"schema_version": 1, "task": "unheard-of"}\n')
    run("produce", "bad.jsonl", "--anyway")
    run("run", "ingest", "--until-caught-up")
    run("run", "learn", "--until-caught-up", "--gate", "none")
    run("run", "explain", "--until-caught-up")
    run("run", "digest", "--once")
    return run


def read_all(broker, topic):
    """What a few lines of confluent-kafka, which know nothing of headrace, read of a topic."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": f"plain-{topic}",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.subscribe([topic])
    partitions = len(consumer.list_topics(topic, 10).topics[topic].partitions)
    found, ended, deadline = [], set(), time.monotonic() + 60
    while len(ended) < partitions:
        assert time.monotonic() < deadline
        for message in consumer.consume(500, 0.5):
            if message.error():
                assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
                ended.add(message.partition())
            else:
                found.append(message)
    consumer.close()
    return found, partitions


@pytest.mark.parametrize("topic", CONTRACTS)
def test_a_plain_consumer_reads_each_record_and_it_keeps_its_contract(stack, topic):
    messages, partitions = read_all(stack.broker, f"{PREFIX}.{topic}")
    schema = jsonschema.Draft202012Validator(json.loads((FOLDER / f"{CONTRACTS[topic]}.schema.json").read_text()))
    for message in messages:
        record = json.loads(message.value())
        schema.validate(record)
        task = record.get("task", "")
        if topic not in {"mails", "operations", "tasks"}:
            assert message.partition() == partition_of(task.encode(), partitions)
    expected = {"tasks": 1, "policies": 1, "reports": 1, "mails": 1, "operations": 2}.get(topic, 0)
    assert len(messages) >= expected


def test_a_plain_consumer_reads_transitions_and_what_was_rejected(stack):
    messages, partitions = read_all(stack.broker, f"{PREFIX}.transitions")
    packed = [m for m in messages if ("content-type", b"application/vnd.apache.arrow.stream") in (m.headers() or [])]
    assert sum(pa.ipc.open_stream(m.value()).read_all().num_rows for m in packed) == 5 * 64 * 100
    assert all(m.partition() == partition_of(m.key(), partitions) for m in packed)
    (rejected,), _ = read_all(stack.broker, f"{PREFIX}.transitions.rejected")
    headers = dict(rejected.headers())
    assert headers["rule"] in {b"type", b"unknown_task"}
    assert rejected.value() == b'{"schema_version": 1, "task": "unheard-of"}'
    source = next(
        m for m in messages if (m.partition(), m.offset()) == (int(headers["partition"]), int(headers["offset"]))
    )
    assert source.value() == rejected.value()


def test_every_topic_was_made(stack):
    admin = confluent_kafka.Consumer({"bootstrap.servers": stack.broker, "group.id": "look"})
    topics = admin.list_topics(timeout=10).topics
    admin.close()
    assert {f"{PREFIX}.{name}" for name in (*SINGLE, *PARTITIONED)} <= topics.keys()


def test_the_doctor_names_the_servers_and_finds_nothing_wrong(stack):
    checks = {check["name"]: check for check in stack.json("doctor")[0]["checks"]}
    assert all(check["ok"] for check in checks.values())
    for part, words in {"log": "1 broker", "index": "Cassandra 5", "cache": "Redis 7", "policies": "1 node"}.items():
        assert words in checks[part]["detail"]


def test_policies_are_retrained_from_cassandra_to_the_same_weights(stack):
    versions = stack.json("policy", "list")
    assert versions
    for version in versions:
        (found,) = stack.json("policy", "replay", version["policy"])
        assert found["equal"]
        assert found["hash"] == version["hash"]


def test_what_people_decide_is_followed(stack):
    """hold, rollback and release are records on `policies`; the fleet acts with what they name."""
    (held,) = stack.json("policy", "hold", "cloud", "--reason", "audit", "--who", "ada")
    assert (held["held"], held["decided_by"], held["reason"]) == (True, "ada", "audit")
    messages, _ = read_all(stack.broker, f"{PREFIX}.policies")
    assert json.loads(messages[-1].value()) == held
    stack("policy", "release", "cloud", "--reason", "done")
    assert stack.json("policy", "list")[-1]["serves"]


def test_the_index_answers(stack):
    windows = stack.json("query", "windows", "--task", "cloud", "--limit", "1000")
    assert sum(window["rows"] for window in windows) == 5 * 64 * 100
    rows = stack.json("query", "transitions", "--task", "cloud", "--agent", "agent-0007", "--limit", "1000")
    assert len(rows) == 500
    assert len(stack("index", "hash").split()[0]) == 64
