"""The baselines: each rule by hand, their order on the same traces, and the bound that nobody exceeds."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from headrace.learners import seeds
from headrace.learners.cloud import draw_traces, tuning
from headrace.learners.cloud.baselines import (
    BASELINE_NAMES,
    Clairvoyant,
    Random,
    baseline,
    evaluate,
    evaluate_detailed,
)
from headrace.learners.cloud.clairvoyant import _chunks, _pods, _values
from headrace.learners.cloud.controllers import (
    STATIC_REPLICAS,
    HorizontalPodAutoscaler,
    RateRule,
    RuleParameters,
    Static,
    TunedRule,
    hpa_kubernetes,
)
from headrace.learners.cloud.plant import (
    PENDING,
    RATE,
    READY,
    REPLICAS_MAX,
    REPLICAS_START,
    REWARD_SCALE,
    UTILISATION,
)
from headrace.learners.cloud.tuning import START


@pytest.fixture(scope="module")
def traces():
    return draw_traces(0, 512)


@pytest.fixture(scope="module")
def returns(traces):
    return {name: evaluate(baseline(name, traces), traces) for name in BASELINE_NAMES}


def seen(utilisation=0.65, rate_rps=300.0, ready=10, pending=0):
    obs = np.zeros((1, 32), dtype=np.float32)
    frame = obs[:, 24:]
    frame[:, [UTILISATION, RATE, READY, PENDING]] = [utilisation, rate_rps / 500, ready / 32, pending / 32]
    return obs


def changes(policy, *observations):
    policy.reset(1)
    return [int(policy.act(obs)[0]) - 2 for obs in observations]


def test_static_goes_two_a_step():
    policy = Static(13)
    assert changes(policy, seen(ready=8), seen(ready=8, pending=4), seen(ready=13), seen(ready=20)) == [
        2,
        1,
        0,
        -2,
    ]


def test_hpa_by_hand():
    # ceil(10 * .77 / .65) = 12; .70 is within 10 %; with 9 of 12 ready, .77 * 9 / 12 asks for no more
    policy = HorizontalPodAutoscaler()
    assert changes(policy, seen(0.77)) == [2]
    assert changes(policy, seen(0.70)) == [0]
    assert changes(HorizontalPodAutoscaler(discount_pending=True), seen(0.77, ready=9, pending=3)) == [0]
    assert changes(policy, seen(0.77, ready=9, pending=3)) == [2]


def test_hpa_scales_down_only_when_the_whole_window_agrees():
    policy = HorizontalPodAutoscaler(window_steps=3)
    low = seen(0.30)
    assert changes(policy, seen(0.65), low, low, low, seen(0.9)) == [0, 0, 0, -2, 2]


def test_rate_rule_by_hand():
    # ceil(290 / 30) = 10; then .5 * 290 + .5 * 350 = 320, ceil(320 / 30) = 11: one pending is enough
    policy = RateRule(keep=0.5)
    assert changes(policy, seen(rate_rps=290.0), seen(rate_rps=350.0)) == [0, 1]
    assert changes(policy, seen(rate_rps=290.0), seen(rate_rps=350.0, pending=1)) == [0, 0]


def test_tuned_rule_by_hand():
    # 300 / 50 = 6 servers; 6 + 1 * sqrt(6) + .5 = 8.95, 9 replicas; 10 are within the deadband, 12 are not
    rule = TunedRule(RuleParameters(0.5, 0.5, 0.5, 0.0, 0.0, 1.0, 0.5, 0.0, 0.0, 0.6))
    assert [changes(rule, seen(rate_rps=300.0, ready=n)) for n in (8, 9, 10, 12)] == [[1], [0], [0], [-2]]
    # a rise of 50 moves average and trend by half each: 325 + 2 * 12.5 = 350, so 7 + sqrt(7) + .5 = 10.15
    ahead = TunedRule(RuleParameters(0.5, 0.5, 0.5, 2.0, 0.0, 1.0, 0.5, 0.0, 0.0, 0.0))
    assert changes(ahead, seen(rate_rps=300.0, ready=9), seen(rate_rps=350.0, ready=9)) == [0, 1]


def test_tuning_improves_on_a_bad_start_and_repeats(monkeypatch):
    for name, size in {"CANDIDATES": 8, "ELITE": 3, "TRACES": 32, "CHOICE_TRACES": 32}.items():
        monkeypatch.setattr(tuning, name, size)
    monkeypatch.setattr(tuning, "START", START._replace(safety=0.0))
    few = seeds.TUNING.each()[:4]
    found = tuning.tune(few)
    assert found == tuning.tune(few)
    traces = draw_traces(5, 64)
    assert evaluate(TunedRule(found), traces).mean() > evaluate(TunedRule(tuning.START), traces).mean() + 1


def test_random_repeats():
    first, again = changes(Random(1), *[seen()] * 20), changes(Random(1), *[seen()] * 20)
    assert first == again
    assert len(set(first)) == 5


def test_each_baseline_beats_the_one_before_on_the_same_traces(returns):
    for worse, better in [
        ("random", "hpa"),
        ("hpa", "hpa_kubernetes"),
        ("hpa_kubernetes", "rate_rule"),
        ("rate_rule", "tuned_rule"),
        ("tuned_rule", "clairvoyant"),
    ]:
        difference = returns[better] - returns[worse]
        standard_error = difference.std() / np.sqrt(len(difference))
        assert difference.mean() > 4 * standard_error, (worse, better)


def test_returns_are_the_calibrated_ones(returns):
    calibrated = {"random": 21.6, "static": 77.3, "hpa": 77.0, "rate_rule": 86.8, "clairvoyant": 97.3}
    for name, expected in calibrated.items():
        error = returns[name].std() / np.sqrt(len(returns[name]))
        assert abs(returns[name].mean() - expected) < 3 * error, name


def upper_bound(traces):
    """What no policy's return can exceed, float64[N], to float32's precision: the value of the planner's start."""
    pods = _pods()
    start = pods.states[REPLICAS_START, 0, 0, 0]
    bounds = np.concatenate([_values(chunk, pods)[0, start] for chunk in _chunks(traces)])
    return bounds.astype(np.float64) / REWARD_SCALE


