"""Why data is refused, in sentences that lead to the fix.

What is here the codecs share; of other faults each speaks in its own words.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, Final

from headrace.schemas.records import MAX_TS_MS

_OLDEST_S: Final = 100_000_000
_OLDEST_MS: Final = 1000 * _OLDEST_S
"""March 1973: what lies before it as milliseconds may be seconds of a time after it."""
_HALF_HOUR_MS: Final = 1_800_000
_ZONES_MS: Final = 14 * 3_600_000
"""How far local time may be ahead of UTC."""
_SHOWN_NAMES: Final = 8


def not_finite(name: str, value: float) -> str:
    """Say that a number is NaN or infinite; what is too large for float32 has become infinite."""
    if math.isnan(value):
        return f"{name} is NaN: a finite number is expected"
    sign = "-" if value < 0 else ""
    return f"{name} is {sign}Infinity, or too large for float32 (3.4e38): a finite number is expected"


def looks_like_seconds(ts: float) -> bool:
    """Whether a time is hardly one in milliseconds."""
    return _OLDEST_S <= ts < _OLDEST_MS


def time_out_of_range(ts: int, oldest_ms: int) -> str:
    """Say what a time looks like that lies before the task's oldest one, or after the year 9999."""
    text = f"ts is {ts}; {oldest_ms} to {MAX_TS_MS} are allowed, milliseconds since 1970"
    for unit, ratio in (("microseconds", 1_000), ("nanoseconds", 1_000_000)):
        if _OLDEST_MS <= ts // ratio <= MAX_TS_MS < ts:
            return f"{text}: it looks like {unit}, send ts // {ratio}"
    if not 0 <= ts < oldest_ms:
        return text
    seconds = "it looks like seconds, send ts * 1000; " if looks_like_seconds(ts) else ""
    return f'{text}: {seconds}if so old a time is meant, or a clock from 0 on, set "oldest_ms" in the task file'


def time_ahead(ts: int, ahead_ms: int, allowed_ms: int) -> str:
    """Say how far a time is ahead of the log's own, and what it may be."""
    text = f"ts {ts} is {ahead_ms} ms ahead of the log's append time; {allowed_ms} are allowed"
    zone = _HALF_HOUR_MS - allowed_ms < ahead_ms <= _ZONES_MS
    return f"{text}: is it a local time? UTC is expected" if zone else text


def time_of_another_type(ts: Any) -> str:  # noqa: ANN401 whatever stands there
    """Say how a time becomes whole milliseconds that is a text, a fraction or something else."""
    wanted = "milliseconds since 1970 (UTC) are expected, as a whole number"
    if isinstance(ts, float):
        return f"ts is {ts!r}: {wanted}; convert with int(ts) or, from seconds, int(ts * 1000)"
    if not isinstance(ts, str):
        return f"ts is {str(ts)[:40]}: {wanted}"
    return f"ts is the text {ts[:40]!r}: {wanted}{_conversion(ts)}"


def _conversion(text: str) -> str:
    """Say what an ISO time is in milliseconds, and how Python finds it."""
    if text.isdigit():
        return ", without quotes"
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return ""
    zone, replaced = ("", "") if time.tzinfo else (" if it is UTC", ".replace(tzinfo=UTC)")
    found = round(time.replace(tzinfo=time.tzinfo or UTC).timestamp() * 1000)
    return f", here {found}{zone}; convert with int(datetime.fromisoformat(ts){replaced}.timestamp() * 1000)"


def unknown_action(label: str, labels: Sequence[str]) -> str:
    """Say which actions a task has."""
    return f"action is {label[:40]!r}; the task's are {_listed(label, labels)}"


def unknown_term(name: str, terms: Sequence[str]) -> str:
    """Say which reward terms a task has."""
    known = f"the task's are {_listed(name, terms)}" if terms else "the task names none"
    return f"reward_terms has {name[:40]!r}; {known}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" where a known name is like the one given, else ""."""
    close = get_close_matches(name, [*known], n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _listed(name: str, names: Sequence[str]) -> str:
    """Return some names, those first that are like the one given."""
    like = get_close_matches(name[:80], names, n=1)
    shown = [*like, *(one for one in names if one not in like)][:_SHOWN_NAMES]
    return ", ".join(shown)[:120] + (", ..." if len(names) > _SHOWN_NAMES else "")
