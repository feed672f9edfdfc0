"""Workload and network: formulas by hand, and traces that depend on (seed, row) only."""

from dataclasses import fields

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from headrace.learners.cloud import network, workload
from headrace.learners.cloud.workload import LEAD_STEPS, Traces, draw_traces


def assert_same(left: Traces, right: Traces) -> None:
    for field in fields(Traces):
        assert_array_equal(getattr(left, field.name), getattr(right, field.name), err_msg=field.name)


def test_level_is_clipped_in_the_logarithm():
    # e^(.3 * 0 - .045), e^(.6 - .045), e^(-.6 - .045)
    assert_allclose(workload.level(np.array([0.0, 9.0, -9.0])), [0.955997, 1.741942, 0.524663], rtol=1e-5)


def test_regime_is_smoothed():
    # middle; to high at .97 and above: .6 * 1 + .4 * 1.6; back to middle below .08: .6 * 1.24 + .4
    factors = workload.regime_factors(np.array([[0.5, 0.99, 0.05]]))
    assert_allclose(factors, [[1.0, 1.24, 1.144]])


def test_regime_starts_in_the_stationary_distribution():
    start = np.array(workload.REGIME_START)
    assert_allclose(start @ np.array(workload.REGIME_TRANSITIONS), start)


def test_flash_crowd_ramps_then_decays_and_adds_up():
    starts = np.array([[1.0, 0.001, 1.0, 0.001, 1.0]])
    crowds = workload.flash_crowds(starts, np.full((1, 5), 1.5))
    decay = 1.5 * np.exp(-0.1)
    assert_allclose(crowds, [[0.0, 0.5, 1.0, 1.5 + 0.5, decay + 1.0]])


def test_rate_is_the_product_of_its_parts():
    days, one = np.array([[0.25, 0.75]]), np.ones((1, 2))
    rate = workload.rate_rps(np.array([1.0]), days, one, 3 * one, 0 * one)
    # 290 * 1.45 * (1 + 2) and 290 * .55 * (1 + 2): crowds above 2 are cut
    assert_allclose(rate, [[1261.5, 478.5]])


def test_network_by_hand():
    rho = network.link_utilisation(np.array([0.45, 2.0, -1.0]), np.array([600.0, 0.0, 0.0]))
    assert_allclose(rho, [0.625, 0.97, 0.05])
    assert_allclose(network.round_trip_s(np.array([0.5, 0.95])), [0.021, 0.129])
    assert_allclose(network.loss_share(np.array([0.5, 0.95])), [0.0, 0.04])


def test_cross_traffic_by_hand():
    traffic = network.cross_traffic(np.array([0.0]), np.array([[9.0, 1.0, 0.0]]))
    assert_allclose(traffic, [[0.45, 0.50, 0.4975]])


def test_same_seed_same_bytes_and_another_seed_differs():
    assert_same(draw_traces(3, 20), draw_traces(3, 20))
    assert not np.array_equal(draw_traces(3, 20).requests, draw_traces(4, 20).requests)


@pytest.mark.parametrize("count", [1, 5, 16, 17, 39])
def test_a_trace_does_not_depend_on_how_many_are_drawn(count):
    assert_same(draw_traces(7, count), draw_traces(7, 40).take(slice(count)))


def test_shapes_and_ranges():
    traces = draw_traces(0, 33, steps=12)
    assert len(traces) == 33
    assert traces.steps == 12
    assert traces.requests.shape == traces.arrivals_rps.shape == (33, 12 + LEAD_STEPS)
    assert traces.noise.shape == (33, 12 + LEAD_STEPS, 4)
    assert_allclose(traces.arrivals_rps, traces.requests / 30 * (1 + traces.loss))


def test_draws_have_the_moments_of_the_design():
    traces = draw_traces(1, 1024)
    assert 310 < traces.rate_rps.mean() < 335
    # Poisson: variance of (count - mean) / sqrt(mean) is 1
    surplus = (traces.requests - 30 * traces.rate_rps) / np.sqrt(30 * traces.rate_rps)
    assert_allclose([surplus.mean(), surplus.std()], [0, 1], atol=0.02)
    assert_allclose([traces.noise.mean(), traces.noise.std()], [0, 1], atol=0.01)


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="count=0"):
        draw_traces(0, 0)
