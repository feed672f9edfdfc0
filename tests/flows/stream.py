"""A small embedded stream on SQLite, for the tests of learn, fleet and the whole."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.learners.checkpoint import weights_hash
from headrace.learners.dqn import DQNConfig
from headrace.learners.stream.training import LearnSettings
from headrace.pipelines.fleet.job import Fleet, VirtualClock, cloud_task
from headrace.pipelines.ingest import job as ingest
from headrace.pipelines.learn import job as learn
from headrace.pipelines.learn.learner import Learning
from headrace.pipelines.runtime.flow import run
from headrace.pipelines.tasks import TaskTable, add_task
from headrace.schemas.records import Layout, ServingPolicy
from headrace.sinks.chunks import CachedChunks
from headrace.sinks.files.policies import FilePolicyStore
from headrace.sinks.memory import MemoryCache
from headrace.sinks.sqlite.index import SqliteIndex
from headrace.sinks.sqlite.log import SqliteLog

CONFIG = DQNConfig(hidden=(16,), batch_size=64, replay_capacity=3_000, learning_rate_steps=500, normaliser_updates=50)
SETTINGS = LearnSettings(
    samples_per_row=2.0,
    min_rows=200,
    learning_starts=800,
    candidate_rows=1_500,
    checkpoint_rows=900,
    gate="none",
    gate_traces=16,
)


@dataclass
class Stream:
    folder: Path
    log: SqliteLog
    index: SqliteIndex
    chunks: CachedChunks
    store: FilePolicyStore
    clock: VirtualClock
    layout: Layout

    def advance(self, now_ms):
        self.clock.now_ms = max(self.clock.now_ms, now_ms)

    def fleet(self, **options):
        return Fleet(self.log, self.store, cloud_task(), self.layout, **{"agents": 8} | options)

    def ingest(self):
        job = ingest.Ingest(
            self.log, self.index, MemoryCache(1 << 20), self.layout, until_caught_up=True, timer=lambda: 0.0
        )
        try:
            run(ingest.dataflow(job), job.stop)
        finally:
            job.close()
        return job.counts

    def learner(self, store=None, settings=SETTINGS, config=CONFIG, only=(), from_start=False, **options):
        tasks = TaskTable(self.log, self.layout)
        return learn.Learn(
            self.log,
            self.chunks,
            store or self.store,
            tasks,
            self.clock,
            Learning(config=config, settings=settings, **options),
            only=only,
            from_start=from_start,
            poll_windows=5,
            until_caught_up=True,
        )

    def learn(self, **options):
        job = self.learner(**options)
        try:
            run(learn.dataflow(job), job.stop)
        finally:
            job.close()
        return job

    def policies(self):
        """The values on `policies`, in order."""
        partitions = range(self.log.topic("policies").partitions)
        return [value for p in partitions for value in self.log.read("policies", p, 0, 1_000).values]

    def close(self):
        self.log.close()
        self.index.close()


def open_stream(folder, segment=16, **layout):
    """Open a stream in a folder, making it where it is new."""
    clock = VirtualClock()
    log = SqliteLog(folder / "log.db", clock)
    log.create("tasks", 1)
    for topic in ("transitions", "transitions.rejected", "windows", "policies", "reports", "directives"):
        log.create(topic, 2)
    layout = Layout(log=log.topic("transitions").identity, segment=segment, **layout)
    index = SqliteIndex(folder / "index.db")
    index.layout(layout)
    add_task(log, cloud_task())
    chunks = CachedChunks(index, MemoryCache(64 << 20))
    return Stream(folder, log, index, chunks, FilePolicyStore(folder / "policies"), clock, layout)


def outcome(stream):
    """What learning has come to: versions, their weights, the decisions, the checkpoint's arrays."""
    versions = stream.store.versions("cloud")
    weights = [weights_hash(stream.store.weights("cloud", v.version)) for v in versions]
    decided = [msgspec.json.decode(value, type=ServingPolicy).version for value in stream.policies()]
    return versions, weights, decided, weights_hash(stream.store.load("cloud"))


def undisturbed(recorded, folder, found=outcome, **options):
    """What learning from a copy comes to when nobody is killed."""
    shutil.copytree(recorded, folder)
    stream = open_stream(folder)
    stream.learn(**options)
    result = found(stream)
    stream.close()
    return result


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """A policy store or a subscription at whose writes the process dies now and then, before or after."""

    def __init__(self, real, rng, chance):
        self.real, self.rng, self.chance = real, rng, chance

    def __getattr__(self, name):
        method = getattr(self.real, name)
        if name not in {"put", "save", "commit"}:
            return method

        def call(*arguments):
            self.strike()
            method(*arguments)
            self.strike()

        return call

    def strike(self):
        if self.rng.random() < self.chance:
            raise Killed


def learn_with_kills(stream, seed, most, **options):
    """Learn to the log's end; killed at some writes, at most so often, and started again. Returns how often."""
    rng, kills = random.Random(seed), 0
    while True:
        chance = 0.25 if kills < most else 0.0
        job = stream.learner(store=Mortal(stream.store, rng, chance), **options)
        job._member.subscription = Mortal(job._member.subscription, rng, chance)
        try:
            while True:
                learn_on(job)
        except StopIteration:
            return kills
        except Killed:
            kills += 1
        finally:
            job.close()


def through(job, *items):
    """Items through the steps of a job's dataflow, up to its sink."""
    for _, step in job.steps():
        items = [found for item in items for found in step(item)]
    return [*items]


def learn_on(job):
    """One turn of learn's dataflow."""
    job.commit(through(job, *job.poll()))


def uncached(stream):
    return CachedChunks(stream.index, MemoryCache(0))
