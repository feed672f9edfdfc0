"""What words mean: vectors of common English words, in which words that are used alike lie close together.

`words.npz` has 48 dimensions of GloVe's vectors (Pennington, Socher and Manning, 2014: trained on Wikipedia and
Gigaword, given to the public domain). `tests/bench/cut_vectors.py` cuts them. With them a word that no known question
has still speaks for what its neighbours speak for.
"""

import re
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

WORDS: Final = Path(__file__).with_name("words.npz")
DIMENSIONS: Final = 48
WORD: Final = re.compile(r"[^\W\d_][\w'-]*")

Floats = npt.NDArray[np.float32]


def is_english(word: str) -> bool:
    """Return whether a word is a common one, so that it isn't taken for another that is misspelt."""
    return word in _places()


def meaning(words: list[str]) -> Floats:
    """Return the mean of what the words mean that are known, (DIMENSIONS,); zeros if none is."""
    known = [place for word in words if (place := _places().get(word)) is not None]
    if not known:
        return np.zeros(DIMENSIONS, np.float32)
    mean: Floats = _vectors()[known].mean(0, dtype=np.float32) / np.float32(127)
    return mean


@cache
def _places() -> dict[str, int]:
    with np.load(WORDS) as found:
        return {word: place for place, word in enumerate(found["words"].tobytes().decode().split())}


@cache
def _vectors() -> npt.NDArray[np.int8]:
    """(words, DIMENSIONS); each has a length of about 127."""
    with np.load(WORDS) as found:
        vectors: npt.NDArray[np.int8] = found["vectors"]
        return vectors
