"""Safe now? A task's reward by window beside what served before, and how old the newest of it is. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final, Literal

from headrace.learners.judge.distributions import t_quantile
from headrace.pipelines.serve.view import WindowTotals
from headrace.schemas.outcomes import Measure, measures
from headrace.schemas.records import ServingPolicy, TaskSpec

COMPARED: Final = 24
"""Of a version, so many of its newest windows are compared."""
ALONE: Final = 0.9
"""A window is a version's where so much of its rows are."""
FEWEST: Final = 3
"""Windows that an interval needs on each side."""
LATE_WINDOWS: Final = 3
SHORTEST_STALE_MS: Final = 60_000

State = Literal["nothing", "idle", "worse", "better", "steady"]
WORDS: Final[dict[State, str]] = {
    "nothing": "no data yet",
    "idle": "v{} has not acted in the newest window",
    "worse": "worse than before",
    "better": "better than before",
    "steady": "steady",
}


@dataclass(frozen=True, slots=True)
class Side:
    """What one version earned in its newest windows. version: 0 for rows of none. reward: a row's mean.

    outcomes: in the task's order and units; None where nothing tells.
    """

    version: int
    windows: int
    rows: int
    reward: float
    episode_return: float | None
    outcomes: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """How the reward a row differs from before, and its 95 % interval by windows; None where they are too few."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Safety:
    """How a task does. age_ms: since its newest window ended; None without any. stale: another was due long ago.

    serves: the version that serves; 0 for none. now: of it, and while it does not act, of what acts instead.
    """

    state: State
    now: Side | None
    before: Side | None
    change: Change | None
    age_ms: int | None
    newest_ms: int | None
    rows: int
    stale: bool = False
    serves: int = 0

    @property
    def words(self) -> str:
        """The state in words."""
        return WORDS[self.state].format(self.serves)


def safety(spec: TaskSpec, windows: Sequence[WindowTotals], decisions: Sequence[ServingPolicy], now_ms: int) -> Safety:
    """Compare what serves, by its windows since it last began to act, with the newest of what served before it."""
    told = [one for one in windows if one.mean_reward is not None]
    if not told:
        return Safety("nothing", None, None, None, None, None, 0)
    serves = decisions[-1].version if decisions else 0
    previous = next((one.version for one in reversed(decisions) if one.version != serves), 0)
    idle = serves != 0 and not told[-1].policy_versions.get(serves)
    mine, theirs = _run(told, serves), [one for one in told if owner(one) == previous][-COMPARED:]
    change = _change(mine, theirs) if mine and theirs and serves != previous else None
    actor = _most(told[-1]) if idle else serves
    now = _side(spec, actor, mine or [one for one in told if owner(one) == actor][-COMPARED:] or told[-COMPARED:])
    before = _side(spec, previous, theirs) if change else None
    newest_ms = told[-1].start_ms + spec.window_ms
    age_ms = max(0, now_ms - newest_ms)
    stale = age_ms > max(SHORTEST_STALE_MS, LATE_WINDOWS * spec.window_ms)
    state = "idle" if idle else _state(change)
    return Safety(state, now, before, change, age_ms, newest_ms, told[-1].rows, stale, serves)


def _run(windows: Sequence[WindowTotals], version: int) -> list[WindowTotals]:
    """Return a version's newest windows up to the end, without those from before another one acted in its stead."""
    run = takewhile(lambda one: _acts(one, version), reversed(windows))
    return [one for one in run if owner(one) == version][:COMPARED][::-1]


def _acts(window: WindowTotals, version: int) -> bool:
    """Whether a version acted in a window, alone or among others: agents change over one by one, and try canaries."""
    found = owner(window)
    return found == version or (found is None and version in window.policy_versions)


def _most(window: WindowTotals) -> int:
    """Return the version of most of a window's rows, 0 for none."""
    rows = {0: window.rows - sum(window.policy_versions.values()), **window.policy_versions}
    return max(rows, key=lambda version: rows[version])


def owner(window: WindowTotals) -> int | None:
    """Return the version that acted in nearly all of a window, 0 for none of them, None where it was mixed."""
    for version, rows in window.policy_versions.items():
        if rows >= ALONE * window.rows:
            return version
    return 0 if sum(window.policy_versions.values()) <= (1.0 - ALONE) * window.rows else None


def _side(spec: TaskSpec, version: int, windows: Sequence[WindowTotals]) -> Side:
    rows, reward = sum(one.rows for one in windows), math.fsum(one.reward_sum for one in windows)
    ends = sum(one.episode_ends for one in windows)
    outcomes = tuple(_outcome(one, place, windows, ends) for place, one in enumerate(measures(spec)))
    return Side(version, len(windows), rows, reward / rows, reward / ends if ends else None, outcomes)


def _outcome(measure: Measure, place: int, windows: Sequence[WindowTotals], ends: int) -> float | None:
    having = [one for one in windows if len(one.outcomes) > place < len(one.outcome_rows)]
    total = math.fsum(one.outcomes[place] for one in having)
    return measure.told(total, sum(one.outcome_rows[place] for one in having), ends)


def _change(mine: Sequence[WindowTotals], theirs: Sequence[WindowTotals]) -> Change:
    """Welch's interval over windows' means, with the fewer degrees of freedom of the two."""
    means = [[one.reward_sum / one.rows for one in side] for side in (mine, theirs)]
    (now, now_error), (before, before_error) = (_mean(side) for side in means)
    if min(map(len, means)) < FEWEST:
        return Change(now - before, None, None)
    half = t_quantile(min(map(len, means)) - 1, 0.975) * math.sqrt(now_error + before_error)
    return Change(now - before, now - before - half, now - before + half)


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and the square of its standard error."""
    mean = math.fsum(values) / len(values)
    spread = math.fsum((value - mean) ** 2 for value in values)
    return mean, spread / max(1, len(values) - 1) / len(values)


def _state(change: Change | None) -> State:
    if change is None or change.low is None or change.high is None or change.low <= 0.0 <= change.high:
        return "steady"
    return "better" if change.low > 0.0 else "worse"
