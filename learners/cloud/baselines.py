"""Controllers to compare a learned policy with, and the paired evaluation of any policy.

A baseline has `reset(n)` and `act(obs) -> int64[N]`. `evaluate` also takes any callable obs -> actions.
All but `Clairvoyant` see only what an agent sees. Returns are sums of the reward / REWARD_SCALE.

Mean returns on draw_traces(seed=0, count=2048), deviation over traces 12-19 (random 44): random 22.5,
static 77.4, HPA 76.8, HPA with Kubernetes' defaults 83.1, rate rule 86.6, clairvoyant 97.1 (no policy can
exceed 97.6).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from headrace.learners.cloud.clairvoyant import plan_actions
from headrace.learners.cloud.plant import (
    ACTION_CHANGES,
    ACTION_ZERO,
    FEATURES,
    FRAMES,
    PENDING,
    RATE,
    RATE_UNIT_RPS,
    READY,
    REPLICAS_MAX,
    REWARD_SCALE,
    REWARD_TERMS,
    SERVICE_RATE_RPS,
    UTILISATION,
    Simulation,
)
from headrace.learners.cloud.tuned_rule import Forecast, RuleParameters
from headrace.learners.cloud.workload import Traces

Observation = NDArray[np.float32]
Actions = NDArray[np.int64]
FloatArray = NDArray[np.float64]

STATIC_REPLICAS: Final = 13
"""The best constant number, of all of them the best on draw_traces(seed=0, count=2048)."""
HPA_TARGET: Final = 0.65
HPA_TOLERANCE: Final = 0.1
HPA_WINDOW_STEPS: Final = 3
KUBERNETES_WINDOW_STEPS: Final = 10
"""Kubernetes' default stabilisation window, 300 s."""
RATE_TARGET: Final = 0.6
RATE_KEEP: Final = 0.5
TUNED: Final = RuleParameters(
    keep_up=0.385,
    keep_down=0.389,
    trend_keep=0.542,
    trend_gain=0.591,
    trend_down=0.395,
    safety=1.422,
    spare=0.405,
    queue_gain=-0.442,
    latency_gain=-0.213,
    deadband=0.555,
)
"""Found by `python -m headrace.learners.cloud.tuning`, on seeds.TUNING, which are used for nothing else."""


@runtime_checkable
class Baseline(Protocol):
    """A controller with memory: reset(n) before n episodes, then one act a step."""

    def reset(self, count: int) -> None:
        """Forget everything; `count` episodes start."""

    def act(self, obs: Observation) -> Actions:
        """float32[N, 32] -> int64[N], 0-4 for -2 to +2 replicas."""


Policy = Baseline | Callable[[Observation], NDArray[np.integer]]


def latest(obs: Observation, feature: int) -> FloatArray:
    """A feature of the newest frame, still in the observation's units: float64[N]."""
    return obs[:, (FRAMES - 1) * FEATURES + feature].astype(np.float64)


def replicas(obs: Observation) -> FloatArray:
    """Ready and pending replicas: float64[N], whole numbers."""
    return np.rint((latest(obs, READY) + latest(obs, PENDING)) * REPLICAS_MAX)


def towards(desired: FloatArray, current: FloatArray) -> Actions:
    """The action that comes nearest to the desired number of replicas."""
    low, high = ACTION_CHANGES[0], ACTION_CHANGES[-1]
    change: Actions = np.clip(desired - current, low, high).astype(np.int64) + ACTION_ZERO
    return change


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


class Static:
    """A constant number of replicas."""

    def __init__(self, replicas: int = STATIC_REPLICAS) -> None:
        self.replicas = replicas

    def reset(self, count: int) -> None:
        """It has no memory."""

    def act(self, obs: Observation) -> Actions:
        """Towards the constant, two replicas a step."""
        current = replicas(obs)
        return towards(np.full_like(current, self.replicas), current)


class HorizontalPodAutoscaler:
    """The Kubernetes rule: ceil(current * metric / target), left alone within the tolerance.

    Scaling down waits until every recommendation of the stabilisation window agrees. By default `current`
    counts ready and pending replicas, as the formula reads, and the window is 3 steps (90 s).

    That is not its strongest form: what a cluster runs by default is `hpa_kubernetes`. Quote both.

    Args:
        target: utilisation aimed at.
        window_steps: stabilisation window for scaling down.
        discount_pending: as Kubernetes' controller does it, pods that are not ready count as unused when it
            scales up, and not at all when it scales down.

    Source: kubernetes.io, Horizontal Pod Autoscaling, 'Algorithm details'; kubernetes/kubernetes,
    pkg/controller/podautoscaler/replica_calculator.go, GetResourceReplicas.
    """

    def __init__(
        self,
        target: float = HPA_TARGET,
        window_steps: int = HPA_WINDOW_STEPS,
        *,
        discount_pending: bool = False,
    ) -> None:
        self.target = target
        self.window_steps = window_steps
        self.discount_pending = discount_pending
        self.reset(0)

    def reset(self, count: int) -> None:
        """Forget the recommendations."""
        del count
        self._recommended: list[FloatArray] = []

    def act(self, obs: Observation) -> Actions:
        """Towards the highest recommendation of the window, but up at once."""
        current = replicas(obs)
        self._recommended.append(self._recommend(obs, current))
        self._recommended = self._recommended[-self.window_steps :]
        newest, highest = self._recommended[-1], np.max(self._recommended, axis=0)
        return towards(np.where(newest > current, newest, np.minimum(highest, current)), current)

    def _recommend(self, obs: Observation, current: FloatArray) -> FloatArray:
        ratio = latest(obs, UTILISATION) / self.target
        base = current
        if self.discount_pending:
            ready = np.rint(latest(obs, READY) * REPLICAS_MAX)
            base = np.where(ratio > 1.0, current, ready)
            # What is not ready yet may take the wish to grow away, never turn it round.
            ratio = np.where(ratio > 1.0, np.maximum(ratio * ready / current, 1.0), ratio)
        steady = np.abs(ratio - 1.0) <= HPA_TOLERANCE
        return np.where(steady, current, np.ceil(base * ratio))


