"""Integrated gradients, by hand and by what they must add up to."""

import numpy as np
import pytest

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.explain.attribution import attributed, by_name, lead_over, log_probability, within
from headrace.learners.explain.reliance import reliance
from headrace.learners.prior import prior_to_arrays, rule_prior

X, BASELINE = np.array([2.0, -1.0, 0.5], np.float32), np.array([1.0, 1.0, 0.0])


def random_arrays(head: str, width: int, actions: int, *, tanh: bool = False, seed: int = 0, bounds: bool = False):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(0.0, 0.5, shape).astype(np.float32)

    arrays = {"hidden_0.weight": normal(width, 32), "hidden_0.bias": normal(32)}
    arrays |= {"hidden_1.weight": normal(32, 32), "hidden_1.bias": normal(32)}
    arrays |= {f"{head}.weight": normal(32, actions), f"{head}.bias": normal(actions)}
    arrays |= {"observation.mean": normal(width), "observation.scale": np.full(width, 0.7, np.float32)}
    if head == "advantage":
        arrays |= {"value.weight": normal(32, 1), "value.bias": normal(1)}
    if head == "mean":
        arrays |= {"log_std": np.zeros(actions, np.float32)}
    if bounds:
        arrays |= {"action.low": np.full(actions, -1.0, np.float32), "action.high": np.full(actions, 1.0, np.float32)}
    return arrays | ({"activation.tanh": np.ones(1, np.float32)} if tanh else {})


def test_of_a_linear_network_each_part_is_its_weight_times_its_change() -> None:
    """Lead of action 0 over action 1: (w0 - w1)(x - b) = (3, -2, 4) * (1, -2, .5)."""
    weight = np.array([[2.0, -1.0], [0.0, 2.0], [1.0, -3.0]], np.float32)
    policy = Policy({"logits.weight": weight, "logits.bias": np.array([0.3, 0.1], np.float32)})
    found = attributed(policy, BASELINE, X, lead_over(0, 1))
    np.testing.assert_allclose(found, [3.0, 4.0, 2.0], rtol=1e-5)


@pytest.mark.parametrize("tanh", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_parts_add_up_to_the_difference(tanh: bool, seed: int) -> None:
    obs, baseline = np.random.default_rng(seed).normal(size=(2, 6)).astype(np.float32)
    for head, target in (("advantage", lead_over(2, 0)), ("logits", log_probability(1))):
        policy = Policy(random_arrays(head, 6, 4, tanh=tanh, seed=seed))
        here, there = policy.q_values(np.stack([obs, baseline])).astype(np.float64)
        if head == "logits":
            wanted = [one[1] - np.log(np.exp(one).sum()) for one in (here, there)]
        else:
            wanted = [one[2] - one[0] for one in (here, there)]
        found = attributed(policy, baseline.astype(np.float64), obs, target)
        assert found.sum() == pytest.approx(wanted[0] - wanted[1], abs=1e-3)


def test_a_rule_that_a_policy_starts_from_has_its_part_by_its_own_weights() -> None:
    """The rule says ceil(2 x0 + x1): 0 at the baseline, 3 at the observation; the network says nothing."""
    prior = rule_prior(np.array([2.0, 1.0, 0.0]), 0.0, 4, 1.0)
    arrays = {"logits.weight": np.zeros((3, 4), np.float32), "logits.bias": np.zeros(4, np.float32)}
    policy = Policy(arrays | prior_to_arrays(prior))
    obs = np.array([1.0, 1.0, 9.0], np.float32)
    found = attributed(policy, np.zeros(3), obs, lead_over(3, 0))
    # From -3 (the rule says 0) to +3; two thirds of 2 x0 + x1 are x0's.
    np.testing.assert_allclose(found, [4.0, 2.0, 0.0], rtol=1e-6)
    soft = attributed(policy, np.zeros(3), obs, log_probability(3))
    logits = policy.q_values(np.stack([obs, 0 * obs])).astype(np.float64)
    wanted = np.diff(logits[::-1, 3] - np.log(np.exp(logits[::-1]).sum(axis=1)))[0]
    assert soft.sum() == pytest.approx(wanted, abs=2e-3)
    assert soft[0] == pytest.approx(2.0 * soft[1])


def test_a_continuous_action_is_attributed_as_far_as_its_bounds_let_it_go() -> None:
    """The mean goes from 0 to 4, but an action stops at 1: in units of the range of 2 that is a half."""
    arrays = {"mean.weight": np.array([[1.0], [1.0]], np.float32), "mean.bias": np.zeros(1, np.float32)}
    bounds = {"action.low": np.array([-1.0], np.float32), "action.high": np.array([1.0], np.float32)}
    policy = BoxPolicy(arrays | {"log_std": np.zeros(1, np.float32)} | bounds)
    found = attributed(policy, np.zeros(2), np.array([3.0, 1.0], np.float32), within(0, -1.0, 1.0, 2.0))
    np.testing.assert_allclose(found, [0.375, 0.125], rtol=1e-5)


@pytest.mark.parametrize("tanh", [False, True])
def test_parts_are_the_integral_of_the_gradient(tanh: bool) -> None:
    """The integral by brute force: 4,000 midpoints, their gradients by finite differences."""
    policy = BoxPolicy(random_arrays("mean", 4, 1, tanh=tanh))
    obs, baseline = np.random.default_rng(5).normal(size=(2, 4))
    line = baseline + (np.arange(4_000) + 0.5)[:, None] / 4_000 * (obs - baseline)

    def output(rows):
        for weight, bias in policy.network.layers[:-1]:
            rows = rows @ weight.astype(np.float64) + bias
            rows = np.tanh(rows) if tanh else np.maximum(rows, 0.0)
        weight, bias = policy.network.layers[-1]
        return (rows @ weight.astype(np.float64) + bias)[:, 0]

    moves = 1e-6 * np.eye(4)
    gradient = np.stack([(output(line + move) - output(line - move)) / 2e-6 for move in moves], axis=1)
    wanted = gradient.mean(axis=0) * (obs - baseline)
    found = attributed(policy, baseline, obs.astype(np.float32), within(0, -np.inf, np.inf, 1.0))
    np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())


