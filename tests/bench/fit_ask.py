"""Fit how `headrace ask` weighs words: `pipelines/ask/weights.npy`, from all questions of known kind, in a minute.

Run: `python tests/bench/fit_ask.py`. It prints by file how many questions are understood when each is left out of the
fit in turn: least squares on hashed features, in closed form. Patterns were written with some of the files in view.
"""

import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from headrace.pipelines.ask.grammar import grammar
from headrace.pipelines.ask.router import scores
from headrace.pipelines.ask.slots import filled
from headrace.pipelines.ask.weigh import CLASSES, ROWS, WEIGHTS, features

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
import test_ask_accuracy as accuracy
import test_ask_router as router

RIDGE = 0.5
TAUGHT = Path(__file__).parents[1] / "e2e/questions_taught.txt"


def taught():
    """The questions that were written to be learned from."""
    kind = None
    for line in TAUGHT.read_text().splitlines():
        if line.startswith(" "):
            yield kind, line.strip()
        else:
            kind = line.rstrip(":")


def labelled():
    """Of each question its file, its kind and its text with names masked."""
    at, zone = accuracy.ms(accuracy.WORLD["at"]), ZoneInfo("UTC")
    for kind, text in taught():
        yield "taught", kind, filled(text, accuracy.NAMES, at, zone).text
    for kind, text in router.sections():
        yield "router", kind or "out-of-scope", filled(text, router.NAMES, router.NOW_MS, router.UTC_ZONE).text
    for one in accuracy.QUESTIONS:
        yield "docs", one["kind"], filled(one["question"], accuracy.NAMES, at, zone, one.get("task")).text


def main() -> None:
    """Fit, tell, and store."""
    files, kinds, texts = map(np.array, zip(*labelled(), strict=True))
    wanted = np.array([-1 if kind == "out-of-scope" else CLASSES.index(kind) for kind in kinds]) % len(CLASSES)
    inputs = np.zeros((len(texts), ROWS), np.float32)
    for row, text in zip(inputs, texts, strict=True):
        np.add.at(row, *features(text, scores(text)))
    targets = 2.0 * np.eye(len(CLASSES))[wanted] - 1.0
    inverse = np.linalg.inv((inputs @ inputs.T).astype(float) + RIDGE * np.eye(len(texts)))
    dual = inverse @ targets
    left_out = (targets - dual / np.diag(inverse)[:, None]).argmax(1)
    left_out[[any(one.search(text) for one in grammar().declined) for text in texts]] = len(CLASSES) - 1
    for file in dict.fromkeys(files):
        for name, asked in (("in scope", kinds != "out-of-scope"), ("out of scope", kinds == "out-of-scope")):
            right = (left_out == wanted)[(files == file) & asked]
            print(f"{file}, {name}: {right.sum()} of {len(right)}")
    for place in np.flatnonzero(left_out != wanted):
        print(" ", files[place], kinds[place], "->", CLASSES[left_out[place]], "|", texts[place])
    weights = inputs.T @ dual
    np.save(WEIGHTS, np.rint(weights * 127 / np.abs(weights).max()).astype(np.int8))


if __name__ == "__main__":
    main()
