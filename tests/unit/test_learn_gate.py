"""The gate: accepts what is shown to be better, at the first look that shows it, and nothing else."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from headrace.learners.judge.gate import judge
from headrace.learners.judge.spending import ALONE, FAMILY, LOOKS, boundary, spent, traces_for

RNG = np.random.default_rng(0)
NOISE = RNG.normal(0.0, 1.0, 400)
SERVING = RNG.normal(80.0, 10.0, 400)
CENTRED = np.concatenate([part - part.mean() for part in np.array_split(NOISE, LOOKS)])


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
    assert (verdict.opponent, verdict.n, verdict.confidence) == ("serving", 100, 1.0 - 2.0 * ALONE)
    assert 0.0 < verdict.low < verdict.mean_difference < verdict.high
    assert verdict.mean_difference == pytest.approx(1.0 + NOISE[:100].mean())
    assert verdict.reason.startswith("candidate beats the serving policy: +")


def test_bounds_by_hand():
    """2.024 * sqrt(4 / k) deviations of the mean, by Student's t: what has no skewness has the plain interval."""
    symmetric = np.concatenate([np.r_[part, -part] for part in np.array_split(NOISE[:200], LOOKS)]) + 0.001
    verdict = judge(looks(symmetric, np.zeros(400)), "floor")
    deviation = symmetric.std(ddof=1) / 20
    half = stats.t.ppf(stats.norm.cdf(2.0243), 399) * deviation
    assert verdict.n == 400
    assert (verdict.low, verdict.high) == pytest.approx((0.001 - half, 0.001 + half), rel=1e-4)


def test_a_gain_that_rare_losses_undo_is_no_gain():
    """+1 in 95 of 100 episodes, -19 in 5: nothing is better. By the t test alone 72 % of such lives promote one."""
    rng = np.random.default_rng(4)
    promoted = 0
    for _ in range(40):
        for number in range(1, 31):
            differences = np.where(rng.random(traces_for(number, 96)) < 0.05, -19.0, 1.0)
            if judge(looks(differences, 0.0 * differences), "serving", spent(number)).accepted:
                promoted += 1
                break
    assert promoted <= 5


def test_the_same_gain_everywhere_waits_for_the_last_look():
    verdict = judge(looks(SERVING.round() + 1.0, SERVING.round()), "serving")
    assert (verdict.accepted, verdict.n, verdict.low, verdict.high) == (True, 400, 1.0, 1.0)


@pytest.mark.parametrize(("alpha", "constant"), [(0.05, 1.733), (0.025, 2.024), (0.005, 2.609)])
def test_the_bounds_are_those_of_the_literature(alpha, constant):
    """Jennison, Turnbull (2000), table 2.3, four looks: two-sided 10 %, 5 % and 1 %."""
    assert boundary(alpha) == pytest.approx(constant, abs=6e-4)


@pytest.mark.parametrize(
    ("gain", "n", "words"),
    [(0.05, 400, "is not shown to beat the serving policy"), (-1.0, 100, "is worse than the serving policy")],
)
def test_a_better_mean_alone_is_not_enough(gain, n, words):
    """A gain within the noise needs every look, a clear loss only one; both are refused with the reason."""
    verdict = judge(looks(SERVING + gain + CENTRED, SERVING), "serving")
    assert not verdict.accepted
    assert verdict.n == n
    assert verdict.mean_difference == pytest.approx(gain)
    assert words in verdict.reason


def test_what_has_done_no_better_by_the_second_look_is_refused():
    verdict = judge(looks(SERVING - 0.01 + CENTRED, SERVING), "serving")
    assert (verdict.accepted, verdict.n) == (False, 200)
    assert verdict.high > 0.0
    assert "is not shown to beat the serving policy" in verdict.reason


def test_all_looks_together_accept_what_is_equal_in_a_fortieth():
    """Fixed bounds of one look would do so in 6.3 % of the cases."""
    rng = np.random.default_rng(7)
    wrong = sum(judge(shown(rng, 64), "floor").accepted for _ in range(2_000))
    assert 0.015 < wrong / 2_000 < ALONE + 0.008


def shown(rng, part, gain=0.0):
    return ((rng.normal(gain, size=part), np.zeros(part)) for _ in range(LOOKS))


def test_what_all_candidates_spend_is_bounded():
    """The first has what it would have alone; what lies beyond a million is less than the rest of the sum."""
    assert spent(1) == pytest.approx(ALONE, rel=0.02)
    total = sum(map(spent, range(1, 1_000_001)))
    assert 0.96 * FAMILY < total < FAMILY
    assert all(later < earlier for earlier, later in pairwise(map(spent, range(1, 100))))
    with pytest.raises(ValueError, match="from 1 on, got 0"):
        spent(0)


def test_of_two_hundred_equal_candidates_one_is_promoted_in_at_most_five_percent_of_all_lives():
    """At a fortieth each it is 99 %. A life is cheap here: whole sums, no traces."""
    rng = np.random.default_rng(3)
    fixed, spending = lives(rng, lambda _: ALONE), lives(rng, spent)
    assert fixed > 0.97
    assert 0.02 < spending < FAMILY + 0.01


def lives(rng, alpha, count=3_000, candidates=200):
    """Return the share of lives in which any candidate's standard normal sums cross their bounds."""
    sums = rng.normal(size=(count, candidates, LOOKS)).cumsum(axis=2)
    bounds = np.array([boundary(alpha(number)) for number in range(1, candidates + 1)]) * LOOKS**0.5
    return (sums.max(axis=2) > bounds).any(axis=1).mean()


@pytest.mark.parametrize("number", [1, 20, 200])
def test_a_later_candidate_passes_as_often_as_the_first(number):
    """Better by a quarter of the differences' deviation, on the traces that its number gives it: 80 % of 128's."""
    rng, part = np.random.default_rng(number), traces_for(number, 128) // LOOKS
    passed = np.mean([judge(shown(rng, part, 0.25), "serving", spent(number)).accepted for _ in range(400)])
    assert 0.72 < passed < 0.88


def test_the_bounds_grow_narrower_with_each_look():
    widths = []
    for count in range(1, LOOKS + 1):
        pairs = [(part + 0.001, np.zeros(100)) for part in np.array_split(CENTRED, LOOKS)[:count]]
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
    verdict = judge(looks(SERVING - loss + noise, SERVING), "best", margin=0.1)
    assert (verdict.accepted, verdict.n) == (accepted, n)
    assert words in verdict.reason


def test_with_a_margin_the_serving_policy_itself_is_accepted():
    """Also where all its returns are alike, and the margin is 0."""
    assert judge(looks(SERVING, SERVING), "serving", margin=0.1).accepted
    assert judge(looks(np.ones(400), np.ones(400)), "serving", margin=0.1).accepted


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
        judge([(SERVING + 0.001 + CENTRED, SERVING)] * 5, "serving")


def test_a_verdict_does_not_change():
    """It is a record."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        judge([(SERVING, SERVING)], "serving").accepted = True
