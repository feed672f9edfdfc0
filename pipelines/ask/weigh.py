"""What a question asks for by all its words together: a linear classifier, fitted on questions of known kind.

`tests/bench/fit_ask.py` fits the weights. A feature's row in them is its checksum, so no list of words is stored.
"""

import re
import zlib
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from headrace.pipelines.ask.grammar import grammar
from headrace.pipelines.ask.meaning import DIMENSIONS, WORD, Floats, meaning
from headrace.pipelines.ask.question import KINDS, Kind
from headrace.pipelines.ask.slots import foreign

CLASSES: Final[tuple[Kind | None, ...]] = (*KINDS, None)
HASHED: Final = 16_384
ROWS: Final = HASHED + 2 * DIMENSIONS
"""Of the weights: those of hashed features, then of what all words mean, then of what those mean that say something."""
WEIGHTS: Final = Path(__file__).with_name("weights.npy")
PATTERNS: Final = 0.04
"""What a pattern's weight counts beside words; chosen, as the families' shares, by leaving each question out."""
NAMED: Final = ("AGENT", "VERSION", "ACTION", "STEP", "EPISODE", "RULE", "FEATURE", "TIME")
MEANT: Final = 0.7
"""What the mean of words' vectors counts beside a word."""


def weighed(text: str, found: Mapping[Kind, float]) -> Kind | None:
    """Return the kind that most speaks for, None for out of scope. found: what patterns say, by kind."""
    rows, sizes = features(text, found)
    return CLASSES[int(np.argmax(sizes @ _weights()[rows].astype(np.float32)))]


def features(text: str, found: Mapping[Kind, float]) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the rows of a text's features in the weights, and how large each is, (features,)."""
    sizes = {f"pattern {kind}": PATTERNS * size for kind, size in found.items()}
    sizes |= {f"declined {place}": 1.0 for place, one in enumerate(grammar().declined) if one.search(text)}
    words = [word for word in _said(text) if word.islower()]
    telling = [word for word in words if word not in grammar().function]
    sizes |= {"foreign": len(foreign(text)) / max(len(telling), 1), "about": float(bool(grammar().about.search(text)))}
    for share, family in _families(["^", *_said(text), "$"]):
        sizes |= dict.fromkeys(family, share / len(family) ** 0.5 if family else 0.0)
    rows = [zlib.crc32(name.encode()) % HASHED for name in sizes]
    meant = np.concatenate([meaning(words), meaning(telling)])
    return (
        np.array([*rows, 0, *range(HASHED, ROWS)]),
        np.array([*sizes.values(), 1.0, *(MEANT * meant)], np.float32),
    )


def _said(text: str) -> list[str]:
    """Return the words and numbers of a text, short forms written out, and without those that are only polite."""
    for short, long in grammar().written_out:
        text = short.sub(long, text)
    return re.findall(rf"{WORD.pattern}|\d+", text)


def _families(words: list[str]) -> list[tuple[float, set[str]]]:
    """Return sets of features, and what each set counts: words, pairs, their parts, and words beside what is named."""
    named = [name for name in NAMED if name in words]
    about = "".join(name for name in ("AGENT", "VERSION", "ACTION") if name in words)
    parts = {
        f"<{word}>"[at : at + size]
        for word in words
        if word.islower()
        for size in (3, 4, 5)
        for at in range(len(word) + 3 - size)
    }
    return [
        (1.0, {f"word {word}" for word in words}),
        (0.7, {f"next {one} {other}" for one, other in pairwise(words)}),
        (0.7, {f"skip {one} {other}" for one, other in zip(words, words[2:], strict=False)}),
        (1.0, {f"part {part}" for part in parts}),
        (0.6, {f"with {name} {word}" for name in named for word in words}),
        (0.6, {f"of {about} {word}" for word in words}),
        (0.7, {f"twice {name}" for name in named if words.count(name) > 1}),
    ]


@cache
def _weights() -> npt.NDArray[np.int8]:
    """(ROWS, CLASSES); their scale says nothing."""
    weights: npt.NDArray[np.int8] = np.load(WEIGHTS)
    return weights
