"""An embedded stream behind the API: two tasks with rows, versions, a report, directives and a refused message."""

import json
import time
from contextlib import contextmanager

import msgspec
import numpy as np
from fastapi.testclient import TestClient
from test_ask import weights

from headrace.learners.acting import ACTION_HIGH, ACTION_LOW, LOG_STD
from headrace.learners.checkpoint import pack, weights_hash
from headrace.pipelines.ingest import job as ingest
from headrace.pipelines.runtime.flow import run
from headrace.pipelines.serve.access import Gate
from headrace.pipelines.serve.app import create_app
from headrace.pipelines.serve.site import Site
from headrace.pipelines.serve.view import View
from headrace.pipelines.tasks import add_task
from headrace.pipelines.wiring import compose_ingest
from headrace.schemas import codec
from headrace.schemas.ports import Record
from headrace.schemas.records import (
    Bounds,
    Directive,
    Fact,
    Facts,
    LineageEntry,
    Narrative,
    PolicyVersion,
    Report,
    Sentence,
    Series,
    ServingPolicy,
    TaskSpec,
)

T0 = 1_780_000_020_000  # a minute's beginning
MINUTE = 60_000
VALVE = TaskSpec("valve", ("x0", "x1", "x2"), ("a", "b", "c"), MINUTE, groups=4, reward_terms=("flow",))
PUMP = TaskSpec("pump", ("pressure", "heat"), Bounds((-1.0, -2.0), (1.0, 2.0)), MINUTE, groups=4)
AGENTS = {"valve": ("v1", "v2"), "pump": ("p1",)}
NOW_MS = T0 + 60 * MINUTE


def row(spec, agent, step, rng=None, **changes):
    """A transition as a producer sends it: two a minute, the action by turns."""
    rng = rng or np.random.default_rng(step)
    found = {
        "schema_version": 1,
        "task": spec.task,
        "agent_id": agent,
        "episode_id": f"e{step // 20}",
        "step": step % 20,
        "ts": T0 + step * MINUTE // 2,
        "obs": rng.normal(size=spec.width).round(3).tolist(),
        "action": step % 3 if spec.discrete else [0.5, -0.25],
        "reward": round(float(rng.normal()), 3),
        "next_obs": rng.normal(size=spec.width).round(3).tolist(),
        "terminated": step % 20 == 19,
        "truncated": False,
        "policy_version": 1,
    }
    return found | ({"reward_terms": {"flow": 1.0}} if spec.reward_terms else {}) | changes


def take_in(services):
    """Ingest to the log's end."""
    job = compose_ingest(services, until_caught_up=True)
    try:
        run(ingest.dataflow(job), job.stop)
    finally:
        job.close()


def store_version(services, spec, number, *, serves=True, **changes):
    """A version, and, where it serves, the record that says so."""
    payload = weights(spec, number) if spec.discrete else pump_weights()
    lineage = [LineageEntry(one.reference, 0, 0) for one in services.index.scan(spec.task, payload=False)]
    version = PolicyVersion(
        *(spec.task, number, number - 1 or None, "dqn", {}, 0, "0", weights_hash(payload), 40 * number, 10 * number),
        lineage=lineage,
        evaluation={"policy": 10.0 + number, "floor": 10.0},
        difference=None,
        promoted=serves,
        reason="",
    )
    services.policies.put(version, payload)
    if serves:
        record = ServingPolicy(spec.task, number, version.weights_hash, "gate", "it won", T0 + number, **changes)
        services.log.send([Record("policies", spec.task.encode(), msgspec.json.encode(record))])


def pump_weights():
    matrix = np.float32([[1.0, 0.0], [0.0, 1.0]])
    bounds = {ACTION_LOW: np.float32([-1, -2]), ACTION_HIGH: np.float32([1, 2]), LOG_STD: np.float32([-1, -1])}
    return pack({"mean.weight": matrix, "mean.bias": np.zeros(2, np.float32), **bounds})


def report(task, number):
    facts = Facts(task, f"v{number}", (Fact("return.change", "Return, change", 1.5, "return", 1.0, 2.0, "up"),))
    told = Narrative("template", Sentence("It is better by {return.change}", {"return.change": "up"}), ())
    series = {"terms": [Series("v1", (0.0,), (1.0,), ("flow",), (0.5,), (1.5,))]}
    return Report(f"{task}.version.{number}", task, "version", T0 + number, T0 + number, number, facts, told, series)


def fill(services):
    """Tasks, forty rows of each agent and one that is refused, versions, two reports, two directives."""
    services.initialise(sample_every=1)
    for spec in (VALVE, PUMP):
        add_task(services.log, spec)
        for agent in AGENTS[spec.task]:
            rng = np.random.default_rng(len(agent))
            sent = [json.dumps(row(spec, agent, step, rng)).encode() for step in range(40)]
            services.log.send([Record("transitions", agent.encode(), value) for value in sent])
    bad = json.dumps(row(VALVE, "v1", 41, action=7, agent_id="<script>alert(1)</script>")).encode()
    services.log.send([Record("transitions", b"v1", bad)])
    for partition in range(services.log.topic("transitions").partitions):
        beat = codec.heartbeat("valve", "v1", NOW_MS)
        services.log.send([Record("transitions", b"v1", beat, partition=partition)])
    take_in(services)
    store_version(services, VALVE, 1)
    store_version(services, VALVE, 2)
    store_version(services, PUMP, 1)
    reports = [Record("reports", b"r", msgspec.json.encode(report("valve", number))) for number in (1, 2)]
    services.log.send(reports)
    for number, verdict in ((1, "accepted"), (2, "refused")):
        said = (f"valve.2.{number}", "valve", "epsilon_end", 0.1, "rules", verdict, "bounds", "why", T0 + number)
        services.log.send([Record("directives", b"valve", msgspec.json.encode(Directive(*said)))])


@contextmanager
def served(services, read=True):
    """A client of the API, once it has read the log."""
    site = Site(services, View(services.log), Gate(services.tokens, services.clock, "owner"))
    with TestClient(create_app(site), base_url="http://localhost:8080", raise_server_exceptions=False) as client:
        client.site = site
        if read:
            until(lambda: not site.view.trouble and site.view.changes)
        yield client


def until(condition, within_s=20.0):
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
