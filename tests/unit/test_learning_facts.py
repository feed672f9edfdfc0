"""What an advisor is told: means since the last version, by hand; and nothing that anybody else has named."""

import msgspec
import numpy as np
import pytest

from headrace.learners.advice.consult import Judging
from headrace.learners.advice.meter import RETURNS_KEPT, Meter
from headrace.schemas.directives import LearningFacts, described


def facts(meter, skipped_updates=2, **options):
    return meter.facts(version=3, rows=10, updates=4, skipped_updates=skipped_updates, **options)


def test_means_by_hand():
    meter = Meter()
    meter.learned({"loss": 1.0, "td_abs": 2.0, "q_mean": 0.5, "grad_norm": 3.0})
    meter.learned({"loss": 3.0, "td_abs": 4.0, "q_mean": 1.5, "grad_norm": 5.0, "kl": 9.0})
    meter.saw(np.array([0, 2, 2]), 3, np.float32([[1, 10], [3, 30], [np.nan, 5]]))
    rules = {"rate_rule": np.array([85.0, 87.0]), "hpa": np.array([76.0, 78.0])}
    found = facts(meter, mean_return=80.0, judging=Judging({}.__getitem__, rules, rules["hpa"]))
    assert (found.loss, found.td_abs) == (2.0, 3.0)
    assert found.terms == {"term_0": 2.0, "term_1": 20.0}
    assert found.actions == pytest.approx((1 / 3, 0.0, 2 / 3))
    assert (found.returns, found.floor, found.rules) == ((80.0,), 77.0, {"rate_rule": 86.0, "hpa": 77.0})


def test_an_interval_follows_the_other():
    meter = Meter()
    meter.learned({"td_abs": 2.0})
    meter.saw(np.array([0]), 1, np.float32([[4]]))
    assert facts(meter, skipped_updates=1).skipped_updates == 1
    found = facts(meter)
    assert (found.td_abs, found.td_abs_before, found.terms, found.terms_before) == (None, 2.0, {}, {"term_0": 4.0})
    assert found.skipped_updates == 1


def test_returns_are_bounded_and_what_is_not_finite_is_unknown():
    meter = Meter()
    for number in range(20):
        meter.learned({"loss": float("inf")})
        found = facts(meter, mean_return=float(number))
        assert found.loss is None
    assert found.returns == tuple(float(number) for number in range(20 - RETURNS_KEPT, 20))


def test_it_comes_back_from_a_checkpoint():
    meter = Meter()
    meter.learned({"loss": 0.1})
    meter.saw(np.array([1, 1]), 2, np.float32([[0.1], [0.2]]))
    again = msgspec.convert(msgspec.to_builtins(meter), Meter)
    assert facts(again) == facts(meter)


def test_reasons_state_facts():
    found = LearningFacts(1, 2, 3, 0, {"a": 0.5}, returns=(1.25, 2.0))
    assert described(found, ["returns", "settings", "nonsense", "returns", "floor"]) == (
        "returns 1.25, 2; settings a 0.5; floor unknown"
    )
