"""Outcomes: what the people who run a task go by, and how it follows from a task's rows."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec
from msgspec import Struct

from headrace.schemas.names import slug

MAX_OUTCOMES: Final = 8
_LARGEST: Final = 1e30
_NAME: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9 ._/%-]{0,38}[A-Za-z0-9%])?")
_UNIT: Final = re.compile(r"(?:[A-Za-z0-9%$€£°µ/._-](?:[A-Za-z0-9%$€£°µ/ ._-]{0,22}[A-Za-z0-9%$€£°µ/._-])?)?")
_TAKEN: Final = frozenset({"version", "return", "discounted return", "per step"})
"""Units that reports read otherwise."""


class Source(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What of a row an outcome is read from: one of observation, action and reward_term.

    observation: a name; next: the one after the action, not the one before it. action: a name, which is 1 where that
    action was taken and 0 elsewhere; of continuous actions a dimension's number, from 0. reward_term: a name; rows
    without it do not count.
    """

    observation: str | None = None
    action: str | int | None = None
    reward_term: str | None = None
    next: bool = False


class Share(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The share of rows, in %, whose value is above a limit, or below one: one of the two."""

    share_above: float | None = None
    share_below: float | None = None


class Outcome(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A number that people know a task by.

    name, unit: as reports write them. better: which way is good. of: what it is read from; a row's value is
    scale * that + offset. as: what is made of the rows' values: their mean, their sum over the episodes that ended,
    or the share of rows that are above or below a limit.
    """

    name: str
    unit: str
    better: Literal["lower", "higher"]
    of: Source
    measure: Literal["mean", "sum_per_episode"] | Share = msgspec.field(name="as")
    scale: float = 1.0
    offset: float = 0.0


def outcome_checks(
    outcomes: Sequence[Outcome], observations: Sequence[str], actions: Sequence[str] | int, terms: Sequence[str]
) -> Iterator[tuple[bool, str]]:
    """Check a task's outcomes, each with its own message. actions: their names, or the number of dimensions."""
    yield len(outcomes) <= MAX_OUTCOMES, f"outcomes has {len(outcomes)} entries; {MAX_OUTCOMES} are allowed"
    seen: dict[str, str] = {}
    for one in outcomes:
        name, key = f"outcome {one.name[:80]!r}", slug(one.name).lower()
        yield (
            bool(_NAME.fullmatch(one.name)),
            f"{name}: its name must be 1 to 40 of A-Z, a-z, 0-9, space, ., _, /, %, -, a letter first",
        )
        yield (
            key not in seen,
            f"{name}: {seen.get(key)!r} has the same first 24 characters; name one otherwise",
        )
        seen[key] = one.name
        yield bool(_UNIT.fullmatch(one.unit)), f"{name}: unit {one.unit[:80]!r} is none; write 24 characters at most"
        yield one.unit not in _TAKEN, f"{name}: unit {one.unit!r} means something else in reports; write another"
        yield from ((ok, f"{name}: {told}") for ok, told in _source_checks(one.of, observations, actions, terms))
        yield from ((ok, f"{name}: {told}") for ok, told in _measure_checks(one))


def _source_checks(
    source: Source, observations: Sequence[str], actions: Sequence[str] | int, terms: Sequence[str]
) -> Iterator[tuple[bool, str]]:
    given = [one for one in (source.observation, source.action, source.reward_term) if one is not None]
    yield len(given) == 1, '"of" needs one of "observation", "action" and "reward_term"'
    yield source.observation is not None or not source.next, '"next" belongs to an observation'
    yield _known("observation", source.observation, observations)
    yield _known("reward_term", source.reward_term, terms)
    if isinstance(actions, int):
        fits = source.action is None or (isinstance(source.action, int) and 0 <= source.action < actions)
        yield (
            fits,
            f'"action" is {source.action!r}; of continuous ones a dimension, 0 to {actions - 1}, is allowed',
        )
    else:
        yield _known("action", source.action, actions)


def _known(field: str, name: str | int | None, names: Sequence[str]) -> tuple[bool, str]:
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return name is None or name in names, f"{field} {str(name)[:80]!r} is none of the task's: {shown or 'it has none'}"


def _measure_checks(outcome: Outcome) -> Iterator[tuple[bool, str]]:
    limits = [0.0]
    if isinstance(outcome.measure, Share):
        limits = [one for one in (outcome.measure.share_above, outcome.measure.share_below) if one is not None]
        yield len(limits) == 1, 'a share needs one of "share_above" and "share_below"'
        yield outcome.unit == "%", f"a share is told in %; its unit is {outcome.unit!r}"
    numbers = (outcome.scale, outcome.offset, *limits)
    sound = all(math.isfinite(one) and abs(one) <= _LARGEST for one in numbers)
    yield sound, f"scale, offset and limits are {numbers}; -1e30 to 1e30 is allowed"
    yield outcome.scale != 0.0, "scale is 0: every value would be the same"
