"""How large a grammar the counts in a regular expression make: a grammar has a rule for each copy. Pure."""

import re
from typing import Final

_PARTS: Final = re.compile(r"\[[^]]*\]|\{[^}]*\}|.", re.DOTALL)
"""A class of characters, a count, or one character, brackets included."""
_COUNT: Final = re.compile(r"\{(\d{0,9})(?:,(\d{0,9}))?\}", re.ASCII)


def copies(pattern: str, most: int, most_times: int) -> int:
    """Return how many copies the counts of a pattern make: nested ones multiply, others add up.

    Beyond `most` it stops; more than that is also a count above `most_times`, and what has braces and is no count.
    """
    total, last = 0, 0  # last: of the part before
    opened = list[int]()
    for part in _PARTS.findall(pattern):
        if part[0] == "{":
            count = _COUNT.fullmatch(part)
            times = max((int(number) for number in count.groups() if number), default=1) if count else most + 1
            times = times if times <= most_times else most + 1
            total, last = total + max(last, 1) * times - last, max(last, 1) * times
        elif part == "(":
            opened.append(total)
            last = 0
        else:
            last = total - opened.pop() if part == ")" and opened else 0
        if total > most:
            return total
    return total
