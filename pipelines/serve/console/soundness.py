"""Is the data sound? Duplicates and late rows of a task, and what was rejected, by rule, with an example. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headrace.pipelines.query.quarantine import RejectedMessage, origin, safe_text
from headrace.pipelines.query.rejected import LATER_RULES
from headrace.pipelines.serve.view import WindowTotals

EXAMPLES: Final = 3
REASON_CHARACTERS, VALUE_CHARACTERS = 240, 400
MOST_RULES: Final = 50


@dataclass(frozen=True, slots=True)
class Example:
    """A message that was rejected; its text escaped and cut."""

    place: str
    producer: str
    task: str
    reason: str
    value: str
    ts: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """What a rule rejected. later: whether time alone may heal it, so that sending it again may help."""

    rule: str
    messages: int
    later: bool
    newest_ms: int | None
    examples: list[Example]


@dataclass(frozen=True, slots=True)
class Rows:
    """Counts over the windows that are known."""

    rows: int
    duplicates: int
    late: int
    windows: int


def row_counts(windows: Iterable[WindowTotals]) -> Rows:
    """Count a task's rows."""
    known = [*windows]
    return Rows(
        sum(one.rows for one in known),
        sum(one.duplicates for one in known),
        sum(one.late for one in known),
        len(known),
    )


def rejections(
    counts: Mapping[tuple[str, str], int], messages: Sequence[RejectedMessage], task: str | None = None
) -> list[Rejection]:
    """Return what was rejected by rule, the most first. messages: the oldest first. task: only this one's, or all."""
    totals: dict[str, int] = defaultdict(int)
    for (named, rule), number in [*counts.items()]:
        if task in {None, named}:
            totals[rule] += number
    examples: dict[str, list[Example]] = defaultdict(list)
    for message in reversed(messages):
        if message.rule in totals and len(examples[message.rule]) < EXAMPLES:
            example = _example(message)
            if task in {None, example.task}:
                examples[message.rule].append(example)
    rules = sorted(totals, key=lambda rule: (-totals[rule], rule))[:MOST_RULES]
    return [_rejection(rule, totals[rule], examples[rule]) for rule in rules]


def _rejection(rule: str, messages: int, examples: list[Example]) -> Rejection:
    newest_ms = examples[0].ts if examples else None
    return Rejection(rule, messages, rule in LATER_RULES, newest_ms, examples)


def _example(message: RejectedMessage) -> Example:
    task, producer = origin(message)
    reason = safe_text(message.reason.encode(), REASON_CHARACTERS) or ""
    value = safe_text(message.kept, VALUE_CHARACTERS) or "nothing"
    return Example(message.place, producer, task, reason, value, message.ts)
