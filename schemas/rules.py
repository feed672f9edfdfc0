"""The data rules, written once, as data: the hot path's masks are made from them here.

Rules of a message as a whole (its size, syntax, task) are named here too and checked where it is decoded.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.reasons import not_finite, time_ahead, time_out_of_range
from headrace.schemas.records import ID_PATTERN, MAX_TS_MS, Bounds, Layout, TaskSpec
from headrace.schemas.transition import TransitionBatch

MAX_STEP = 2**40 - 1
MAX_LOG_PROB = 1e-4
"""The logarithm of a probability is at most 0, but for what float32 rounds."""

Kind = Literal["between", "finite", "finite_or_absent", "at_most_or_absent", "pattern", "not_ahead"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A condition that every value of a column must meet.

    between: low <= value <= high, per dimension. finite_or_absent: NaN stands for absent.
    not_ahead: at most `high` ms after the log's own append time. fields: names of the column's dimensions.
    """

    name: str
    column: str
    kind: Kind
    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None
    pattern: str | None = None
    fields: tuple[str, ...] = ()


MESSAGE_RULES = {
    "empty": "a message has a value",
    "size": "a message has at most max_message_bytes bytes and max_message_rows rows",
    "content_type": "the content-type header is application/json or application/vnd.apache.arrow.stream",
    "syntax": "the value decodes as its content type says",
    "type": "each field is there and has its type",
    "schema_version": "schema_version is 1",
    "unknown_task": "the task was added before the message was appended",
    "one_agent": "all rows of a message are of one task and one agent",
    "reward_terms": "each reward term is one that the task names",
    "width": "obs and next_obs have one value per observation; a vector action one per dimension",
}
"""Rules of a message as a whole, by name."""


def rules_for(spec: TaskSpec, layout: Layout) -> tuple[Rule, ...]:
    """Return the rules that a task's rows must meet."""
    rules = [
        Rule("agent_id", "agent_id", "pattern", pattern=ID_PATTERN),
        Rule("episode_id", "episode_id", "pattern", pattern=ID_PATTERN),
        Rule("step", "step", "between", 0, MAX_STEP),
        Rule("ts", "ts", "between", spec.oldest_ms, MAX_TS_MS),
        Rule("clock", "ts", "not_ahead", high=layout.max_clock_skew_ms),
        Rule("obs_finite", "obs", "finite"),
        Rule("next_obs_finite", "next_obs", "finite"),
        Rule("reward_finite", "reward", "finite"),
        Rule("reward_terms_finite", "reward_terms", "finite_or_absent", fields=spec.reward_terms),
        Rule("log_prob_finite", "log_prob", "finite_or_absent"),
    ]
    if isinstance(spec.actions, Bounds):
        rules.append(Rule("action", "action", "between", spec.actions.low, spec.actions.high))
    else:
        rules.append(Rule("action", "action", "between", 0, len(spec.actions) - 1))
        rules.append(Rule("log_prob", "log_prob", "at_most_or_absent", high=MAX_LOG_PROB))
    if spec.bounds:
        rules.append(Rule("obs_bounds", "obs", "between", spec.bounds.low, spec.bounds.high))
        rules.append(Rule("next_obs_bounds", "next_obs", "between", spec.bounds.low, spec.bounds.high))
    return tuple(rules)


_EVERY_RULE = rules_for(TaskSpec("task", ("x",), ("a",), 1, bounds=Bounds((0.0,), (0.0,))), Layout(""))
RULE_NAMES = frozenset(MESSAGE_RULES) | {rule.name for rule in _EVERY_RULE}
"""The names of all rules, as a rejected message has one."""


