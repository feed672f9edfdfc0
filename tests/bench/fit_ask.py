"""Fit how `headrace ask` weighs words: `pipelines/ask/weights.npy`, from all questions of known kind.

Run: `python tests/bench/fit_ask.py`, a minute on one core; with `--leave-out` ten. That tells how many questions of
each batch are understood by a fit that saw none of it: a batch is what one writer wrote, or wrote in one manner.
Multinomial logistic regression on hashed features and the vectors of words. No question of a set that the docs call
unseen is among them.
"""

import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from headrace.pipelines.ask.router import scores
from headrace.pipelines.ask.slots import filled
from headrace.pipelines.ask.weigh import CLASSES, ROWS, WEIGHTS, features

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
import test_ask_accuracy as accuracy
import test_ask_router as router
from ask_composed import composed

L2 = 0.1
STEPS = 80
TAUGHT = Path(__file__).parents[1] / "e2e/questions_taught.txt"


def taught():
    """The questions that were written one by one to be learned from."""
    kind = None
    for line in TAUGHT.read_text().splitlines():
        if line.startswith(" "):
            yield kind, line.strip()
        else:
            kind = line.rstrip(":")


def labelled():
    """Of each different question its batch, its kind and its text with names masked."""
    at, zone = accuracy.ms(accuracy.WORLD["at"]), ZoneInfo("UTC")
    for kind, text in taught():
        yield "taught", kind, filled(text, accuracy.NAMES, at, zone).text
    for kind, text in router.sections():
        yield "router", kind or "out-of-scope", filled(text, router.NAMES, router.NOW_MS, router.UTC_ZONE).text
    for one in accuracy.QUESTIONS:
        yield "docs", one["kind"], filled(one["question"], accuracy.NAMES, at, zone, one.get("task")).text
    for batch, kind, text in composed(accuracy.WORLD):
        yield batch, kind, filled(text, accuracy.NAMES, at, zone).text


def matrix(texts):
    """The features of texts, (texts, ROWS)."""
    rows = [features(text, scores(text)) for text in texts]
    ends = np.cumsum([0, *(len(places) for places, _ in rows)])
    places, sizes = (np.concatenate(part) for part in zip(*rows, strict=True))
    return csr_matrix((sizes.astype(float), places, ends), (len(rows), ROWS))


def fitted(inputs, wanted):
    """The weights, (ROWS, classes), by which what is wanted is the likeliest, with a price on their squares."""
    targets, turned = np.eye(len(CLASSES))[wanted], inputs.T.tocsr()

    def loss(flat):
        weights = flat.reshape(ROWS, -1)
        sums = inputs @ weights
        sums -= sums.max(1, keepdims=True)
        chances = np.exp(sums) / np.exp(sums).sum(1, keepdims=True)
        missed = -np.log(chances[targets > 0] + 1e-300).sum() + L2 / 2 * (weights**2).sum()
        return missed, (turned @ (chances - targets) + L2 * weights).ravel()

    found = minimize(loss, np.zeros(ROWS * len(CLASSES)), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return found.x.reshape(ROWS, -1)


def tell(name, right, asked):
    """Print how many of those in scope and of the others are right."""
    for what, chosen in (("in scope", asked), ("out of scope", ~asked)):
        print(f"{name}, {what}: {right[chosen].sum()} of {chosen.sum()}", flush=True)


def leave_out(batches, inputs, wanted, texts):
    """Fit without each batch in turn, and print how much of it is understood."""
    for batch in dict.fromkeys(batches):
        own = batches == batch
        found = (inputs[own] @ fitted(inputs[~own], wanted[~own])).argmax(1)
        tell(batch, found == wanted[own], wanted[own] < len(CLASSES) - 1)
        for text, one, other in zip(texts[own], wanted[own], found, strict=True):
            if one != other:
                print(f"  {CLASSES[one]} -> {CLASSES[other]} | {text}")


def main() -> None:
    """Fit, tell, and store."""
    batches, kinds, texts = map(np.array, zip(*dict.fromkeys(labelled()), strict=True))
    print(f"{len(texts)} different questions, names aside")
    wanted = np.array([-1 if kind == "out-of-scope" else CLASSES.index(kind) for kind in kinds]) % len(CLASSES)
    inputs = matrix(texts)
    if "--leave-out" in sys.argv:
        leave_out(batches, inputs, wanted, texts)
    weights = fitted(inputs, wanted)
    kept = np.rint(weights * 127 / np.abs(weights).max()).astype(np.int8)
    tell("all, by what is stored", (inputs @ kept).argmax(1) == wanted, wanted < len(CLASSES) - 1)
    np.save(WEIGHTS, kept)


if __name__ == "__main__":
    main()
