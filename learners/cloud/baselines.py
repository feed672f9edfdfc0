"""Controllers to compare a learned policy with, and the paired evaluation of any policy.

All but `Clairvoyant` see only what an agent sees. `evaluate` also takes any callable obs -> actions. Returns are sums
of the reward / REWARD_SCALE.

Mean returns on draw_traces(seed=0, count=2048), deviation over traces 12-19 (random 44): random 22.5,
static 77.4, HPA 76.8, HPA with Kubernetes' defaults 83.1, rate rule 86.6, clairvoyant 97.1 (no policy can
exceed 97.6).
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.learners.cloud.clairvoyant import plan_actions
from headrace.learners.cloud.controllers import RULES, Actions, Baseline, FloatArray, Observation, Static
from headrace.learners.cloud.plant import ACTION_CHANGES, REWARD_SCALE, REWARD_TERMS, Simulation
from headrace.learners.cloud.workload import Traces
from headrace.schemas.outcomes import Measure, tallied

Policy = Baseline | Callable[[Observation], NDArray[np.integer]]


class Random:
    """Uniform actions from a seed."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self.reset(0)

    def reset(self, count: int) -> None:
        """The same actions again, whatever the count."""
        del count
        self._generator = np.random.default_rng(self._seed)

    def act(self, obs: Observation) -> Actions:
        """int64[N], uniform in 0-4."""
        return self._generator.integers(len(ACTION_CHANGES), size=len(obs))


class Clairvoyant:
    """Plays the plan of a planner that knows the traces: see `clairvoyant.plan_actions`."""

    def __init__(self, traces: Traces) -> None:
        self._plan = plan_actions(traces)
        self._step = 0

    def reset(self, count: int) -> None:
        """Back to the plan's start. Raises ValueError if it is a plan for another number of episodes."""
        if count != len(self._plan):
            raise ValueError(f"Clairvoyant has a plan for {len(self._plan)} traces and was asked for {count}")
        self._step = 0

    def act(self, obs: Observation) -> Actions:
        """The plan's next column; the observation is not looked at."""
        del obs
        self._step += 1
        return self._plan[:, self._step - 1]


CALLED: Final = {
    "random": "random play",
    "static": "the best constant size",
    "hpa": "the plain HPA rule",
    "hpa_kubernetes": "the Kubernetes HPA",
    "rate_rule": "the rate rule",
    "tuned_rule": "the tuned rule",
    "clairvoyant": "the clairvoyant planner",
}
"""What people call each baseline: in reports, tables and figures alike."""
BASELINE_NAMES: Final = tuple(CALLED)


def baseline(name: str, traces: Traces) -> Baseline:
    """A baseline by its name, else ValueError; only the clairvoyant looks at the traces."""
    makers: dict[str, Callable[[], Baseline]] = {
        "random": Random,
        "static": Static,
        **RULES,
        "clairvoyant": lambda: Clairvoyant(traces),
    }
    if name not in makers:
        raise ValueError(f"baseline {name!r} is unknown; choose one of {', '.join(BASELINE_NAMES)}")
    return makers[name]()


class Evaluation(NamedTuple):
    """A policy's outcome on N traces of T steps, / REWARD_SCALE, and the course of one of them."""

    returns: FloatArray  # [N], sum of the rewards
    terms: FloatArray  # [N, 3], sums of the reward's terms, in the order of REWARD_TERMS
    actions: Actions  # [N, 5], how often each action was taken
    ready: NDArray[np.int64]  # [T], replicas
    pending: NDArray[np.int64]  # [T], replicas
    load_rps: FloatArray  # [T]
    p95_ms: FloatArray  # [T]
    tallies: FloatArray  # [N, 2 * O], as `schemas.outcomes.tallied` has them


def _start(policy: Policy, count: int) -> Callable[[Observation], NDArray[np.integer]]:
    """Reset a baseline; any other callable is taken as it is."""
    if isinstance(policy, Baseline):
        policy.reset(count)
        return policy.act
    return policy


def evaluate(policy: Policy, traces: Traces) -> FloatArray:
    """Return of each trace, float64[N]: the sum of the rewards / REWARD_SCALE."""
    act, simulation = _start(policy, len(traces)), Simulation(traces)
    obs, returns = simulation.observation(), np.zeros(len(traces))
    for _ in range(traces.steps):
        obs, reward, _, _ = simulation.step(act(obs))
        returns += reward
    return returns / REWARD_SCALE


def evaluate_detailed(policy: Policy, traces: Traces, row: int = 0, outcomes: tuple[Measure, ...] = ()) -> Evaluation:
    """As `evaluate`, with the reward's terms, the action counts, outcomes, and one row's course for a plot."""
    act, simulation = _start(policy, len(traces)), Simulation(traces)
    rows = np.arange(len(traces))
    terms = np.zeros((len(traces), len(REWARD_TERMS)))
    counts = np.zeros((len(traces), len(ACTION_CHANGES)), dtype=np.int64)
    tallies = np.zeros((len(traces), 2 * len(outcomes)))
    obs, course = simulation.observation(), []
    for _ in range(traces.steps):
        actions, before = act(obs), obs
        obs, _, step_terms, _ = simulation.step(actions)
        terms += step_terms
        tallies += tallied(outcomes, before, actions, obs, step_terms)
        counts[rows, actions] += 1
        course.append(_snapshot(simulation, row))
    ready, pending, load_rps, p95_ms = (np.array(values) for values in zip(*course, strict=True))
    terms /= REWARD_SCALE
    return Evaluation(terms.sum(axis=1), terms, counts, ready, pending, load_rps, p95_ms, tallies)


def _snapshot(simulation: Simulation, row: int) -> tuple[np.int64, np.int64, np.float64, np.float64]:
    return (
        simulation.ready[row],
        simulation.pending[:, row].sum(),
        simulation.arrivals_rps[row],
        simulation.latency_s[row] * 1000.0,
    )
