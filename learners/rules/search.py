"""The search for a short rule list that costs least: each condition in turn is made the best one, given all the others.

A list is grown rule by rule, each put where it helps most. Then one condition after another is exchanged for the best
of all features and thresholds, together with its rule's action, until nothing is gained (coordinate descent). Then
rules are dropped at random and grown anew, and the better list stays (iterated local search: Lourenço, Martin, Stützle
2003). A tree of as many leaves says less: in a list, what falls past a rule is shared by all that does.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from headrace.learners.explain.regions import Condition

MAX_CONDITIONS: Final = 3
"""Conditions of a rule at most."""
MAX_CELLS: Final = 1 << 19
"""Rows times features that a list is searched on: evenly spaced rows."""
_CUTS: Final = 48
"""Thresholds that are tried for a feature: its quantiles."""
_TOLL: Final = 2e-3
"""What a condition costs, in shares of what the best constant action does: what helps less is left out."""
_FINER: Final = 16
"""Thresholds that are tried beside one that is in use."""
_TRIES: Final = 4
"""How often each size of list is shaken."""
_SWEEPS: Final = 12
_STRICT: Final = (1.0,) * MAX_CONDITIONS
_LENIENT: Final = (0.1, 0.3, 1.0)
"""How much of the harm that a rule does counts as its conditions are added: the first alone need not do good yet."""

Floats = NDArray[np.float64]


class Choice(NamedTuple):
    """A rule of a search: its conditions, and the place of its action among those that may be chosen."""

    conditions: tuple[Condition[int], ...]
    action: int


class Found(NamedTuple):
    """A list that was found, its last rule without conditions; cost: the mean over the rows."""

    rules: tuple[Choice, ...]
    cost: float


class _Cut(NamedTuple):
    """A condition: the feature's bin is at most `place`, or beyond it where `above`."""

    feature: int
    place: int
    above: bool


class _Rule(NamedTuple):
    cuts: tuple[_Cut, ...]
    action: int


_List = tuple[_Rule, ...]


