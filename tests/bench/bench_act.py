"""One JSON line each: an act by kind of policy, its floor and its latencies beside it; and the start of an agent.

Run: `python tests/bench/bench_act.py`.
"""

import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
from timing import best_s, report

from headrace.learners.acting import BoxPolicy, Network, Policy, load_policy
from headrace.learners.checkpoint import pack
from headrace.learners.stream.exploring import Exploration
from headrace.pipelines.act import Agent, follow
from headrace.pipelines.act.versions import Version
from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import open_services

WIDTH, ACTIONS, HIDDEN, CALLS, ROUNDS, STARTS = 4, 2, 64, 100, 200, 7
FIRST_ACT = """
import time; began = time.perf_counter()
from headrace.pipelines.act import follow
import numpy as np
agent = follow("bench", fallback=0)
agent.act(np.zeros(4, np.float32))
print(time.perf_counter() - began, time.process_time())
"""


def weights(head: str) -> bytes:
    """A policy of two layers of 64, with a normaliser."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0.0, 0.2, shape).astype(np.float32)

    arrays = {"hidden_0.weight": normal(WIDTH, HIDDEN), "hidden_0.bias": normal(HIDDEN)}
    arrays |= {"hidden_1.weight": normal(HIDDEN, HIDDEN), "hidden_1.bias": normal(HIDDEN)}
    arrays |= {"observation.mean": normal(WIDTH), "observation.scale": np.ones(WIDTH, np.float32)}
    arrays |= {f"{head}.weight": normal(HIDDEN, ACTIONS), f"{head}.bias": normal(ACTIONS)}
    if head == "advantage":
        arrays |= {"value.weight": normal(HIDDEN, 1), "value.bias": normal(1)}
    else:
        arrays |= {"activation.tanh": np.ones(1, np.float32)}
    if head == "mean":
        arrays |= {"log_std": normal(ACTIONS), "action.low": np.full(ACTIONS, -1.0, np.float32)}
    return pack(arrays)


def acting(policy: Policy | BoxPolicy, *, explore: bool) -> Agent:
    """An agent that has loaded a policy; it follows a log that isn't there."""
    agent = follow("bench", fallback=0, explore=explore, look_every_s=3_600.0)
    agent._choice.take(None, Version("bench", 1, "", 10_000, b"", policy), Exploration())
    return agent


def dots(network: Network, obs: np.ndarray) -> Callable[[], None]:
    """The bare matrix products, into memory that is there: what no act in NumPy goes below."""
    widths = [WIDTH, *(weight.shape[1] for weight, _ in network.layers)]
    rows = [np.zeros(width, np.float32) for width in widths]
    steps = [(row, weight, out) for row, (weight, _), out in zip(rows, network.layers, rows[1:], strict=False)]

    def call() -> None:
        for row, weight, out in steps:
            row.dot(weight, out)

    return call


def bench_act(name: str, head: str, *, explore: bool) -> None:
    obs, policy = np.full(WIDTH, 0.1, np.float32), load_policy(weights(head))
    agent = acting(policy, explore=explore)
    act_s = best_s(lambda: agent.act(obs), ROUNDS, CALLS)
    floor_s = best_s(dots(policy.network, obs), ROUNDS, CALLS)
    report(f"act_{name}", batch=1, microseconds=act_s * 1e6, floor_us=floor_s * 1e6, to_floor=act_s / floor_s)
    agent.close()


def bench_latency() -> None:
    """Wall time of each act while a thread looks on the log a hundred times a second."""
    obs = np.full(WIDTH, 0.1, np.float32)
    with open_services(read_settings({}), create=True) as services:
        services.initialise()
    with follow("bench", fallback=0, look_every_s=0.01) as agent:
        agent._choice.take(None, Version("bench", 1, "", 0, b"", load_policy(weights("logits"))), Exploration())
        taken = np.empty(300_000)
        for i in range(len(taken)):
            began = time.perf_counter_ns()
            agent.act(obs)
            taken[i] = time.perf_counter_ns() - began
    p50, p99, p999 = np.percentile(taken, [50, 99, 99.9]) / 1e3
    report("act_latency", p50_us=p50, p99_us=p99, p999_us=p999)


def bench_start() -> None:
    """From the interpreter's first line to the first act, wall and CPU seconds: the median and the least of seven."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = [
        subprocess.run([sys.executable, "-c", FIRST_ACT], env=env, check=True, capture_output=True, text=True)
        for _ in range(STARTS + 1)
    ]
    wall, cpu = zip(*(map(float, one.stdout.split()) for one in done[1:]), strict=True)
    wall_ms, cpu_ms = 1e3 * statistics.median(wall), 1e3 * statistics.median(cpu)
    report("act_start", wall_ms=wall_ms, least_wall_ms=1e3 * min(wall), cpu_ms=cpu_ms)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        logging.getLogger("headrace").setLevel(logging.ERROR)  # there is no log to follow at first
        for name, head, explore in (
            ("greedy", "advantage", False),
            ("epsilon", "advantage", True),
            ("softmax", "logits", True),
            ("normal", "mean", True),
        ):
            bench_act(name, head, explore=explore)
        bench_latency()
        bench_start()
