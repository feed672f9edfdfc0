"""From what a policy does to rules that do nearly the same.

Costs are what the policy itself loses by another action than its own, so that rows where the action hardly matters bend
no rule. Where the policy can be run, rules are shown what they themselves lead to (DAgger: Ross, Gordon, Bagnell 2011).
Source: Bastani, Pu, Solar-Lezama (2018), "Verifiable reinforcement learning via policy extraction" (VIPER).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.explain.regions import Condition
from headrace.learners.explain.simulation import Learned, Simulator, acting
from headrace.learners.rules.document import Action, Rule, RuleList, load_rules, rule_network, simplest
from headrace.learners.rules.mending import mended
from headrace.learners.rules.quantities import Quantity, quantities, values
from headrace.learners.rules.search import Choice, frontier
from headrace.schemas.records import TaskSpec

MAX_CHOICES: Final = 16
"""Actions that rules choose from: the most frequent ones, or, of continuous ones, the centres of what is done."""
ROUNDS: Final = 4
"""How often the rules are run, and learn from what they met."""
_CAP: Final = 0.95
"""Losses beyond this quantile of all count as it: one absurd row must not outweigh the others."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """N observations float32[N, D], what is wanted there, int64[N] or float32[N, A], and what each of K choices costs.

    costs: float64[N, K]. choices: the K actions.
    """

    obs: NDArray[np.float32]
    wanted: NDArray[Any]
    costs: NDArray[np.float64]
    choices: tuple[Action, ...]


def examples(obs: NDArray[np.float32], policy: Policy | BoxPolicy | None, taken: NDArray[Any], seed: int) -> Examples:
    """Return what a policy wants on observations; without one, what was done there counts as wanted.

    taken: of each observation, int[N] or float32[N, A].
    """
    if isinstance(policy, BoxPolicy) or (policy is None and taken.ndim == 2):
        return _continuous(obs, taken if policy is None else policy.act(obs), seed)
    if policy is None:
        return _discrete(obs, np.eye(int(taken.max()) + 1)[taken])
    return _discrete(obs, policy.q_values(obs).astype(np.float64))


def _discrete(obs: NDArray[np.float32], values: NDArray[np.float64]) -> Examples:
    wanted = values.argmax(axis=1)
    counts = np.bincount(wanted, minlength=values.shape[1])
    chosen = np.argsort(-counts, kind="stable")[:MAX_CHOICES]
    chosen = np.sort(chosen[counts[chosen] > 0])
    losses = values.max(axis=1, keepdims=True) - values
    greatest = np.quantile(losses, _CAP)
    return Examples(obs, wanted, np.minimum(losses, greatest)[:, chosen], tuple(chosen.tolist()))


def _continuous(obs: NDArray[np.float32], wanted: NDArray[Any], seed: int) -> Examples:
    """Of continuous actions the choices are the centres of clusters; costs are squared distances, in spreads."""
    actions = wanted.astype(np.float64)
    spread = actions.std(axis=0)
    spread = np.where(spread > 0.0, spread, 1.0)
    distinct = np.unique(actions / spread, axis=0)
    centres = distinct
    if len(distinct) > MAX_CHOICES:
        centres, _ = kmeans2(actions / spread, MAX_CHOICES, minit="++", rng=np.random.default_rng(seed))
    costs = np.square(actions[:, None] / spread - centres).sum(axis=2)
    return Examples(obs, wanted, costs, tuple(map(tuple, (centres * spread).tolist())))


def lists(given: Examples, spec: TaskSpec, policy: int | None, most: int, seed: int) -> list[RuleList]:
    """Return the lists found of 1 rule, of 2, up to `most`; policy: the version that the examples are of."""
    about = quantities(given.obs, given.costs)
    found = frontier(values(given.obs, about), given.costs, most, seed)
    return [_fitted(RuleList(spec.task, _named(one.rules, about, given), policy), given, spec) for one in found]


def _named(rules: Sequence[Choice], about: Sequence[Quantity], given: Examples) -> tuple[Rule, ...]:
    named = [[Condition(about[place], side, limit) for place, side, limit in one.conditions] for one in rules]
    told = [(simplest(one), given.choices[rule.action]) for one, rule in zip(named, rules, strict=True)]
    return tuple(Rule(conditions, action) for conditions, action in told if conditions is not None)


def _fitted(found: RuleList, given: Examples, spec: TaskSpec) -> RuleList:
    """Of continuous actions, let each rule give the mean of what is wanted where it decides, to three digits."""
    if isinstance(spec.actions, tuple):
        return found
    decides, rules = rule_network(found, spec).deciding(given.obs), []
    low, high = np.array(spec.actions.low), np.array(spec.actions.high)
    for place, rule in enumerate(found.rules):
        own = given.wanted[decides == place].astype(np.float64)
        mean = own.mean(axis=0) if len(own) else np.array(rule.action)
        rules.append(Rule(rule.conditions, tuple(float(f"{one:.3g}") for one in np.clip(mean, low, high))))
    return RuleList(found.task, tuple(rules), found.policy)


class _Watched:
    """A policy that keeps what it is shown."""

    def __init__(self, policy: Learned) -> None:
        self._act = acting(policy)
        self.seen: list[NDArray[np.float32]] = []

    def act(self, obs: NDArray[np.float32]) -> NDArray[Any]:
        self.seen.append(obs.copy())
        return self._act(obs)


@dataclass(frozen=True, slots=True)
class Tried:
    """A list, and its mean return on the traces that it was found on: higher than on others."""

    rules: RuleList
    mean_return: float


def tried_lists(
    obs: NDArray[np.float32],
    policy: Policy | BoxPolicy,
    world: Simulator,
    spec: TaskSpec,
    number: int,
    most: int,
    seed: int,
) -> list[Tried]:
    """Return the lists of 1 rule, of 2, up to `most` that earn most in a simulator, of some rounds of showing.

    In each round the policy says what it would do wherever the list of the round before has led. The best of all is
    mended by what it earns. Once a list earns what the policy does, that is enough.
    """
    best: dict[int, Tried] = {}
    seen, enough = _visited(policy, world)
    shown = [obs, seen]
    for _ in range(ROUNDS):
        for one in lists(examples(np.concatenate(shown), policy, np.zeros(0), seed), spec, number, most, seed):
            seen, mean = _visited(load_rules(one, spec), world)
            size = len(one.rules)
            if size not in best or mean > best[size].mean_return:
                best[size] = Tried(one, mean)
        shown.append(seen)
        if best_of([*best.values()]).mean_return >= enough:
            break
    tried = [best[size] for size in sorted(best)]
    own = best_of(tried)
    seen, _ = _visited(load_rules(own.rules, spec), world)

    def earned(one: RuleList) -> float:
        return float(world.outcomes(load_rules(one, spec)).returns.mean())

    better = Tried(*mended(own.rules, spec, seen, earned, enough))
    return [better if one is own else one for one in tried]


def _visited(policy: Learned, world: Simulator) -> tuple[NDArray[np.float32], float]:
    """Run a policy; return what it saw, float32[N, D], and its mean return."""
    watched = _Watched(policy)
    returns = world.outcomes(watched).returns
    return np.concatenate(watched.seen), float(returns.mean())


def best_of(found: Sequence[Tried]) -> Tried:
    """Return the list that earns most, of equals the shortest."""
    return max(found, key=lambda one: (one.mean_return, -len(one.rules.rules)))


def fidelity(wanted: NDArray[Any], done: NDArray[Any]) -> float:
    """Return how far two policies' actions are the same, 1 for entirely.

    Of discrete ones int[N] the share of equal ones; of continuous float32[N, A] the share of the variance explained.
    """
    if wanted.ndim == 1:
        return float((wanted == done).mean())
    total = np.square(wanted - wanted.mean(axis=0)).sum()
    return 1.0 - float(np.square(wanted - done).sum() / total) if total else float((wanted == done).all())
