"""What an advisor is told: means since the last version, by hand; and nothing that anybody else has named."""

import msgspec
import numpy as np
import pytest

from headrace.learners.advice.meter import RETURNS_KEPT, Meter, q_gap
from headrace.schemas.directives import LearningFacts, described
from headrace.schemas.records import Interval


def facts(meter, **options):
    return meter.facts(version=3, rows=10, updates=4, skipped_updates=2, **options)


def test_means_by_hand():
    meter = Meter()
    meter.learned({"loss": 1.0, "td_abs": 2.0, "q_mean": 0.5, "grad_norm": 3.0})
    meter.learned({"loss": 3.0, "td_abs": 4.0, "q_mean": 1.5, "grad_norm": 5.0, "kl": 9.0})
    terms = np.float32([[1, 10], [3, 30], [np.nan, 5]])
    meter.saw(np.array([0, 2, 2]), 3, terms, np.array([1, 4, -1]), newest=4)
    found = facts(meter, evaluation={"policy": 80.0, "hpa": 77.0, "serving": 79.0, "rate_rule": 86.0, "oracle": 99.0})
    assert (found.loss, found.td_abs, found.q_mean, found.grad_norm) == (2.0, 3.0, 1.0, 4.0)
    assert found.terms == {"term_0": 2.0, "term_1": 20.0}
    assert found.actions == pytest.approx((1 / 3, 0.0, 2 / 3))
    assert found.staleness == 1.5
    assert (found.returns, found.floor, found.serving, found.rules) == (
        (80.0,),
        77.0,
        79.0,
        {"rate_rule": 86.0, "hpa": 77.0},
    )


def test_an_interval_follows_the_other():
    meter = Meter()
    meter.learned({"td_abs": 2.0})
    meter.saw(np.array([0]), 1, np.float32([[4]]))
    meter.next_interval(skipped_updates=1)
    found = facts(meter)
    assert (found.td_abs, found.td_abs_before, found.terms, found.terms_before) == (None, 2.0, {}, {"term_0": 4.0})
    assert found.skipped_updates == 1


def test_returns_are_bounded_and_what_is_not_finite_is_unknown():
    meter = Meter()
    meter.learned({"loss": float("inf")})
    for number in range(20):
        found = facts(meter, evaluation={"policy": float(number)})
    assert found.returns == tuple(float(number) for number in range(20 - RETURNS_KEPT, 20))
    assert found.loss is None


def test_it_comes_back_from_a_checkpoint():
    meter = Meter()
    meter.learned({"loss": 0.1})
    meter.saw(np.array([1, 1]), 2, np.float32([[0.1], [0.2]]), np.array([1, 2]), newest=2)
    again = msgspec.convert(msgspec.to_builtins(meter), Meter)
    assert facts(again) == facts(meter)


def test_q_gap():
    assert q_gap(np.float32([[1, 5, 3], [0, 0, 0]])) == 1.0
    assert q_gap(np.float32([[1], [2]])) == 0.0


def test_reasons_state_facts():
    found = LearningFacts(1, 2, 3, 0, {"a": 0.5}, returns=(1.25, 2.0), difference=Interval(1.0, 0.5, 1.5))
    assert described(found, ["returns", "settings", "nonsense", "returns", "difference", "floor"]) == (
        "returns 1.25, 2; settings a 0.5; difference mean 1, low 0.5, high 1.5; floor unknown"
    )
