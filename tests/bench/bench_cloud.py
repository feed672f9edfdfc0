"""Steps a second of the environment: python -m tests.bench.bench_cloud [episodes].

One JSON line a case, with wall and CPU seconds. Run with OMP_NUM_THREADS=1.
"""

import sys
from collections.abc import Callable

import numpy as np
from timing import report, timed

from headrace.learners.cloud import CloudEnv, CloudVectorEnv, Simulation, draw_traces
from headrace.learners.cloud.baselines import Clairvoyant

ENVIRONMENTS = 256
STEPS = 100


def simulate(episodes: int) -> int:
    simulation = Simulation(draw_traces(0, ENVIRONMENTS, STEPS))
    actions = np.random.default_rng(0).integers(5, size=(STEPS, ENVIRONMENTS))
    for _ in range(episodes):
        simulation.reset()
        for step in range(STEPS):
            simulation.step(actions[step])
    return episodes * STEPS * ENVIRONMENTS


def vector(episodes: int) -> int:
    """Drawing of the traces included: each episode is a new one."""
    env = CloudVectorEnv(ENVIRONMENTS)
    env.reset(seed=0)
    actions = np.full(ENVIRONMENTS, 2)
    for _ in range(episodes * (STEPS + 1)):
        env.step(actions)
    return episodes * STEPS * ENVIRONMENTS


def single(episodes: int) -> int:
    env = CloudEnv()
    for episode in range(episodes):
        env.reset(seed=episode)
        for _ in range(STEPS):
            env.step(np.int64(2))
    return episodes * STEPS


def draw(episodes: int) -> int:
    draw_traces(0, episodes * ENVIRONMENTS, STEPS)
    return episodes * ENVIRONMENTS


def plan(episodes: int) -> int:
    del episodes
    Clairvoyant(draw_traces(0, 512, STEPS))
    return 512


def measure(name: str, case: Callable[[int], int], episodes: int, unit: str) -> None:
    counts: list[int] = []
    cpu_s, wall_s = timed(lambda: counts.append(case(episodes)))
    report(name, **{unit: counts[0], "wall_s": wall_s, "cpu_s": cpu_s, f"{unit}_per_s": counts[0] / wall_s})


def main() -> None:
    episodes = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    measure("simulation_256", simulate, episodes, "steps")
    measure("vector_256", vector, episodes, "steps")
    measure("single", single, episodes, "steps")
    measure("draw_traces", draw, 8, "traces")
    measure("clairvoyant", plan, 1, "traces")


if __name__ == "__main__":
    main()