def broken(rule: Rule, batch: TransitionBatch, append_ts: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Return a mask bool[N] of the rows that break the rule, None if none does.

    append_ts: int64[N], the log's append time of each row's message.
    """
    if rule.kind == "pattern":
        return _pattern_broken(rule, batch)
    column: NDArray[Any] = getattr(batch, rule.column)
    if not column.size or _extremes_hold(rule, column):
        return None
    if rule.kind == "not_ahead":
        bad = column - append_ts > np.int64(rule.high)  # type: ignore[arg-type]
    elif rule.kind == "between":
        low, high = _bounds(rule, column.dtype)
        bad = ~((column >= low) & (column <= high))
    elif rule.kind == "finite":
        bad = ~np.isfinite(column)
    elif rule.kind == "at_most_or_absent":
        bad = column > np.float32(rule.high)  # type: ignore[arg-type]
    else:
        bad = np.isinf(column)
    if not bad.any():
        return None
    return np.asarray(bad.reshape(len(batch), -1).any(axis=1), np.bool_)


def _extremes_hold(rule: Rule, column: NDArray[Any]) -> bool:
    """Whether the column's least and greatest value (NaN if any is) are allowed: the common case, cheaper."""
    if rule.kind == "finite":
        return bool(np.isfinite(column.min()) and np.isfinite(column.max()))
    if rule.kind == "between":
        low, high = _bounds(rule, column.dtype)
        return bool((column.min(axis=0) >= low).all() and (column.max(axis=0) <= high).all())
    return False


def _bounds(rule: Rule, dtype: np.dtype[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the bounds in the column's own precision: .1 is within .1, though its float32 is the greater number."""
    kind = dtype if dtype.kind == "f" else np.dtype(np.int64)
    with np.errstate(over="ignore"):
        low, high = (np.asarray(0 if bound is None else bound, np.float64) for bound in (rule.low, rule.high))
        return low.astype(kind), high.astype(kind)


def _pattern_broken(rule: Rule, batch: TransitionBatch) -> NDArray[np.bool_] | None:
    """Match each distinct name once, and all of them by one call where they are good."""
    names, codes = (batch.agents, batch.agent) if rule.column == "agent_id" else (batch.episodes, batch.episode)
    pattern = rule.pattern or ""
    one, joined = pattern.removeprefix("^").removesuffix("$"), "\n".join(names)
    if joined.count("\n") == len(names) - 1 and re.fullmatch(rf"{one}(?:\n{one})*+", joined):
        return None
    match = re.compile(pattern).fullmatch
    bad = [match(name) is None for name in names]
    if not any(bad):
        return None
    mask = np.asarray(bad)[codes]
    return mask if mask.any() else None


def explain(rule: Rule, batch: TransitionBatch, row: int, append_ts: int) -> str:
    """Say in one sentence what the row's value is and what the rule allows."""
    if rule.kind == "pattern":
        name = batch.agents[batch.agent[row]] if rule.column == "agent_id" else batch.episodes[batch.episode[row]]
        return f"{rule.column} {name[:80]!r} does not match {rule.pattern}"
    value: Any = getattr(batch, rule.column)[row]
    if rule.kind == "not_ahead":
        return time_ahead(int(value), int(value) - append_ts, int(rule.high))  # type: ignore[arg-type]
    if rule.kind == "at_most_or_absent":
        return (
            f"log_prob is {value!s}; a discrete action's is at most 0: the logarithm of its probability, "
            "not the probability, nor the logarithm negated"
        )
    if rule.column == "ts":
        return time_out_of_range(int(value), int(rule.low))  # type: ignore[arg-type]
    values = np.atleast_1d(value)
    low, high = (np.broadcast_to(bound, values.shape) for bound in _bounds(rule, values.dtype))
    if rule.kind == "between":
        good = (values >= low) & (values <= high)
    else:
        good = np.isfinite(values) if rule.kind == "finite" else ~np.isinf(values)
    place = int(np.argmin(good))
    name = f"{rule.column}[{place}]" if np.ndim(value) else rule.column
    if not np.isfinite(values[place]):
        return not_finite(f"{rule.column}.{rule.fields[place]}" if rule.fields else name, float(values[place]))
    return f"{name} is {values[place]!s}; {low[place]!s} to {high[place]!s} are allowed"


def first_broken(rules: Sequence[Rule], batch: TransitionBatch, append_ts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return (row, number of the first rule that it breaks) of each bad row, in row order."""
    found: dict[int, int] = {}
    for number, rule in enumerate(rules):
        mask = broken(rule, batch, append_ts)
        if mask is not None:
            for row in np.flatnonzero(mask).tolist():
                found.setdefault(row, number)
    return sorted(found.items())