def test_nobody_exceeds_the_bound_and_the_plan_comes_near(traces, returns):
    bound = upper_bound(traces)
    for values in returns.values():
        assert np.all(values <= bound + 1e-3)
    assert bound.mean() - returns["clairvoyant"].mean() < 1
    assert np.mean(returns["clairvoyant"] >= np.max([returns[name] for name in BASELINE_NAMES[:-1]], axis=0)) > 0.97


def test_the_constant_is_the_best_constant():
    found = draw_traces(0, 2048)
    means = {number: evaluate(Static(number), found).mean() for number in range(1, REPLICAS_MAX + 1)}
    assert max(means, key=means.__getitem__) == STATIC_REPLICAS


def test_detailed_agrees_with_evaluate(traces, returns):
    detail = evaluate_detailed(hpa_kubernetes(), traces, row=3)
    assert_allclose(detail.returns, returns["hpa_kubernetes"])
    assert_allclose(detail.terms.sum(axis=1), detail.returns)
    assert_array_equal(detail.actions.sum(axis=1), np.full(len(traces), 100))
    assert_array_equal(detail.load_rps, traces.arrivals_rps[3, 2:])
    assert detail.ready.shape == detail.pending.shape == detail.p95_ms.shape == (100,)


def test_any_callable_is_a_policy(traces):
    held = evaluate(lambda obs: np.full(len(obs), 2), traces)
    assert_allclose(held, evaluate(Static(8), traces))


def test_a_plan_fits_its_traces_only(traces):
    planned = Clairvoyant(traces.take(slice(4)))
    with pytest.raises(ValueError, match="4 traces"):
        evaluate(planned, traces)
    with pytest.raises(ValueError, match="unknown"):
        baseline("best", traces)
