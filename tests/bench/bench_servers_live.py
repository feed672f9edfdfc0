"""Ingest as a service, under a stream: freshness, the CPU of slow agents, two processes against one, and the soak.

Each function runs `headrace run ingest` as processes of their own, on servers that the settings name.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import numpy as np
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from headrace.pipelines.bench import ingest as bench_ingest
from headrace.pipelines.bench import rows as bench_rows
from headrace.pipelines.bench.process import cpu_s, memory_mb
from headrace.pipelines.bench.scratch import scratch
from headrace.pipelines.query import scan as query
from headrace.pipelines.settings import Settings
from headrace.pipelines.tasks import add_task
from headrace.pipelines.topics import INGEST, TRANSITIONS, WINDOWS
from headrace.pipelines.wiring import ADAPTERS, Services, open_services
from headrace.schemas.ports import Log, Record
from headrace.schemas.records import TaskSpec, WindowSummary
from headrace.sinks.kafka.target import parse_cluster

HEADRACE = [sys.executable, "-c", "from headrace.pipelines.cli import main; main()"]
LIVE = TaskSpec(task="live", observations=bench_rows.SPEC.observations, actions=bench_rows.ACTIONS, window_ms=2_000)
TICK_S = 0.1
PROBE = "probe"


def environment(settings: Settings) -> dict[str, str]:
    urls = {f"HEADRACE_{name.upper()}": getattr(settings, name).text for name in ADAPTERS}
    return {**os.environ, **urls, "OMP_NUM_THREADS": "1"}


@contextmanager
def ingest(settings: Settings, *options: str) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([*HEADRACE, "run", "ingest", *options], env=environment(settings))
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def repeating(call: Callable[[], None]) -> Iterator[None]:
    """Call in a thread again and again until the block is left."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            call()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join(10)


@dataclass
class Stream:
    """10,000 agents that send a transition a second each, and a probe that sends ten."""

    log: Log
    agents: int
    sent_s: dict[int, float] = field(default_factory=dict)
    tick: int = 0
    next_s: float = field(default_factory=time.time)

    def send(self) -> None:
        """Send what is due in a tick, once it has come."""
        time.sleep(max(0.0, self.next_s - time.time()))
        self.next_s += TICK_S
        now_s, per_tick = time.time(), round(self.agents * TICK_S)
        first = self.tick % round(1 / TICK_S) * per_tick
        names = [f"agent-{i:05d}" for i in range(first, first + per_tick)]
        step = self.tick // round(1 / TICK_S)
        records = [self.record(name, step, now_s) for name in names]
        self.sent_s[self.tick] = time.time()
        self.log.send([self.record(PROBE, self.tick, now_s), *records])
        self.tick += 1

    def record(self, name: str, step: int, now_s: float) -> Record:
        obs = [0.1257, -0.1321, 0.6404, 0.1049, -0.5357, 0.3616, 1.304, 0.9471]
        row = {"schema_version": 1, "task": LIVE.task, "agent_id": name, "episode_id": "e0", "step": step}
        row |= {"ts": int(now_s * 1000), "obs": obs, "action": 3, "reward": 1.5603, "next_obs": obs}
        return Record(TRANSITIONS, name.encode(), msgspec.json.encode(row | {"terminated": False, "truncated": False}))


class Told:
    """When each window's summary was first seen on `windows`, by a reader of committed messages."""

    def __init__(self, settings: Settings, partitions: int, grace_ms: int) -> None:
        cluster = parse_cluster(settings.log)
        own = {"bootstrap.servers": cluster.servers, "group.id": "told", "isolation.level": "read_committed"}
        self.consumer = Consumer({**own, "fetch.wait.max.ms": 10})
        self.consumer.assign([TopicPartition(cluster.name(WINDOWS), p, 0) for p in range(partitions)])
        self.grace_ms = grace_ms
        self.late_s: dict[bytes, float] = {}

    def read(self) -> None:
        for message in self.consumer.consume(500, 0.02):
            if message.key() not in self.late_s:
                end_ms = msgspec.json.decode(message.value(), type=WindowSummary).end_ms
                self.late_s[message.key()] = time.time() - (end_ms + self.grace_ms) / 1000


def visible(services: Services, stream: Stream, seen: dict[int, float]) -> None:
    """Ask the index for the probe's newest rows; note when each was first there."""
    selection = query.Selection(LIVE, PROBE, start_ms=int(time.time() * 1000) - 5_000)
    steps = [row["step"] for row in query.transitions(services.index, selection)]
    now_s = time.time()
    for step in steps:
        seen.setdefault(step, now_s - stream.sent_s[step])
    time.sleep(0.02)


