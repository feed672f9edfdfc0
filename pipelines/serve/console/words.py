"""How the console writes numbers and times: aligned, signed where they are changes, and never NaN."""

import math
import re
from datetime import UTC, datetime
from typing import Final

NOTHING: Final = "no data yet"
MINUS: Final = "\u2212"
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def figure(value: float | None, decimals: int | None = None, *, signed: bool = False) -> str:
    """Write a number, with three significant digits unless decimals are given; NOTHING for what is no number."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if decimals is None:
        size = abs(value)
        decimals = 0 if size == 0.0 or size >= 100.0 else min(6, 2 - math.floor(math.log10(size)))
    if abs(value) >= 1e15:
        return f"{value:.2e}".replace("-", MINUS)
    text = f"{value:+,.{decimals}f}" if signed else f"{value:,.{decimals}f}"
    text = text if any(digit in text for digit in "123456789") else text.lstrip("+-")
    return text.replace("-", MINUS)


def percent(share: float | None) -> str:
    """Write a share in %."""
    if share is None or not math.isfinite(share):
        return NOTHING
    return f"{100.0 * share:.{0 if share >= 0.1 else 1}f}\u00a0%"


def duration(ms: float) -> str:
    """Write how long something lasts, by its greatest unit: 40 s, 3 min, 2 d."""
    seconds = max(0, round(ms / 1_000))
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= size), (1, "s"))
    return f"{seconds // size}\u00a0{unit}"


def begun(text: str) -> str:
    """Begin with a capital where a word is first: "v7" and "p95" are names."""
    return text[:1].upper() + text[1:] if re.match(r"[a-z]+\b", text) else text


def iso(ms: int) -> str:
    """Write a moment for machines."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def day_and_time(ms: int) -> str:
    """Write a moment for people, UTC: 2026-01-31 14:05:00."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def clock_time(ms: int) -> str:
    """Write the time of a day, UTC: 14:05:00."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%H:%M:%S}"
