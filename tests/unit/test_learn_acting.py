"""Acting in NumPy: the same values as torch, the same decision on every path, no torch in the process."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from dueling_reference import plain_q_values

from headrace.learners import dqn
from headrace.learners.acting import BoxPolicy, Policy, Seen, epsilon_at, network_inputs
from headrace.learners.checkpoint import pack
from headrace.learners.nets.normaliser import INPUT_LIMIT, Moments
from headrace.schemas.errors import CorruptDataError

WIDTH, ACTIONS = 32, 5


def trained_state(hidden=(64, 64)):
    """A state whose averaged weights and normaliser are anything but trivial."""
    rng = np.random.default_rng(0)
    state = dqn.init(dqn.DQNConfig(hidden=hidden), WIDTH, ACTIONS, seed=1)
    averaged = state.averaged + 0.1 * torch.from_numpy(rng.standard_normal(state.shape.size).astype(np.float32))
    return dataclasses.replace(
        state,
        averaged=averaged,
        inputs=Moments(10, rng.normal(0.0, 2.0, WIDTH), 10 * rng.uniform(0.05, 4.0, WIDTH)),
    )


def observations(rows, seed=3):
    return np.random.default_rng(seed).normal(0.0, 2.0, (rows, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("hidden", [(64, 64), (16,), (24, 8, 12)])
def test_values_equal_the_torch_network(hidden):
    """Folding the normaliser and the heads changes nothing beyond 1e-5 of the values' size."""
    state, obs = trained_state(hidden), observations(200)
    seen = network_inputs(obs, Seen(state.inputs.mean, state.inputs.scale, INPUT_LIMIT), state.features)
    expected = plain_q_values(state.averaged, state.shape, torch.from_numpy(seen)).numpy()
    found = Policy(dqn.policy_arrays(state)).q_values(obs)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_one_decision_equals_the_batch():
    """`decide` is `act` without exploration; its buffers carry nothing from one call to the next."""
    policy, obs = Policy(dqn.policy_arrays(trained_state())), observations(500)
    expected = policy.act(obs, 0.0, np.random.default_rng(0))
    assert [policy.decide(row) for row in obs] == expected.tolist()
    assert len(set(expected.tolist())) > 1
    assert policy.decide(obs[0].astype(np.float64)) == expected[0]


def test_exploration_is_uniform_and_as_frequent_as_epsilon():
    """With epsilon .5 half of the decisions are drawn, each action a fifth of them."""
    policy, obs = Policy(dqn.policy_arrays(trained_state())), np.repeat(observations(1), 20_000, axis=0)
    greedy = policy.decide(obs[0])
    counts = np.bincount(policy.act(obs, 0.5, np.random.default_rng(0)), minlength=ACTIONS) / 20_000
    expected = np.full(ACTIONS, 0.1)
    expected[greedy] += 0.5
    np.testing.assert_allclose(counts, expected, atol=0.012)


def test_each_agent_may_have_an_epsilon_of_its_own():
    """Agents with epsilon 0 decide greedily while others explore."""
    policy, obs = Policy(dqn.policy_arrays(trained_state())), observations(400)
    greedy = policy.act(obs, 0.0, np.random.default_rng(0))
    mixed = policy.act(obs, np.repeat([0.0, 1.0], 200), np.random.default_rng(0))
    np.testing.assert_array_equal(mixed[:200], greedy[:200])
    assert (mixed[200:] != greedy[200:]).mean() > 0.6


def test_the_draws_taken_do_not_depend_on_epsilon():
    """So a change of epsilon or of policy leaves the generator's later stream as it was."""
    policy, first, second = Policy(dqn.policy_arrays(trained_state())), *map(np.random.default_rng, (7, 7))
    policy.act(observations(10), 0.0, first)
    policy.act(observations(10), 1.0, second)
    assert first.random() == second.random()


def test_a_policy_loads_from_bytes():
    """Packed and loaded, it decides alike; without a normaliser it takes observations as they are."""
    arrays, obs = dqn.policy_arrays(trained_state()), observations(20)
    expected = Policy(arrays).q_values(obs)
    np.testing.assert_array_equal(Policy.from_bytes(pack(arrays)).q_values(obs), expected)
    plain = {name: array for name, array in arrays.items() if not name.startswith("observation.")}
    scaled = np.clip((obs - arrays["observation.mean"]) / arrays["observation.scale"], -10.0, 10.0)
    np.testing.assert_allclose(Policy(plain).q_values(scaled), expected, rtol=1e-4, atol=1e-4)


