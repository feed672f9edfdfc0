"""What agents earned since a canary began, by the canary and by what serves, and what that says after a window."""

from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.learners.judge.sequential import ALPHA, Floats, Look, look
from headrace.schemas.canary import in_share
from headrace.schemas.partition import murmur2
from headrace.schemas.records import ServingPolicy
from headrace.schemas.transition import TransitionBatch

UNITS: Final = 4_096
"""Agents are counted under so many numbers at most, by a hash of the name: some share one where there are many."""
_REWARDS, _ENDS, _ROWS = 0, 1, 2

Measure = Literal["return", "reward per step"]
Sums = dict[str, list[float]]


class Found(NamedTuple):
    """What the sums say, and what of."""

    measure: Measure
    look: Look


class Tally(msgspec.Struct):
    """Sums since a canary began: rewards, ended episodes and rows, by the number that an agent's name hashes to.

    record: that began it. begun: whether windows of its time come in. windows: how many have, since the canary's agents
    act. canary: of the agents in its share, by their rows of the canary's version; others: of the rest, by their rows
    of what serves.
    """

    record: ServingPolicy
    begun: bool = False
    windows: int = 0
    canary: Sums = {}
    others: Sums = {}

    def close(self) -> None:
        """Note that a window is whole. What others earn before the canary's agents act is of another time."""
        if self.canary:
            self.windows += 1
        else:
            self.others = {}

    def saw(self, rows: TransitionBatch) -> None:
        """Add the rows of either version by agents that were to act by it."""
        trial = self.record.canary
        assert trial is not None
        unit = np.array([murmur2(name.encode()) % UNITS for name in rows.agents], np.int64)[rows.agent]
        tries = np.array([in_share(trial, self.record.task, name) for name in rows.agents], np.bool_)[rows.agent]
        figures = np.stack([rows.reward, rows.terminated | rows.truncated, np.ones(len(rows))], dtype=np.float64)
        for sums, version, own in ((self.canary, trial.version, tries), (self.others, self.record.version, ~tries)):
            counted = own & (rows.policy_version == version)
            _add(sums, unit[counted], figures[:, counted])

    def found(self) -> Found | None:
        """Compare by episodes once some have ended, else by rows; None where there is too little to compare by."""
        canary, others = (np.array([*sums.values()], np.float64).reshape(-1, 3) for sums in (self.canary, self.others))
        episodic = bool(canary[:, _ENDS].any() or others[:, _ENDS].any())
        column = _ENDS if episodic else _ROWS
        arms: list[tuple[Floats, Floats]] = [(arm[:, _REWARDS], arm[:, column]) for arm in (canary, others)]
        # By rows first, then by episodes: two series of looks share what may be called different by chance.
        said = look(arms[0], arms[1], self.windows, ALPHA / 2)
        return None if said is None else Found("return" if episodic else "reward per step", said)


def _add(sums: Sums, unit: NDArray[np.int64], figures: Floats) -> None:
    """Add float64[3, N] figures of rows to the sums of their units, int64[N]."""
    numbers, code = np.unique(unit, return_inverse=True)
    columns = [np.bincount(code, weights, len(numbers)).tolist() for weights in figures]
    for number, *more in zip(numbers.tolist(), *columns, strict=True):
        known = sums.get(str(number), [0.0, 0.0, 0.0])
        sums[str(number)] = [one + other for one, other in zip(known, more, strict=True)]
