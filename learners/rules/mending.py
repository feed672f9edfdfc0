"""Rules made better by what they earn in a simulator: one threshold, condition or action after another is moved."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners.rules.document import Action, Rule, RuleList, simplest
from headrace.learners.rules.quantities import Quantity, values
from headrace.schemas.records import TaskSpec

TRIALS: Final = 160
"""Lists that are run, at most."""
_MOVES: Final = (-0.1, -0.03, -0.01, 0.01, 0.03, 0.1)
"""How far thresholds move, in shares of what was seen, and continuous actions, in shares of their bounds."""


def mended(
    rules: RuleList, spec: TaskSpec, seen: NDArray[np.float32], earned: Callable[[RuleList], float], enough: float
) -> tuple[RuleList, float]:
    """Return the list that is reached by moves each of which earns more, and its mean return.

    seen: float32[N, D], what the rules met. earned: runs a list, and tells its mean return. enough: where to stop.
    """
    best, trials = earned(rules), 1
    about = [*dict.fromkeys(one.of for rule in rules.rules for one in rule.conditions)]
    ranked = {of: np.sort(values(seen, [of])[:, 0]) for of in about}
    bettered = True
    while bettered and best < enough:
        bettered = False
        for place in range(len(rules.rules)):
            for rule in _moved(rules.rules[place], spec, ranked):
                if simplest(rule.conditions) is None:
                    continue
                other = replace(rules, rules=(*rules.rules[:place], rule, *rules.rules[place + 1 :]))
                found, trials = earned(other), trials + 1
                shorter = len(rule.conditions) < len(rules.rules[place].conditions)
                if found > best or (found == best and shorter):
                    rules, best, bettered = other, found, True
                if trials >= TRIALS or best >= enough:
                    return rules, best
    return rules, best


def _moved(rule: Rule, spec: TaskSpec, ranked: Mapping[Quantity, NDArray[np.float32]]) -> Iterator[Rule]:
    """Yield the rule with one of its parts moved. ranked: float32[N], what was seen of each quantity, in order."""
    for action in _actions(rule.action, spec):
        yield replace(rule, action=action)
    for place, one in enumerate(rule.conditions):
        rest = rule.conditions[:place], rule.conditions[place + 1 :]
        column = ranked[one.of]
        rank = np.searchsorted(column, np.float32(one.threshold)) / len(column)
        for move in _MOVES:
            threshold = float(f"{np.quantile(column, np.clip(rank + move, 0.0, 1.0)):.3g}")
            yield replace(rule, conditions=(*rest[0], one._replace(threshold=threshold), *rest[1]))
        if len(rule.conditions) > 1:
            yield replace(rule, conditions=rest[0] + rest[1])


def _actions(action: Action, spec: TaskSpec) -> Iterator[Action]:
    """Yield other actions: each discrete one; of continuous ones those that differ a little in a dimension."""
    if not isinstance(action, tuple):
        yield from (other for other in range(spec.action_count) if other != action)
        return
    assert spec.action_bounds is not None
    for place, (low, high) in enumerate(zip(spec.action_bounds.low, spec.action_bounds.high, strict=True)):
        width = high - low if np.isfinite(high - low) else abs(action[place]) + 1.0
        for move in _MOVES:
            number = float(f"{np.clip(action[place] + move * width, low, high):.3g}")
            yield (*action[:place], number, *action[place + 1 :])
