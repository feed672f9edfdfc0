"""Changes drawn by chance in an advisor's stead: the control that an advisor must beat. Pure."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from headrace.learners import seeds
from headrace.schemas.directives import ACTIONS, LearningFacts, Proposal
from headrace.schemas.ports import Backend
from headrace.schemas.scenarios import PROPOSED, Bounds, Scenario, Variations, proposed


class DrawnAdvisor(Backend):
    """Proposes as many changes after each version as it is told, of settings and to values that are allowed.

    counts: changes by version. seed: of the training that it advises.
    """

    name = "random:"

    def __init__(self, counts: Mapping[int, int], seed: int) -> None:
        self._counts = counts
        self._seed = seed

    def propose(self, facts: LearningFacts) -> list[Proposal]:
        """Return changes of different settings, none of which is still being judged."""
        rng = np.random.default_rng([seeds.STUDY_DRAWN.first, self._seed, facts.version])
        keys = sorted(facts.settings.keys() - set(facts.probation))
        chosen = [keys[i] for i in rng.permutation(len(keys))[: self._counts.get(facts.version, 0)]]
        return [_drawn(key, facts.settings[key], rng) for key in chosen]

    def scenarios(self, variations: Variations) -> Sequence[Scenario]:
        """Return as many as others propose, every value drawn evenly within its bounds."""
        return drawn_scenarios(variations.bounds, self._seed)


def drawn_scenarios(bounds: Bounds, seed: int) -> tuple[Scenario, ...]:
    """Draw PROPOSED scenarios for the training of a seed."""
    rng = np.random.default_rng([seeds.STUDY_DRAWN.first, seed])
    drawn = [{name: float(rng.uniform(*limits)) for name, limits in bounds.items()} for _ in range(PROPOSED)]
    return proposed(drawn, bounds)


def _drawn(key: str, now: float, rng: np.random.Generator) -> Proposal:
    """Draw a value as far from the present one as a directive may go, uniformly; by its logarithm where it scales."""
    change, _, target = key.partition(".")
    action = ACTIONS[change]
    if action.ratio:
        low, high = max(now / action.ratio, action.low), min(now * action.ratio, action.high)
        value = math.exp(rng.uniform(math.log(low), math.log(high)))
    else:
        value = rng.uniform(max(now - action.step, action.low), min(now + action.step, action.high))
    return Proposal(change, float(round(value)) if action.whole else value, target, "drawn by chance")
