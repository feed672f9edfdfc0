"""Readable ids for a language model: what whoever wrote the task or the data named becomes a letter.

`term.latency.vs-serving` is `term.a.vs-serving`: words of headrace's own vocabulary stay. One name has one letter
wherever it stands among the facts.
"""

from collections.abc import Mapping
from functools import cached_property

from headrace.schemas.narration.kinds import parsed
from headrace.schemas.records import Facts


class Aliases:
    """of: by fact id its alias, in the facts' order."""

    def __init__(self, facts: Facts) -> None:
        pieces = {fact.fact_id: parsed(fact.fact_id)[1] for fact in facts.facts}
        foreign = dict.fromkeys(piece.text for found in pieces.values() for piece in found if piece.foreign)
        letters = {name: letter(place) for place, name in enumerate(foreign)}
        self.of: Mapping[str, str] = {
            fact_id: "".join(letters[piece.text] if piece.foreign else piece.text for piece in found)
            for fact_id, found in pieces.items()
        }

    @cached_property
    def fact_ids(self) -> dict[str, str]:
        """By alias its fact's id."""
        return {alias: fact_id for fact_id, alias in self.of.items()}


def letter(place: int) -> str:
    """Return the name at a place from 0 on: a to z, then aa, ab and so on."""
    head, tail = divmod(place, 26)
    return (letter(head - 1) if head else "") + chr(ord("a") + tail)
