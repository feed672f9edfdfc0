"""A small tree that imitates a policy, and the path that it takes in one decision."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners.explain.regions import Condition, holding, regions

LEAVES: Final = 12
DEPTH: Final = 4
LEAST_ROWS: Final = 40
"""Fewer rows make no tree."""
HELD_OUT: Final = 5
"""One row in so many is not grown on: the tree's fidelity is measured there."""


@dataclass(frozen=True, slots=True, eq=False)
class Surrogate:
    """A tree of M decisions. leaves: by its conditions what it does there, float64[T], the mean target of its rows.

    fidelity: on the rows held out, in %: of named actions those that it gets right, of continuous ones the part of
    their variance that it accounts for. held_out: rows.
    """

    leaves: tuple[tuple[tuple[Condition[int], ...], NDArray[np.float64]], ...]
    fidelity: float
    held_out: int

    def path(self, obs: NDArray[np.float32]) -> tuple[tuple[Condition[int], ...], NDArray[np.float64]]:
        """Return the conditions that hold of an observation float32[D], and what the tree does there."""
        return next(leaf for leaf in self.leaves if holding(leaf[0], obs[None])[0])


def surrogate(obs: NDArray[np.float32], targets: NDArray[np.float64], *, discrete: bool) -> Surrogate | None:
    """Grow a tree on what a policy does; None where there are too few rows.

    obs: float32[M, D]. targets: float64[M, T], as `regions` has them; discrete: they are ones and zeros.
    """
    if len(obs) < LEAST_ROWS:
        return None
    held = np.arange(len(obs)) % HELD_OUT == HELD_OUT - 1
    grown = regions(obs[~held], targets[~held], LEAVES, DEPTH)
    leaves = tuple((one.conditions, targets[~held][one.mask].mean(axis=0)) for one in grown)
    return Surrogate(leaves, _fidelity(leaves, obs[held], targets[held], discrete=discrete), int(held.sum()))


def _fidelity(
    leaves: Sequence[tuple[tuple[Condition[int], ...], NDArray[np.float64]]],
    obs: NDArray[np.float32],
    targets: NDArray[np.float64],
    *,
    discrete: bool,
) -> float:
    said = np.zeros_like(targets)
    for conditions, value in leaves:
        said[holding(conditions, obs)] = value
    if discrete:
        return 100.0 * float((said.argmax(axis=1) == targets.argmax(axis=1)).mean())
    spread = float(np.square(targets - targets.mean(axis=0)).sum())
    return 100.0 * max(0.0, 1.0 - float(np.square(targets - said).sum()) / spread) if spread else 100.0
