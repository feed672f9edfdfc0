"""Jobs as a user runs them, on Kafka, Cassandra and Redis; what came of them; and the same on SQLite to compare with.

A stack has a prefix, a keyspace and a cache prefix of its own on servers that tests share.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from headrace.pipelines.settings import read_settings
from headrace.pipelines.topics import messages
from headrace.pipelines.wiring import open_services
from headrace.schemas.ports import Record
from local_servers import processes

HEADRACE = str(Path(sys.executable).with_name("headrace"))
IMPATIENT = "session.timeout.ms=1000&heartbeat.interval.ms=300&transaction.timeout.ms=2000"
"""A process that is gone is noticed after a second, and its open transaction after two."""
GROUPS = {"ingest": "transitions", "learn": "windows", "explain": "windows"}
"""What each group reads."""


class Outcome(NamedTuple):
    """The index's hash, the last summary of each window, and what was rejected: (partition, offset, rule)."""

    index_hash: str
    windows: dict[bytes, bytes]
    rejected: frozenset[tuple[bytes, bytes, bytes]]


class Job:
    """A running `headrace run ...`; its stderr goes to a file, so that it never waits for a reader."""

    def __init__(self, arguments, folder, environment):
        self.log = folder / f"{'-'.join(arguments[:2])}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [HEADRACE, *arguments], stdout=subprocess.DEVNULL, stderr=stderr, cwd=folder, env=environment
            )

    @property
    def pid(self):
        return self.process.pid

    @property
    def running(self):
        return self.process.poll() is None

    def ready(self):
        """Wait until it says that it is ready."""
        wait_until(lambda: "is ready" in self.told() or not self.running, 60, self.told)
        assert self.running, self.told()
        return self

    def told(self):
        return self.log.read_text(errors="replace")

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.send(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """SIGTERM: a clean stop."""
        self.send(signal.SIGTERM)
        assert self.process.wait(20) == 0, self.told()
        assert "Traceback" not in self.told(), self.told()

    def memory_mb(self):
        return processes.memory_mb(self.pid)


class Stack:
    """The settings of one headrace, and what a test asks of it."""

    def __init__(self, folder, urls, broker):
        self.folder = folder
        self.urls = urls
        self.broker = broker
        self.prefix = re.sub(r"\?.*", "", urls["log"]).rsplit("/", 1)[-1]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        own = {f"HEADRACE_{name.upper()}": url for name, url in urls.items()}
        self.environment = clean | own | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
        self._client = {"bootstrap.servers": broker, "log_level": 2}
        self.admin = AdminClient(self._client)
        self._jobs = []

    def run(self, *arguments, code=0, within_s=600):
        """Run a command to its end; returns what it printed."""
        done = subprocess.run(
            [HEADRACE, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=self.environment,
            timeout=within_s,
        )
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stderr[-3_000:]}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stdout

    def start(self, *arguments, **urls):
        """Start a job that goes on; urls: settings of its own."""
        own = {f"HEADRACE_{name.upper()}": url for name, url in urls.items()}
        job = Job(arguments, self.folder, self.environment | own)
        self._jobs.append(job)
        return job

    def close(self):
        for job in self._jobs:
            if job.running:
                job.kill()

    @contextmanager
    def services(self, **urls):
        with open_services(read_settings(self.urls | urls)) as opened:
            yield opened

    def initialise(self, tasks=(), *, partitions=2, segment=64):
        """`headrace init`, and the tasks."""
        self.run("init", "--partitions", str(partitions), "--segment", str(segment))
        with self.services() as services:
            services.log.send([Record("tasks", spec.task.encode(), msgspec.json.encode(spec)) for spec in tasks])

    def read(self, topic):
        """Read a topic to its end as any consumer would: by plain confluent-kafka, committed messages only."""
        return read_committed(self.broker, f"{self.prefix}.{topic}")

    def committed(self, group="ingest"):
        """The sum of a group's offsets, whatever transaction is open."""
        topic = f"{self.prefix}.{GROUPS[group]}"
        # (The driver's AdminClient dies where a broker that starts says that it is not the coordinator.)
        consumer = Consumer(
            {**self._client, "group.id": f"{self.prefix}.{group}", "isolation.level": "read_uncommitted"}
        )
        try:
            partitions = self._partitions(topic)
            found = self._asked(lambda: consumer.committed(partitions, 5))
        finally:
            consumer.close()
        return sum(max(0, place.offset) for place in found)

    def end(self, topic="transitions"):
        """The sum of a topic's end offsets."""
        asked = {place: OffsetSpec.latest() for place in self._partitions(f"{self.prefix}.{topic}")}
        futures = self._asked(
            lambda: [f.result(10) for f in self.admin.list_offsets(asked, request_timeout=5).values()]
        )
        return sum(found.offset for found in futures)

    def _partitions(self, name):
        found = self._asked(lambda: self.admin.list_topics(name, timeout=5).topics[name].partitions)
        return [TopicPartition(name, partition) for partition in found]

    def members(self, group="ingest"):
        """How many members of a group have partitions."""
        (asked,) = self.admin.describe_consumer_groups([f"{self.prefix}.{group}"], request_timeout=5).values()
        members = self._asked(lambda: asked.result(10)).members
        return sum(bool(member.assignment and member.assignment.topic_partitions) for member in members)

    def _asked(self, ask, within_s=15):
        """Ask the broker, again and again while it finds its feet."""
        deadline_s = time.monotonic() + within_s
        while True:
            try:
                return ask()
            except KafkaException:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.1)

    def forget(self, group, topic):
        """Drop a group's commits, and make a topic anew, as if its job had never run."""
        name = f"{self.prefix}.{topic}"
        self._asked(lambda: [f.result(10) for f in self.admin.delete_topics([name]).values()])
        groups = [f"{self.prefix}.{group}"]
        self._asked(lambda: [f.result(10) for f in self.admin.delete_consumer_groups(groups).values()])
        wait_until(lambda: name not in self.admin.list_topics(timeout=5).topics, 10)
        self.run("init")

    def lag(self):
        return self.end() - self.committed()

    def outcome(self):
        windows = [(message.key(), message.value()) for message in self.read("windows")]
        assert not windows or max(Counter(windows).values()) == 1, "an identical message came twice"
        rejected = Counter(_place(message.headers()) for message in self.read("transitions.rejected"))
        assert not rejected or max(rejected.values()) == 1, "a message was rejected twice"
        return Outcome(self.run("index", "hash").strip(), dict(windows), frozenset(rejected))

    def on_sqlite(self):
        """Ingest the same messages, with their append times, on SQLite in one undisturbed run."""
        folder = self.folder / "sqlite"
        folder.mkdir()
        urls = {"log": f"sqlite://{folder}/log.db", "index": f"sqlite://{folder}/index.db"}
        clock = _SetClock()
        with self.services() as services, open_services(read_settings(urls), clock, create=True) as other:
            index = services.index.layout()
            other.initialise(partitions=services.log.topic("transitions").partitions, segment=index.segment)
            copy(services.log, other.log, clock)
        environment = self.environment | {f"HEADRACE_{name.upper()}": url for name, url in urls.items()}
        environment["HEADRACE_CACHE"] = "memory:"
        twin = SqliteStack(folder, urls, environment)
        twin.run("run", "ingest", "--until-caught-up")
        return twin.outcome()


