"""The gate: accepts what is shown to be better, at the first look that shows it, and nothing else."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from headrace.learners.judge.gate import LOOKS, judge

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0.0, 1.0, 400)
SERVING = RNG.normal(80.0, 10.0, 400)


def looks(candidate, opponent, taken=None):
    """Pairs of parts, as they are asked for; `taken` is told of each."""
    for one, other in zip(np.array_split(candidate, LOOKS), np.array_split(opponent, LOOKS), strict=True):
        if taken is not None:
            taken.append(len(one))
        yield one, other


def test_a_clearly_better_candidate_is_accepted_at_the_first_look():
    taken = []
    verdict = judge(looks(SERVING + 1.0 + NOISE, SERVING, taken), "serving")
    assert verdict.accepted
    assert taken == [100]
    assert (verdict.opponent, verdict.n, verdict.confidence) == ("serving", 100, 0.95)
    assert 0.0 < verdict.low < verdict.mean_difference < verdict.high
    assert verdict.mean_difference == pytest.approx(1.0 + NOISE[:100].mean())
    assert verdict.reason.startswith("candidate beats the serving policy: +")


def test_bounds_by_hand():
    """2.024 * sqrt(4 / k) deviations of the mean, by Student's t."""
    difference = NOISE[:200]
    verdict = judge(looks(np.r_[difference, NOISE[200:]] - NOISE.mean(), np.zeros(400)), "floor")
    deviation = (NOISE - NOISE.mean()).std(ddof=1) / 20
    factor = stats.t.ppf(stats.norm.cdf(2.024), 399)
    assert verdict.n == 400
    assert (verdict.low, verdict.high) == pytest.approx((-factor * deviation, factor * deviation))


@pytest.mark.parametrize(
    ("gain", "n", "words"),
    [(0.05, 400, "is not shown to beat the serving policy"), (-1.0, 100, "is worse than the serving policy")],
)
def test_a_better_mean_alone_is_not_enough(gain, n, words):
    """A gain within the noise needs every look, a clear loss only one; both are refused with the reason."""
    noise = np.concatenate([part - part.mean() for part in np.array_split(NOISE, LOOKS)])
    verdict = judge(looks(SERVING + gain + noise, SERVING), "serving")
    assert not verdict.accepted
    assert verdict.n == n
    assert verdict.mean_difference == pytest.approx(gain)
    assert words in verdict.reason


def test_all_looks_together_err_in_five_percent():
    """Where there is no difference, the four intervals exclude 0 in 5 % of the cases; fixed ones would in 12.6 %."""
    rng = np.random.default_rng(7)
    wrong = sum(not v.low <= 0 <= v.high for v in (_null(rng) for _ in range(4_000)))
    assert 0.04 < wrong / 4_000 < 0.06


def _null(rng):
    return judge(((rng.normal(size=64), np.zeros(64)) for _ in range(LOOKS)), "floor")


def test_the_bounds_grow_narrower_with_each_look():
    widths = []
    for count in range(1, LOOKS + 1):
        pairs = [(part - part.mean(), np.zeros(100)) for part in np.array_split(NOISE, LOOKS)[:count]]
        verdict = judge(pairs, "floor")
        widths.append(verdict.high - verdict.low)
    assert all(later < 0.75 * earlier for earlier, later in pairwise(widths))


def test_the_serving_policy_itself_is_refused():
    """Equal returns: the interval is [0, 0], and 0 is not above 0."""
    verdict = judge(looks(SERVING, SERVING), "serving")
    assert not verdict.accepted
    assert (verdict.low, verdict.high) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("loss", "accepted", "n", "words"),
    [
        (0.0, True, 100, "no more than 1.0"),
        (0.5, True, 100, "no more than 1.0"),
        (0.9, True, 400, "no more than 1.0"),
        (1.0, False, 400, "may be more than 1.0"),
        (3.0, False, 100, "is worse than the best version so far by more than"),
    ],
)
def test_with_a_margin_a_candidate_need_only_be_no_worse_by_that(loss, accepted, n, words):
    """A tenth of a deviation of 10 is 1; the noise of the difference is 1, its mean's interval ± 0.1 in the end."""
    noise = np.concatenate([part - part.mean() for part in np.array_split(NOISE, LOOKS)])
    verdict = judge(looks(SERVING - loss + noise, SERVING), "best", 0.1)
    assert (verdict.accepted, verdict.n) == (accepted, n)
    assert words in verdict.reason


def test_with_a_margin_the_serving_policy_itself_is_accepted():
    """Also where all its returns are alike, and the margin is 0."""
    assert judge(looks(SERVING, SERVING), "serving", 0.1).accepted
    assert judge(looks(np.ones(400), np.ones(400)), "serving", 0.1).accepted


def test_what_is_not_paired_or_not_a_number_is_an_error_not_a_verdict():
    with pytest.raises(ValueError, match="equal shapes"):
        judge([(SERVING[:-1], SERVING)], "serving")
    with pytest.raises(ValueError, match="not finite"):
        judge([(np.where(np.arange(400) == 3, np.nan, SERVING), SERVING)], "serving")
    with pytest.raises(ValueError, match="no traces"):
        judge([], "serving")
    with pytest.raises(ValueError, match="2 values or more"):
        judge([(SERVING[:1], SERVING[:1])], "serving")
    with pytest.raises(ValueError, match="more than 4 looks"):
        judge([(SERVING, SERVING)] * 5, "serving")


def test_a_verdict_does_not_change():
    """It is a record."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        judge([(SERVING, SERVING)], "serving").accepted = True
