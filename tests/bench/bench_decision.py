"""One JSON line each: the facts of one decision, and their sentences, by task and kind of policy; and the preparation.

Run: `python tests/bench/bench_decision.py`. Networks of two layers of 64 with random weights: what is computed does not
depend on what they learned. Wall time is of a busy machine; CPU time is what it costs.
"""

import time

import gymnasium
import numpy as np
from timing import report

from headrace.learners import seeds
from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.cloud.features import cloud_features, cloud_prior
from headrace.learners.cloud.plant import ACTION_NAMES, OBSERVATION_NAMES
from headrace.learners.cloud.simulator import CloudSimulator
from headrace.learners.explain.decision import decision_facts
from headrace.learners.explain.studied import Decision, studied
from headrace.learners.explain.template import TemplateNarrator
from headrace.learners.prior import prior_to_arrays
from headrace.schemas.decisions import Neighbours
from headrace.schemas.records import Bounds, TaskSpec
from headrace.schemas.transition import TransitionBatch

HIDDEN, ROWS, DECISIONS, NEIGHBOURS = 64, 2_000, 300, 20
CLOUD = TaskSpec("cloud", OBSERVATION_NAMES, ACTION_NAMES, 60_000, environment="headrace/CloudService-v0")
CARTPOLE = TaskSpec("cart", ("position", "speed", "angle", "angular_speed"), ("left", "right"), 60_000)
PENDULUM = TaskSpec("pendulum", ("cos", "sin", "speed"), Bounds((-2.0,), (2.0,)), 60_000)


def network(width: int, head: str, actions: int, features: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """A policy's arrays, with a normaliser."""
    rng = np.random.default_rng(0)
    sizes = [width + (0 if features is None else features.shape[1]), HIDDEN, HIDDEN]
    arrays: dict[str, np.ndarray] = {}

    def layer(name: str, inputs: int, outputs: int) -> None:
        arrays[f"{name}.weight"] = rng.normal(0.0, inputs**-0.5, (inputs, outputs)).astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(0.0, 0.1, outputs).astype(np.float32)

    for place in range(2):
        layer(f"hidden_{place}", sizes[place], sizes[place + 1])
    layer(head, HIDDEN, actions)
    if head == "advantage":
        layer("value", HIDDEN, 1)
    else:
        arrays["activation.tanh"] = np.ones(1, np.float32)
    if head == "mean":
        arrays |= {"log_std": np.zeros(actions, np.float32)}
        arrays |= {"action.low": np.full(actions, -2.0, np.float32), "action.high": np.full(actions, 2.0, np.float32)}
    return arrays if features is None else arrays | {"features.weight": features}


def cloud_rows() -> np.ndarray:
    """The observations of one episode after another, by the rule that policies start from."""
    policy = Policy(network(32, "logits", 5, cloud_features()) | prior_to_arrays(cloud_prior()))
    simulator = CloudSimulator(ROWS // 100, seeds.EXPLANATION.first)
    return simulator.decisions(policy).obs.reshape(100, -1, 32).transpose(1, 0, 2).reshape(-1, 32)


def played(name: str) -> np.ndarray:
    """Observations of random play."""
    made, found = gymnasium.make(name), []
    made.action_space.seed(0)
    obs, _ = made.reset(seed=0)
    while len(found) < ROWS:
        found.append(obs)
        obs, _, terminated, truncated, _ = made.step(made.action_space.sample())
        if terminated or truncated:
            obs, _ = made.reset()
    return np.array(found, np.float32)


def past(spec: TaskSpec, obs: np.ndarray) -> Neighbours:
    """Past decisions, as a look-up gives them."""
    count, width = NEIGHBOURS, obs.shape[1]
    action = (
        np.arange(count, dtype=np.int32) % 2 if spec.discrete else np.linspace(-2, 2, count, dtype=np.float32)[:, None]
    )
    flags, zeros = np.zeros(count, bool), np.zeros(count, np.int32)
    batch = TransitionBatch(
        spec.task,
        ("past",),
        ("e",),
        zeros,
        zeros,
        np.arange(count),
        np.zeros(count, np.int64),
        np.arange(count),
        obs[:count],
        action,
        np.linspace(0, 1, count, dtype=np.float32),
        np.zeros((count, width), np.float32),
        flags,
        flags,
        np.zeros((count, 0), np.float32),
        np.zeros(count, np.int64),
        np.zeros(count, np.float32),
    )
    return Neighbours(batch, np.linspace(0, 1, count))


def measure(name: str, spec: TaskSpec, policy: Policy | BoxPolicy, obs: np.ndarray) -> None:
    """Prepare a version, then tell of decisions on rows of it."""
    began = time.process_time()
    by = studied(1, policy, obs)
    prepared_s = time.process_time() - began
    narrator, similar, times = TemplateNarrator(), past(spec, obs), []
    for place in range(0, len(obs), -(-len(obs) // DECISIONS)):
        action = policy.decide(obs[place])
        history = obs[place - place % 100 : place]
        one = Decision("agent", "e1", place, obs[place], action, history, similar)
        marks = [(time.perf_counter(), time.process_time())]
        facts = decision_facts(spec, one, by)
        marks.append((time.perf_counter(), time.process_time()))
        narrator.tell(facts)
        marks.append((time.perf_counter(), time.process_time()))
        times.append(np.diff(np.array(marks), axis=0).ravel())
    facts_wall, facts_cpu, told_wall, _ = 1e3 * np.array(times).T
    report(
        f"decision_{name}",
        facts_p50_ms=float(np.percentile(facts_wall, 50)),
        facts_p95_ms=float(np.percentile(facts_wall, 95)),
        facts_cpu_p95_ms=float(np.percentile(facts_cpu, 95)),
        told_p95_ms=float(np.percentile(told_wall, 95)),
        prepared_cpu_ms=1e3 * prepared_s,
    )


def main() -> None:
    """All of them."""
    cloud, prior = cloud_rows(), prior_to_arrays(cloud_prior())
    measure("cloud_dqn", CLOUD, Policy(network(32, "advantage", 5, cloud_features()) | prior), cloud)
    measure("cloud_ppo", CLOUD, Policy(network(32, "logits", 5, cloud_features()) | prior), cloud)
    cart, pendulum = played("CartPole-v1"), played("Pendulum-v1")
    measure("cartpole_dqn", CARTPOLE, Policy(network(4, "advantage", 2)), cart)
    measure("cartpole_ppo", CARTPOLE, Policy(network(4, "logits", 2)), cart)
    measure("pendulum_ppo", PENDULUM, BoxPolicy(network(3, "mean", 1)), pendulum)


if __name__ == "__main__":
    main()