class SqliteStack:
    """The same on SQLite."""

    def __init__(self, folder, urls, environment):
        self.folder = folder
        self.urls = urls
        self.environment = environment

    run = Stack.run

    def outcome(self):
        with open_services(read_settings(self.urls)) as services:
            windows = [
                pair
                for batch in messages(services.log, "windows")
                for pair in zip(batch.keys, batch.values, strict=True)
            ]
            rejected = [
                _place(headers) for batch in messages(services.log, "transitions.rejected") for headers in batch.headers
            ]
        return Outcome(self.run("index", "hash").strip(), dict(windows), frozenset(rejected))


class _SetClock:
    now_ms = 0

    def __call__(self):
        return self.now_ms


def copy(source, target, clock):
    """Copy tasks and transitions, each message with its partition, its offset and its append time."""
    for topic in ("tasks", "transitions"):
        for batch in messages(source, topic):
            records = [
                Record(topic, key, value, headers, batch.partition)
                for key, value, headers in zip(batch.keys, batch.values, batch.headers, strict=True)
            ]
            assert batch.offsets[-1] - batch.offsets[0] == len(batch) - 1
            start = 0
            for end in [*(i for i in range(1, len(batch)) if batch.append_ts[i] != batch.append_ts[i - 1]), len(batch)]:
                clock.now_ms = int(batch.append_ts[start])
                target.send(records[start:end])
                start = end


def _place(headers):
    found = dict(headers)
    return found["partition"], found["offset"], found["rule"]


def read_committed(broker, topic):
    config = {"bootstrap.servers": broker, "group.id": "reader", "isolation.level": "read_committed"}
    consumer = Consumer(config | {"enable.auto.commit": False, "enable.partition.eof": True})
    found = []
    try:
        partitions = consumer.list_topics(topic, 10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        waiting, deadline_s = set(partitions), time.monotonic() + 60
        while waiting:
            assert time.monotonic() < deadline_s, f"{topic}: partitions {waiting} don't end"
            for message in consumer.consume(1_000, 0.2):
                if message.error() is None:
                    found.append(message)
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    waiting.discard(message.partition())
    finally:
        consumer.close()
    return found


def wait_until(reached, within_s, explain=lambda: ""):
    """Return the seconds that it took."""
    began_s = time.monotonic()
    while not reached():
        if time.monotonic() - began_s > within_s:
            raise TimeoutError(f"not reached within {within_s} s\n{explain()}")
        time.sleep(0.05)
    return time.monotonic() - began_s


def told(label, **figures):
    """Print a test's figures in one line, for -s."""
    shown = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )
    print(f"\n[{label}] {shown}")
