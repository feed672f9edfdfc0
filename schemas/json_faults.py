"""What is wrong with a JSON message that can't be decoded, where the decoder's own words don't lead to the fix."""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from headrace.schemas.checker import BadMessageError
from headrace.schemas.formats import other_format
from headrace.schemas.reasons import not_finite, time_of_another_type

_FINITE_RULES = {
    "obs": "obs_finite",
    "next_obs": "next_obs_finite",
    "action": "action",
    "reward": "reward_finite",
    "reward_terms": "reward_terms_finite",
    "log_prob": "log_prob_finite",
}
"""The rule that a field breaks which holds a number that is not finite."""

_FIELD = re.compile(r"at `\$(?:\[(\d+)\])?\.(\w+)`$")


class _NoNumber(float):
    """NaN, Infinity or -Infinity as they stand in a text. Python writes them, though JSON has no such numbers."""


def fault(value: bytes, error: Exception) -> BadMessageError:
    """Return the rule that a message breaks, and why; error: the decoder's own."""
    content = _content(value)
    if isinstance(error, msgspec.ValidationError):
        return BadMessageError("type", _of_type(str(error), content))
    rows = [row for row in (content if isinstance(content, list) else [content]) if isinstance(row, dict)]
    name, number = next((found for row in rows for found in _no_numbers(row)), ("", 0.0))
    if name:
        rule = _FINITE_RULES.get(name.partition(".")[0].partition("[")[0], "syntax")
        return BadMessageError(rule, not_finite(name[:80], number))
    other = other_format(value)
    return BadMessageError("syntax", f"it is {other}" if other else str(error)[:200])


def _of_type(reason: str, content: Any) -> str:  # noqa: ANN401 whatever stands there
    """Add to the decoder's words what stands in the field that they name."""
    field = _FIELD.search(reason)
    row = content[int(field[1] or 0)] if field and isinstance(content, list) else content
    if not (field and isinstance(row, dict) and field[2] in row):
        return reason[:200]
    value = row[field[2]]
    if field[2] == "ts" and not isinstance(value, int):
        return time_of_another_type(value)
    return f"{reason[:200]}: it is {json.dumps(value)[:40]}"


def _content(value: bytes) -> Any:  # noqa: ANN401 whatever stands there
    """Read a text as Python does, which knows NaN and Infinity; None where it is no JSON even so."""
    try:
        return json.loads(value, parse_constant=_NoNumber)
    except (ValueError, RecursionError):
        return None


def _no_numbers(found: Any, name: str = "") -> Iterator[tuple[str, float]]:  # noqa: ANN401
    """Yield what is not finite, and where it stands, such as obs[2] or reward_terms.cost."""
    if isinstance(found, _NoNumber):
        yield name, float(found)
    elif isinstance(found, list):
        for place, item in enumerate(found):
            yield from _no_numbers(item, f"{name}[{place}]")
    elif isinstance(found, dict):
        for key, item in found.items():
            yield from _no_numbers(item, f"{name}.{key}" if name else key)