def test_what_is_no_policy_is_refused():
    """Missing layers, shapes that don't chain, a scale of 0, NaN weights, garbage."""
    arrays = dqn.policy_arrays(trained_state())
    with pytest.raises(ValueError, match=r"needs value.weight and value.bias"):
        Policy({name: array for name, array in arrays.items() if name != "value.bias"})
    with pytest.raises(ValueError, match="do not fit"):
        Policy(arrays | {"hidden_1.weight": np.zeros((9, 64)), "hidden_1.bias": np.zeros(64)})
    with pytest.raises(ValueError, match="positive scale"):
        Policy(arrays | {"observation.scale": np.zeros(WIDTH, np.float32)})
    with pytest.raises(ValueError, match="not all finite"):
        Policy(arrays | {"value.bias": np.array([np.nan], np.float32)})
    with pytest.raises(CorruptDataError):
        Policy.from_bytes(b"garbage")


def test_a_draw_for_one_observation_is_one_of_the_batch():
    """The same distribution, and the same log-probability of what was drawn."""
    arrays = {
        "logits.weight": np.zeros((3, 4), np.float32),
        "logits.bias": np.array([0.0, 1.0, -60.0, 2.0], np.float32),
    }
    policy, rng, obs = Policy(arrays), np.random.default_rng(0), np.zeros(3, np.float32)
    drawn, log_probs = zip(*(policy.sample_one(obs, rng) for _ in range(20_000)), strict=True)
    share = np.exp(arrays["logits.bias"]) / np.exp(arrays["logits.bias"]).sum()
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 20_000, share, atol=0.012)
    np.testing.assert_allclose(log_probs, np.log(share)[list(drawn)], rtol=1e-5)
    batch, expected = policy.sample(np.zeros((2_000, 3), np.float32), rng)
    np.testing.assert_allclose(expected, np.log(share)[batch], rtol=1e-5)


def test_exploring_says_how_likely_each_action_was():
    """With epsilon .5 and 5 actions the greedy one has .6, each other .1; one by one and in a batch."""
    policy, obs, rng = Policy(dqn.policy_arrays(trained_state())), observations(1)[0], np.random.default_rng(0)
    greedy, table = policy.decide(obs), {True: np.log(0.6), False: np.log(0.1)}
    one = [policy.explore_one(obs, 0.5, rng) for _ in range(20_000)]
    assert np.mean([action == greedy for action, _ in one]) == pytest.approx(0.6, abs=0.012)
    assert {action for action, _ in one} == set(range(ACTIONS))
    actions, log_probs = policy.explore(np.repeat(obs[None], 500, axis=0), 0.5, rng)
    for action, log_prob in (*one[:500], *zip(actions, log_probs, strict=True)):
        assert log_prob == pytest.approx(table[bool(action == greedy)])
    assert policy.explore_one(obs, 0.0, rng) == (greedy, 0.0)


def test_a_continuous_draw_is_cut_and_says_its_density():
    """For one observation as for a batch; as `log_prob` has it for the action that the environment is given."""
    arrays = {"mean.weight": np.ones((3, 2)), "mean.bias": np.array([0.0, 0.8]), "log_std": np.array([-1.0, 0.0])}
    arrays |= {"action.low": np.full(2, -1.0), "action.high": np.ones(2)}
    policy, rng = (
        BoxPolicy({name: array.astype(np.float32) for name, array in arrays.items()}),
        np.random.default_rng(0),
    )
    obs = np.full((400, 3), 0.1, np.float32)
    actions, densities = policy.sample(obs, rng)
    one = [policy.sample_one(obs[0], rng) for _ in range(400)]
    assert 0.2 < (actions[:, 1] == 1.0).mean() < 0.6
    np.testing.assert_allclose(densities, policy.log_prob(obs, actions), rtol=1e-4, atol=1e-5)
    together = np.stack([action for action, _ in one])
    assert np.abs(together).max() <= 1.0
    np.testing.assert_allclose([density for _, density in one], policy.log_prob(obs, together), rtol=1e-4, atol=1e-5)
    assert one[0][0] is not one[1][0]


def test_exploration_falls_linearly_and_then_stays():
    """The table of a ramp from 1 to .02 over 100 steps."""
    found = [epsilon_at(step, 1.0, 0.02, 100) for step in (0, 50, 99, 100, 10**9)]
    assert found == pytest.approx([1.0, 0.51, 0.0298, 0.02, 0.02])
    assert epsilon_at(0, 1.0, 0.02, 0) == 0.02


def test_acting_never_imports_torch():
    """The fleet's process must start fast and stay small."""
    code = "import headrace.learners.acting, sys; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
