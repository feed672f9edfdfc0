"""Tune the ten-parameter rule by the cross-entropy method: python -m headrace.learners.cloud.tuning.

Source: Rubinstein, Kroese (2004), "The Cross-Entropy Method". Every generation is drawn on traces of its
own; the last choice is made on others again, and none of them is used anywhere else.
"""

import sys
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.cloud.baselines import evaluate
from headrace.learners.cloud.controllers import RateRule, RuleParameters, TunedRule
from headrace.learners.cloud.workload import draw_traces

START: Final = RuleParameters(0.4, 0.5, 0.6, 1.0, 0.5, 1.5, 0.5, 0.0, 0.0, 0.3)
"""A plain guess."""
CANDIDATES: Final = 48
ELITE: Final = 8
TRACES: Final = 192
CHOICE_TRACES: Final = 2_048
SPREAD: Final = (0.15, 0.15, 0.2, 1.0, 1.0, 0.5, 0.5, 1.0, 1.0, 0.3)
"""Deviation of each parameter at first."""


def tune(traces: range = seeds.TUNING.each()) -> RuleParameters:
    """The best of the last generations' means; the same seeds of traces give the same."""
    rng = np.random.default_rng(seeds.CANDIDATES.first)
    mean, deviation = np.array(START), np.array(SPREAD)
    choice, *generations = traces
    means = []
    for generation, seed in enumerate(generations):
        drawn = mean + deviation * rng.standard_normal((CANDIDATES, len(mean)))
        scores = _scores(drawn, seed, TRACES)
        elite = drawn[np.argsort(-scores)[:ELITE]]
        mean = 0.3 * mean + 0.7 * elite.mean(axis=0)
        deviation = 0.3 * deviation + 0.7 * elite.std(axis=0)
        means.append(mean)
        sys.stderr.write(f"{generation:3d}  best {scores.max():.2f}  mean {scores.mean():.2f}\n")
    last = np.array(means[-10:])
    return RuleParameters.clipped(last[int(_scores(last, choice, CHOICE_TRACES).argmax())])


def _scores(candidates: NDArray[np.float64], seed: int, traces: int) -> NDArray[np.float64]:
    """Mean return of each candidate on the same traces."""
    drawn = draw_traces(seed, traces)
    return np.array([evaluate(TunedRule(RuleParameters.clipped(one)), drawn).mean() for one in candidates])


def main() -> None:
    """Print the parameters and what they bring on traces that tuning did not see."""
    found = tune()
    rounded = RuleParameters(*(round(value, 3) for value in found))
    drawn = draw_traces(seeds.TUNED.first, CHOICE_TRACES)
    gain = evaluate(TunedRule(rounded), drawn) - evaluate(RateRule(), drawn)
    sys.stdout.write(f"{rounded}\n")
    sys.stdout.write(f"{gain.mean():+.3f} over the rate rule, +- {1.96 * gain.std() / np.sqrt(len(gain)):.3f}\n")


if __name__ == "__main__":
    main()
