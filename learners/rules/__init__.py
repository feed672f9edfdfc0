"""Rule lists: short, ordered, read and edited by people; found in what a policy does, and acted by in its place."""

from typing import Final

MAX_RULES: Final = 7
"""Rules of a list that is found, at most; the last of them, `otherwise`, has no condition."""