def frontier(obs: NDArray[np.float32], costs: Floats, most: int, seed: int) -> Iterator[Found]:
    """Yield the best list found of 1 rule, of 2, and so on to `most`; fewer where more bring nothing.

    obs: float32[N, D], N > 0. costs: float64[N, K], what each of K actions costs on each row, 0 and more.
    """
    assert obs.ndim == costs.ndim == 2, (obs.shape, costs.shape)
    assert len(obs) == len(costs) > 0, (obs.shape, costs.shape)
    every = max(1, -(-obs.size // MAX_CELLS))
    seen, costs = obs[::every], costs[::every]
    search = _Search(seen, costs, [_edges(column) for column in seen.T])
    rng = np.random.default_rng(seed)
    rules: _List = (_Rule((), int(costs.sum(axis=0).argmin())),)
    yield search.told(rules)
    for _ in range(1, most):
        grown = search.descended(search.grown(rules))
        for _ in range(_TRIES):
            grown = min(grown, search.shaken(grown, rng), key=search.cost)
        before = search.cost(rules)
        search, rules = search.refined(grown)
        search, rules = search.refined(rules)
        if search.cost(rules) >= before:
            return
        yield search.told(rules)


def _edges(column: NDArray[np.float32], count: int = _CUTS) -> NDArray[np.float32]:
    """Return a feature's thresholds: between its values where they are few, else between its quantiles."""
    values = np.unique(column)
    if len(values) > count:
        values = np.unique(np.quantile(column, np.linspace(0.0, 1.0, count + 1)).astype(np.float32))
    return np.array([_between(low, high) for low, high in pairwise(values)], np.float32)


def _between(low: np.float32, high: np.float32) -> np.float32:
    """Return the number of fewest digits that tells two apart: low <= number < high."""
    middle = (float(low) + float(high)) / 2.0
    found = (np.float32(f"{middle:.{digits}g}") for digits in range(1, 10))
    return next((one for one in found if low <= one < high), low)


class _Search:
    """What lists cost on the rows; costs: float64[N, K]."""

    def __init__(self, obs: NDArray[np.float32], costs: Floats, edges: Sequence[NDArray[np.float32]]) -> None:
        """edges: each feature's thresholds, in order."""
        self.costs = costs
        self._obs, self._edges = obs, edges
        bins = [np.searchsorted(edge, column, side="left") for edge, column in zip(edges, obs.T, strict=True)]
        self._bins = np.array(bins)
        self._toll = _TOLL * float(costs.sum(axis=0).min())
        self._width = max(map(len, edges)) + 1
        # One row for each feature's each bin: a product sums over the rows of the bin.
        cells = self._bins + self._width * np.arange(len(bins))[:, None]
        columns = np.broadcast_to(np.arange(len(obs)), cells.shape)
        shape = (len(bins) * self._width, len(obs))
        self._sums = csr_matrix((np.ones(cells.size), (cells.ravel(), columns.ravel())), shape)
        self._useless = np.arange(self._width) >= np.array([[len(edge)] for edge in edges])

    def refined(self, rules: _List) -> tuple["_Search", _List]:
        """Return a search with more thresholds beside those in use, and the list made better by them."""
        edges = [*self._edges]
        for feature, place, _ in {cut for rule in rules for cut in rule.cuts}:
            near, column = self._edges[feature], self._obs[:, feature]
            low = near[place - 1] if place else -np.inf
            high = near[place + 1] if place + 1 < len(near) else np.inf
            finer = _edges(column[(column > low) & (column <= high)], _FINER)
            edges[feature] = np.unique(np.concatenate([edges[feature], finer]))
        search = _Search(self._obs, self.costs, edges)
        moved = [
            _Rule(
                tuple(_Cut(f, int(np.searchsorted(edges[f], self._edges[f][p])), above) for f, p, above in cuts), action
            )
            for cuts, action in rules
        ]
        return search, search.descended(tuple(moved))

    def cost(self, rules: _List) -> float:
        """Return what a list costs in sum, its conditions included."""
        return float(self._past(rules).sum()) + self._toll * sum(len(rule.cuts) for rule in rules)

    def told(self, rules: _List) -> Found:
        """Return a list by thresholds."""
        edges = self._edges
        choices = [
            Choice(
                tuple(
                    Condition(f, ">" if above else "<=", float(str(edges[f][place]))) for f, place, above in one.cuts
                ),
                one.action,
            )
            for one in rules
        ]
        return Found(tuple(choices), float(self._past(rules).mean()))

    def grown(self, rules: _List) -> _List:
        """Return the list with one rule more, where it helps most."""
        starts = [(place, lenience) for place in range(len(rules)) for lenience in (_STRICT, _LENIENT)]
        return min((self._inserted(rules, *start) for start in starts), key=self.cost)

    def descended(self, rules: _List) -> _List:
        """Exchange one condition after another until nothing is gained."""
        before = self.cost(rules)
        for _ in range(_SWEEPS):
            for place in range(len(rules)):
                rules = self._bettered(rules, place)
            now = self.cost(rules)
            if now >= before - self._toll / 10:
                break
            before = now
        return rules

    def shaken(self, rules: _List, rng: np.random.Generator) -> _List:
        """Drop one rule or two at random, and grow as many."""
        count = min(int(rng.integers(1, 3)), len(rules) - 1)
        gone = set(rng.choice(len(rules) - 1, count, replace=False).tolist())
        rules = tuple(rule for place, rule in enumerate(rules) if place not in gone)
        for _ in range(count):
            rules = self.grown(rules)
        return self.descended(rules)

    def _inserted(self, rules: _List, place: int, lenience: tuple[float, ...]) -> _List:
        blank = (*rules[:place], _Rule((), 0), *rules[place:])
        return self._bettered(self._bettered(blank, place, lenience), place)

    def _bettered(self, rules: _List, place: int, lenience: tuple[float, ...] = _STRICT) -> _List:
        """Return the list with the conditions of one rule exchanged, one after another, and its action."""
        open_rows = np.ones(len(self.costs), bool)
        for rule in rules[:place]:
            open_rows &= ~self._holds(rule.cuts)
        rule = rules[place]
        if place == len(rules) - 1:
            rule = _Rule((), int(self.costs[open_rows].sum(axis=0).argmin()))
        else:
            after = self._past(rules[place + 1 :])[:, None]
            for slot, share in enumerate(lenience):
                rest = rule.cuts[:slot] + rule.cuts[slot + 1 :]
                mask = (open_rows & self._holds(rest))[:, None]
                more = np.where(mask, self.costs - after, 0.0)
                rule = self._best(rest, np.where(more > 0.0, share * more, more))
        return (*rules[:place], rule, *rules[place + 1 :])

    def _best(self, rest: tuple[_Cut, ...], more: Floats) -> _Rule:
        """Return the rule with the best condition beside the rest. more: what actions cost above falling past it."""
        sums = (self._sums @ more).reshape(-1, self._width, more.shape[1])
        below = sums.cumsum(axis=1)
        sides = np.stack([below, below[:, -1:] - below])
        sides[:, self._useless] = np.inf
        side, feature, place, action = np.unravel_index(int(sides.argmin()), sides.shape)
        alone = more.sum(axis=0)
        if rest and alone.min() <= sides[side, feature, place, action] + self._toll:
            return _Rule(rest, int(alone.argmin()))
        return _Rule((*rest, _Cut(int(feature), int(place), bool(side))), int(action))

    def _holds(self, cuts: tuple[_Cut, ...]) -> NDArray[np.bool_]:
        held = np.ones(len(self.costs), bool)
        for feature, place, above in cuts:
            held &= (self._bins[feature] > place) == above
        return held

    def _past(self, rules: _List) -> Floats:
        """Return what each row costs by a list, float64[N]."""
        cost = self.costs[:, rules[-1].action]
        for rule in reversed(rules[:-1]):
            cost = np.where(self._holds(rule.cuts), self.costs[:, rule.action], cost)
        return cost
