"""What a question asks for: a kind, and what it names."""

from typing import Final, Literal, get_args

from msgspec import Struct

Kind = Literal[
    "why",
    "importance",
    "expected",
    "contrast",
    "counterfactual",
    "similar",
    "behaviour",
    "change",
    "verdict",
    "merit",
    "serving",
    "activity",
    "health",
]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
OF_DECISIONS: Final[frozenset[Kind]] = frozenset(KINDS[:6])
"""Kinds that ask about one decision; `importance` asks about a version as well."""
MOST_CHARACTERS: Final = 500
"""Of a question."""


class Moment(Struct, frozen=True):
    """A time that was asked about: start_ms <= time < end_ms. point: one moment, as exact as it was said."""

    start_ms: int
    end_ms: int
    point: bool


class Question(Struct, frozen=True, omit_defaults=True):
    """A question as it was understood; None is what it does not name.

    kind: None for what is out of scope. version, other: the version asked about, and the one that it is measured by.
    newest: whether the newest version is meant. actions: indices of the actions that it may mean. foils: of those that
    it asks about instead. feature: an observation's name, or what those of several frames begin with.
    """

    kind: Kind | None
    task: str | None = None
    agent: str | None = None
    moment: Moment | None = None
    episode: str | None = None
    step: int | None = None
    version: int | None = None
    other: int | None = None
    newest: bool = False
    actions: tuple[int, ...] = ()
    foils: tuple[int, ...] = ()
    feature: str | None = None
    rule: str | None = None