def freshness(settings: Settings, agents: int = 10_000, seconds: float = 30.0, warm_up_s: float = 15.0) -> dict:
    """10,000 agents at a transition a second: how soon a row is visible and a window told, and the CPU of ingest."""
    with scratch(settings) as place, open_services(place, create=True) as services:
        layout = services.initialise(partitions=4)
        add_task(services.log, LIVE)
        stream, told = Stream(services.log, agents), Told(place, 4, layout.grace_ms)
        seen: dict[int, float] = {}
        with ingest(place) as process, repeating(stream.send), repeating(told.read):
            time.sleep(warm_up_s)
            first, began_s, used_s = stream.tick, time.perf_counter(), cpu_s(process.pid)
            told.late_s.clear()
            while time.perf_counter() - began_s < seconds:
                visible(services, stream, seen)
            used_s = cpu_s(process.pid) - used_s
            wall_s = time.perf_counter() - began_s
            sent = stream.tick - first
        told.consumer.close()
    rows_ms = np.array([late_s for step, late_s in seen.items() if step >= first]) * 1e3
    windows_ms = np.array([late_s for late_s in told.late_s.values() if late_s < seconds]) * 1e3
    return {
        "rows_per_s": round(sent * agents * TICK_S / wall_s),
        "visible_p50_ms": round(float(np.percentile(rows_ms, 50))),
        "visible_p95_ms": round(float(np.percentile(rows_ms, 95))),
        "told_p50_ms": round(float(np.percentile(windows_ms, 50))),
        "told_p95_ms": round(float(np.percentile(windows_ms, 95))),
        "core_share": round(used_s / wall_s, 3),
    }


def committed(log: Log) -> int:
    return sum(commit.offset for commit in log.committed(INGEST, TRANSITIONS).values())


def ends(log: Log) -> int:
    return sum(log.bounds(TRANSITIONS, p)[1] for p in range(log.topic(TRANSITIONS).partitions))


def rate(settings: Settings, processes: int, rows: int) -> dict:
    """Messages a second of so many ingest processes, by what is committed between a tenth and nine tenths of all."""
    load = bench_ingest.Load(rows=rows, warm_up=0)
    with scratch(settings) as place:
        bench_ingest.prepare(place, load)
        with open_services(place) as services:
            total, samples = ends(services.log), []
            running = [subprocess.Popen([*HEADRACE, "run", "ingest"], env=environment(place)) for _ in range(processes)]
            try:
                while not samples or samples[-1][1] < total:
                    samples.append((time.perf_counter(), committed(services.log), sum(cpu_s(p.pid) for p in running)))
                    time.sleep(0.1)
            finally:
                for process in running:
                    process.terminate()
                for process in running:
                    process.wait(30)
    middle = [sample for sample in samples if total * 0.1 <= sample[1] <= total * 0.9]
    (began_s, first, cpu_first_s), (ended_s, last, cpu_last_s) = middle[0], middle[-1]
    return {
        "processes": processes,
        "rows_per_s": round((last - first) / (ended_s - began_s)),
        "cpu_s_per_million": round((cpu_last_s - cpu_first_s) / (last - first) * 1e6, 2),
    }


def produce_for_ever(settings: Settings, rate_s: float) -> None:
    """Send Arrow messages at a rate; run in a process of its own."""
    with open_services(settings) as services:
        sent, began_s = 0, time.perf_counter()
        block = 64 * bench_rows.MESSAGE_ROWS["arrow"]
        for count, records in bench_rows.messages("arrow", 64, 1 << 60):
            services.log.send(records)
            sent += count
            time.sleep(max(0.0, began_s + (sent + block) / rate_s - time.perf_counter()))


def keep_little(settings: Settings) -> None:
    """Let the topic drop what was read long ago: the soak writes tens of gigabytes."""
    cluster = parse_cluster(settings.log)
    admin = AdminClient({"bootstrap.servers": cluster.servers})
    wanted = {"retention.bytes": "1000000000", "segment.bytes": "100000000"}
    entries = [ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in wanted.items()]
    resource = ConfigResource(ResourceType.TOPIC, cluster.name(TRANSITIONS), incremental_configs=entries)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


def soak(settings: Settings, rows_per_s: float, minutes: float) -> dict:
    """Arrow at a steady rate: throughput, memory and lag, by the minute."""
    load = bench_ingest.Load(form="arrow", rows=1, warm_up=0)
    minutes_seen: list[dict] = []
    with scratch(settings) as place:
        bench_ingest.prepare(place, load)
        keep_little(place)
        command = [sys.executable, __file__, str(rows_per_s)]
        with open_services(place) as services, ingest(place) as process:
            producer = subprocess.Popen(command, env=environment(place))
            try:
                before = committed(services.log)
                while len(minutes_seen) < minutes:
                    began_s = time.perf_counter()
                    time.sleep(60)
                    now, end = committed(services.log), ends(services.log)
                    minutes_seen.append(
                        {
                            "rows_per_s": round((now - before) * 256 / (time.perf_counter() - began_s)),
                            "lag_rows": (end - now) * 256,
                            "memory_mb": round(memory_mb(process.pid)),
                        }
                    )
                    print(minutes_seen[-1], file=sys.stderr, flush=True)
                    before = now
            finally:
                producer.terminate()
                producer.wait(30)
    return {"minutes": minutes_seen}


if __name__ == "__main__":
    from headrace.pipelines.settings import read_settings

    produce_for_ever(read_settings(), float(sys.argv[1]))
