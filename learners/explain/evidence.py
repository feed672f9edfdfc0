"""What the facts of a version are computed from, and how decisions are split into situations."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.records import Bounds, Series

CLAIRVOYANT = "clairvoyant"
"""A simulator's name for a baseline that knows the future: it bounds what can be won, and is no rival."""
TREND = 0.08
"""Load counts as rising or falling when the newer half of the stacked readings differs by more than this.

A reading's noise is 5 %, so the ratio of two means of two has a standard deviation of 5 %.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """How one controller did on N fixed traces, K reward terms: returns float64[N], terms float64[N, K]."""

    returns: NDArray[np.float64]
    terms: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RecordedDecisions:
    """M decisions of a policy.

    obs: float32[M, D]. values: float64[M, A], of each action. shadows: by controller, int64[M], what it would
    have done in the policy's place. order: the actions' sizes where they have an order (replicas), else (). measure:
    what the values are: "value", or "log-probability" (but for a constant) where agents draw.
    """

    obs: NDArray[np.float32]
    values: NDArray[np.float64]
    shadows: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    order: tuple[float, ...] = ()
    measure: str = "value"

    @property
    def actions(self) -> NDArray[np.int64]:
        """The greedy action of each decision, int64[M]."""
        return np.asarray(self.values.argmax(axis=1), np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    """A part of the decisions that a person can recognise: key for ids, name for text, mask bool[M]."""

    key: str
    name: str
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class VersionEvidence:
    """Everything computed about a version: what a simulator gave, if there is one, and its decisions.

    previous_version: the version that served before it. plots: series that only a simulator can give.
    """

    version: int
    previous_version: int | None
    policy: Outcomes | None = None
    previous: Outcomes | None = None
    baselines: Mapping[str, Outcomes] = field(default_factory=dict)
    decisions: RecordedDecisions | None = None
    plots: Mapping[str, list[Series]] = field(default_factory=dict)

    @property
    def others(self) -> dict[str, Outcomes]:
        """Whom the version is compared with: what served before it first."""
        return {**({} if self.previous is None else {"serving": self.previous}), **self.baselines}


def situations(
    names: Sequence[str], obs: NDArray[np.float32], bounds: Bounds | None = None, load: Sequence[str] = ()
) -> list[Situation]:
    """Split decisions by the trend of the load where it is observed, else by the most varied feature.

    names: of the D features of obs, float32[M, D]. load: those that show it, the oldest first. Situations that never
    occur are left out.
    """
    assert obs.ndim == 2, obs.shape
    assert obs.shape[1] == len(names), (obs.shape, len(names))
    if len(obs) and load and set(load) <= set(names):
        found = _by_trend(obs[:, [names.index(name) for name in load]])
    else:
        found = _by_terciles(names, obs, bounds)
    return [situation for situation in found if situation.mask.any()]


def _by_trend(rate: NDArray[np.float32]) -> list[Situation]:
    """rate: float32[M, frames], the oldest first."""
    half = rate.shape[1] // 2
    older, newer = rate[:, :half].mean(axis=1), rate[:, half:].mean(axis=1)
    rising, falling = newer > (1.0 + TREND) * older, newer < (1.0 - TREND) * older
    return [
        Situation("rising", "load rising", rising),
        Situation("steady", "load steady", ~rising & ~falling),
        Situation("falling", "load falling", falling),
    ]


def _by_terciles(names: Sequence[str], obs: NDArray[np.float32], bounds: Bounds | None) -> list[Situation]:
    if len(obs) == 0:
        return []
    feature = most_varied(obs, bounds)
    values, name = obs[:, feature], names[feature].replace(",", " ")
    lower, upper = np.quantile(values, (1 / 3, 2 / 3))
    low, high = values <= lower, values > upper
    return [
        Situation("low", f"{name} low", low),
        Situation("middle", f"{name} middling", ~low & ~high),
        Situation("high", f"{name} high", high),
    ]


def most_varied(obs: NDArray[np.float32], bounds: Bounds | None) -> int:
    """Return the feature with the widest standard deviation in proportion to its bounds, or else its size."""
    finite = np.nan_to_num(obs.astype(np.float64))
    size = np.abs(finite).max(axis=0)
    if bounds is not None:
        span = np.array(bounds.high) - np.array(bounds.low)
        size = np.where(np.isfinite(span) & (span > 0.0), span, size)
    return int(np.argmax(finite.std(axis=0) / np.maximum(size, 1e-12)))


def slug(name: str) -> str:
    """Make a name part of a fact's id: +2 becomes plus-2, -2 minus-2, what is not allowed an underscore."""
    signed = re.sub(r"^\+", "plus-", re.sub(r"^-", "minus-", name))
    return re.sub(r"[^A-Za-z0-9_-]", "_", signed)[:24]