def test_what_a_policy_does_not_see_has_no_part() -> None:
    """It sees no more than 1 from the mean: beyond 1 nothing is added."""
    arrays = {"mean.weight": np.ones((2, 1), np.float32), "mean.bias": np.zeros(1, np.float32)}
    normaliser = {"observation.mean": np.zeros(2, np.float32), "observation.scale": np.ones(2, np.float32)}
    limit = {"observation.limit": np.ones(1, np.float32), "log_std": np.zeros(1, np.float32)}
    policy = BoxPolicy(arrays | normaliser | limit)
    found = attributed(policy, np.array([2.0, 0.5]), np.array([9.0, 3.0], np.float32), within(0, -9.0, 9.0, 1.0))
    np.testing.assert_allclose(found, [0.0, 0.5])


def test_stacked_frames_are_one_observation_the_newest_last() -> None:
    assert by_name(("rate_t", "height", "rate_t-2", "rate_t-10")) == {"rate": (3, 2, 0), "height": (1,)}


def test_an_observation_that_ends_in_t_is_no_frame() -> None:
    """A temperature is no frame of what has the rest of its name, nor are frames of what stands beside them."""
    assert by_name(("delta", "delta_t", "inlet_t")) == {"delta": (0,), "delta_t": (1,), "inlet_t": (2,)}
    assert by_name(("flow", "flow_t-1", "flow_t")) == {"flow": (0,), "flow_t-1": (1,), "flow_t": (2,)}


def test_a_version_relies_on_features_by_the_size_of_their_parts() -> None:
    """The lead of either action is 2 rate + level or minus that: of the sizes 2 + 2 + 1 + 1, four are rate's."""
    weight = np.array([[2.0, 0.0], [1.0, 0.0]], np.float32)
    policy = Policy({"logits.weight": weight, "logits.bias": np.zeros(2, np.float32)})
    obs = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
    assert reliance(policy, ("rate", "level"), obs) == pytest.approx({"rate": 200.0 / 3.0, "level": 100.0 / 3.0})
    assert reliance(policy, ("rate_t-1", "rate_t"), obs) == pytest.approx({"rate": 100.0})
    assert reliance(policy, ("rate", "level"), 0.0 * obs) == {}
    assert reliance(policy, ("rate", "level"), obs[:0]) == {}
