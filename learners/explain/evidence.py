"""What the facts of a version are computed from, and the situations that its decisions are told by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from headrace.learners.explain.regions import regions, told
from headrace.learners.simulate.environments import CALLED, environment_of
from headrace.schemas.records import Series, TaskSpec

if TYPE_CHECKING:  # agents load this file, and need none of the statistics
    from headrace.learners.judge.observed import ObservedReturn

CLAIRVOYANT = "clairvoyant"
"""A simulator's name for a baseline that knows the future: it bounds what can be won, and is no rival."""


_ROLES = {
    "serving": "the version before",
    "best": "the best version so far",
    "floor": "the baseline to beat",
    "agents": "the agents as they acted",
}
"""What text calls a version's opponents that are no environment's baselines."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """How one controller did on N fixed traces, K reward terms: returns float64[N], terms float64[N, K].

    tallies: float64[N, 2 * O], as `schemas.outcomes.tallied` has them, of the task's O outcomes.
    """

    returns: NDArray[np.float64]
    terms: NDArray[np.float64]
    tallies: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass(frozen=True, slots=True, eq=False)
class RecordedDecisions:
    """M decisions of a policy.

    obs: float32[M, D]. values: float64[M, A], of each action. shadows: by controller, int64[M], what it would
    have done in the policy's place. order: the actions' sizes where they have an order, else (). measure:
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

    @property
    def targets(self) -> NDArray[np.float64]:
        """The actions as ones and zeros, float64[M, A]."""
        return np.eye(self.values.shape[1])[self.actions]


@dataclass(frozen=True, slots=True, eq=False)
class ContinuousDecisions:
    """M decisions of a policy over vectors: float64[M, A], within their bounds.

    obs: float32[M, D]. following: what it does one step later. before: what the version before it would have done,
    where that is known. low, high: float64[A], infinite where there is no bound.
    """

    obs: NDArray[np.float32]
    actions: NDArray[np.float64]
    following: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    before: NDArray[np.float64] | None = None

    @property
    def range(self) -> NDArray[np.float64]:
        """What actions are measured by, float64[A]: the width of their bounds, else their own spread."""
        width = self.high - self.low
        spread = np.ptp(self.actions, axis=0) if len(self.actions) else np.ones(len(width))
        found: NDArray[np.float64] = np.where(np.isfinite(width) & (width > 0.0), width, np.where(spread, spread, 1.0))
        return found

    @property
    def targets(self) -> NDArray[np.float64]:
        """The actions in shares of their range, float64[M, A]."""
        return self.actions / self.range


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    """A part of the decisions that a person can recognise: key for ids, name for text, mask bool[M]."""

    key: str
    name: str
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class VersionEvidence:
    """Everything computed about a version: what a simulator gave, if there is one, and its decisions.

    previous_version: the version that served before it. plots: series that only a simulator can give. observed: what
    agents earned by the version before, in the last rows that this one learned from. draws: whether agents draw its
    actions, as its returns have it; its decisions are the most likely ones. relies: on which observations its decisions
    rely, by name in %, the greatest first. familiar: the baseline beside which outcomes are told, "" for none.
    """

    version: int
    previous_version: int | None
    policy: Outcomes | None = None
    previous: Outcomes | None = None
    baselines: Mapping[str, Outcomes] = field(default_factory=dict)
    decisions: RecordedDecisions | ContinuousDecisions | None = None
    plots: Mapping[str, list[Series]] = field(default_factory=dict)
    observed: "ObservedReturn | None" = None
    draws: bool = False
    relies: Mapping[str, float] = field(default_factory=dict)
    familiar: str = ""

    @property
    def others(self) -> dict[str, Outcomes]:
        """Whom the version is compared with: what served before it first."""
        return {**({} if self.previous is None else {"serving": self.previous}), **self.baselines}


def situations(names: Sequence[str], decisions: "RecordedDecisions | ContinuousDecisions") -> list[Situation]:
    """Split decisions by what the policy itself goes by: the regions of its observations where it acts otherwise.

    names: of the D features of what it saw.
    """
    obs = decisions.obs
    assert obs.ndim == 2, obs.shape
    assert obs.shape[1] == len(names), (obs.shape, len(names))
    if len(obs) == 0:
        return []
    return [
        Situation(f"s{place}", told(one.conditions, names) or "all that it saw", one.mask)
        for place, one in enumerate(regions(obs, decisions.targets), 1)
    ]


def controllers(spec: TaskSpec) -> Mapping[str, str]:
    """Return what text calls the baselines of the task's environment."""
    own = environment_of(spec.environment)
    return own.called if own else CALLED


def controller_name(spec: TaskSpec, key: str) -> str:
    """Return a controller's name for text; what is unknown is called by its own name."""
    return _ROLES.get(key) or controllers(spec).get(key, key.replace(",", " "))
