"""What the names in a task file may be, and what ids make of them."""

import re
from collections.abc import Iterator


def name_checks(field: str, names: tuple[str, ...]) -> Iterator[tuple[bool, str]]:
    """Check a field's names, each with its own message."""
    seen: set[str] = set()
    for name in names:
        yield name not in seen, f"{field}: {name[:80]!r} is there twice; names must be unique"
        seen.add(name)
        meant = re.sub(r"[^A-Za-z0-9._+-]+", "_", name).strip("_")[:64]
        such = f"; write it as {meant!r}" if meant else ""
        told = f"{field}: {name[:80]!r} is no name: 1 to 64 of A-Z, a-z, 0-9, ., _, +, - are allowed{such}"
        yield bool(re.fullmatch(r"[A-Za-z0-9._+-]{1,64}", name)), told


def slug(name: str) -> str:
    """Make a name part of a fact's id: +2 becomes plus-2, -2 minus-2, what is not allowed an underscore."""
    signed = re.sub(r"^\+", "plus-", re.sub(r"^-", "minus-", name))
    return re.sub(r"[^A-Za-z0-9_-]", "_", signed)[:24]
