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
from headrace.pipelines.ask.question import KINDS, Kind
from headrace.pipelines.ask.slots import foreign

CLASSES: Final[tuple[Kind | None, ...]] = (*KINDS, None)
ROWS: Final = 16_384
WEIGHTS: Final = Path(__file__).with_name("weights.npy")
PATTERNS: Final = 0.04
"""What a pattern's weight counts beside words; chosen, as the families' shares, by leaving each question out."""
NAMED: Final = ("AGENT", "VERSION", "ACTION", "STEP", "EPISODE", "RULE", "FEATURE", "TIME")

Floats = npt.NDArray[np.float32]


def weighed(text: str, found: Mapping[Kind, float]) -> Kind | None:
    """Return the kind that most speaks for, None for out of scope. found: what patterns say, by kind."""
    rows, sizes = features(text, found)
    return CLASSES[int(np.argmax(sizes @ _weights()[rows].astype(np.float32)))]


def features(text: str, found: Mapping[Kind, float]) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the rows of a text's features in the weights, and how large each is, (features,)."""
    sizes = {f"pattern {kind}": PATTERNS * size for kind, size in found.items()}
    words = [word for word in re.findall(r"[^\W\d_][\w'-]*", text) if word not in grammar().function]
    sizes |= {"foreign": len(foreign(text)) / max(len(words), 1), "about": float(bool(grammar().about.search(text)))}
    for share, family in _families(["^", *re.findall(r"[^\W\d_][\w'-]*|\d+", text), "$"]):
        sizes |= dict.fromkeys(family, share / len(family) ** 0.5 if family else 0.0)
    rows = [zlib.crc32(name.encode()) % ROWS for name in sizes]
    return np.array([*rows, 0]), np.array([*sizes.values(), 1.0], np.float32)


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
    ]


@cache
def _weights() -> npt.NDArray[np.int8]:
    """(ROWS, CLASSES); their scale says nothing."""
    weights: npt.NDArray[np.int8] = np.load(WEIGHTS)
    return weights