def hpa_kubernetes() -> HorizontalPodAutoscaler:
    """The rule as a cluster runs it by default: window of 300 s, pods that are not ready discounted."""
    return HorizontalPodAutoscaler(window_steps=KUBERNETES_WINDOW_STEPS, discount_pending=True)


class RateRule:
    """Feed-forward: a smoothed rate over what a replica should serve (50/s * .6)."""

    def __init__(self, target: float = RATE_TARGET, keep: float = RATE_KEEP) -> None:
        self.target = target
        self.keep = keep
        self.reset(0)

    def reset(self, count: int) -> None:
        """Forget the smoothed rate; the next reading starts it."""
        del count
        self._rate_rps: FloatArray | None = None

    def act(self, obs: Observation) -> Actions:
        """Towards ceil(rate / (50 * target))."""
        rate_rps = latest(obs, RATE) * RATE_UNIT_RPS
        if self._rate_rps is not None:
            rate_rps = self.keep * self._rate_rps + (1 - self.keep) * rate_rps
        self._rate_rps = rate_rps
        return towards(np.ceil(rate_rps / (SERVICE_RATE_RPS * self.target)), replicas(obs))


class TunedRule:
    """Square-root staffing with a forecast and a deadband; see `tuned_rule`."""

    def __init__(self, parameters: RuleParameters = TUNED) -> None:
        self._forecast = Forecast(parameters)

    def reset(self, count: int) -> None:
        """Forget averages and trends; the next reading starts them."""
        del count
        self._forecast.reset()

    def act(self, obs: Observation) -> Actions:
        """Towards what the forecast asks for."""
        current = replicas(obs)
        frame = obs[:, (FRAMES - 1) * FEATURES :].astype(np.float64)
        return towards(self._forecast.wanted(frame, current), current)


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


RULES: Final[Mapping[str, Callable[[], Baseline]]] = {
    "hpa": HorizontalPodAutoscaler,
    "hpa_kubernetes": hpa_kubernetes,
    "rate_rule": RateRule,
    "tuned_rule": TunedRule,
}
"""What decides by what an agent sees."""
BASELINE_NAMES: Final = ("random", "static", *RULES, "clairvoyant")


def baseline(name: str, traces: Traces) -> Baseline:
    """A baseline by its name; only the clairvoyant looks at the traces.

    Raises:
        ValueError: the name is not in BASELINE_NAMES.
    """
    makers: dict[str, Callable[[], Baseline]] = {
        "random": Random,
        "static": Static,
        **RULES,
        "clairvoyant": lambda: Clairvoyant(traces),
    }
    if name not in makers:
        raise ValueError(f"baseline {name!r} is unknown; choose one of {', '.join(BASELINE_NAMES)}")
    return makers[name]()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A policy's outcome on N traces of T steps. Returns and terms are / REWARD_SCALE.

    Attributes:
        returns: float64[N], sum of the rewards.
        terms: float64[N, 3], sums of the reward's terms, in the order of REWARD_TERMS.
        actions: int64[N, 5], how often each action was taken.
        ready, pending: int64[T], replicas of the traced row at every step.
        load_rps, p95_ms: float64[T], of the traced row.
    """

    returns: FloatArray
    terms: FloatArray
    actions: NDArray[np.int64]
    ready: NDArray[np.int64]
    pending: NDArray[np.int64]
    load_rps: FloatArray
    p95_ms: FloatArray


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


def evaluate_detailed(policy: Policy, traces: Traces, row: int = 0) -> Evaluation:
    """As `evaluate`, with the reward's terms, the action counts, and one row's course for a plot."""
    act, simulation = _start(policy, len(traces)), Simulation(traces)
    rows = np.arange(len(traces))
    terms = np.zeros((len(traces), len(REWARD_TERMS)))
    counts = np.zeros((len(traces), len(ACTION_CHANGES)), dtype=np.int64)
    obs, course = simulation.observation(), []
    for _ in range(traces.steps):
        actions = act(obs)
        obs, _, step_terms, _ = simulation.step(actions)
        terms += step_terms
        counts[rows, actions] += 1
        course.append(_snapshot(simulation, row))
    ready, pending, load_rps, p95_ms = (np.array(values) for values in zip(*course, strict=True))
    terms /= REWARD_SCALE
    return Evaluation(terms.sum(axis=1), terms, counts, ready, pending, load_rps, p95_ms)


def _snapshot(simulation: Simulation, row: int) -> tuple[np.int64, np.int64, np.float64, np.float64]:
    return (
        simulation.ready[row],
        simulation.pending[:, row].sum(),
        simulation.arrivals_rps[row],
        simulation.latency_s[row] * 1000.0,
    )
