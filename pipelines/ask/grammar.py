"""How questions are read: the words and patterns of `grammar.toml`."""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from headrace.pipelines.ask.question import KINDS, Kind

Weighted = list[tuple[int, re.Pattern[str]]]


@dataclass(frozen=True, slots=True)
class Grammar:
    """What the file says of each of these; its comments tell what they are."""

    function: frozenset[str]
    known: frozenset[str]
    spelt: dict[str, str]
    written_out: list[tuple[re.Pattern[str], str]]
    past: dict[str, str]
    about: re.Pattern[str]
    declined: list[re.Pattern[str]]
    kinds: dict[Kind, Weighted]
    cue: str
    up: re.Pattern[str]
    down: re.Pattern[str]
    hold: re.Pattern[str]


@cache
def grammar() -> Grammar:
    """Read the file, once."""
    found = tomllib.loads(Path(__file__).with_name("grammar.toml").read_text("utf-8"))
    macros = {f"<{name}>": _one_line(text) for name, text in found["macros"].items()}

    def compiled(pattern: str) -> re.Pattern[str]:
        pattern = _one_line(pattern)
        for name, text in macros.items():
            pattern = pattern.replace(name, text)
        return re.compile(pattern)

    def weighted(kind: Kind) -> Weighted:
        rows = found["kinds"][kind].items()
        return [(int(weight), compiled(pattern)) for weight, patterns in rows for pattern in patterns]

    return Grammar(
        frozenset(found["function"].split()),
        frozenset(found["known"].split()),
        {wrong: right for right, all_wrong in found["spelt"].items() for wrong in all_wrong},
        [(compiled(row["short"]), row["long"]) for row in found["written_out"]],
        found["past"],
        compiled(found["about"]),
        [*map(compiled, found["declined"])],
        {kind: weighted(kind) for kind in KINDS},
        _one_line(found["actions"]["cue"]),
        *(compiled(found["actions"][name]) for name in ("up", "down", "hold")),
    )


def _one_line(pattern: str) -> str:
    return re.sub(r"(?:^|\n)\s*", "", pattern)
