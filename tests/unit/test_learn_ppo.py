"""PPO: against slow references, reproducible, resumable, safe with aged and bad data, and able to learn."""

import dataclasses

import numpy as np
import pytest
import torch

from headrace.learners import ppo
from headrace.learners.acting import BoxPolicy, Policy, load_policy
from headrace.learners.checkpoint import pack, unpack, weights_hash
from headrace.learners.nets.mlp import MLPShape, backward, forward, initial_mlp, split_layers
from headrace.learners.ppo.policy_gradient import (
    Categorical,
    DiagonalGaussian,
    clipped_surrogate,
    generalised_advantages,
)
from headrace.learners.ppo.rows import Rows
from headrace.learners.ppo.updates import _PolicyDescent
from headrace.learners.prior import rule_prior
from headrace.learners.stream.algorithms import algorithm
from headrace.learners.tails import log_tail
from headrace.schemas.errors import LearnerDivergedError
from headrace.schemas.records import Bounds, TaskSpec

WIDTH, ACTIONS = 4, 3
SMALL = ppo.PPOConfig(
    hidden=(16,), critic_hidden=(16,), minibatch_size=40, schedule_rows=4_000, normaliser_rows=100, entropy=0.01
)


pytestmark = pytest.mark.usefixtures("one_thread")


def rollout(state, seed=0, steps=10, count=8, **more):
    """Random observations; reward 1 for action 0 (or a small first component) where obs[0] > 0."""
    rng = np.random.default_rng(seed)
    obs, next_obs = (rng.normal(0.5, 2.0, (steps, count, WIDTH)).astype(np.float32) for _ in range(2))
    policy = load_policy(pack(ppo.behaviour_arrays(state)))
    action, log_prob = policy.sample(obs.reshape(-1, WIDTH), rng)
    action = action.reshape(steps, count, *action.shape[1:])
    good = (action == 0) == (obs[..., 0] > 0) if action.ndim == 2 else -np.square(action[..., 0] - obs[..., 0])
    ends = rng.random((2, steps, count)) < 0.1
    return ppo.Rollout(
        obs, action, log_prob.reshape(steps, count), good.astype(np.float32), next_obs, ends[0], ends[1] & ~ends[0]
    )._replace(**more)


def trained(state, updates, first=0):
    metrics = {}
    for i in range(updates):
        state, metrics = ppo.update(state, rollout(state, first + i))
    return state, metrics


def state_hash(state):
    return weights_hash(ppo.state_to_arrays(state)[0])


def by_definition(reward, discount, lam, values, following, continues):
    """A_t = sum over k of (gamma lambda)^k delta_{t+k}, until the trajectory ends."""
    steps, count = reward.shape
    found = np.zeros_like(reward)
    for n in range(count):
        for t in range(steps):
            weight = 1.0
            for k in range(t, steps):
                found[t, n] += weight * (reward[k, n] + discount[k, n] * following[k, n] - values[k, n])
                if not continues[k, n]:
                    break
                weight *= discount[k, n] * lam[k + 1, n]
    return found


@pytest.mark.parametrize("seed", range(3))
def test_advantages_equal_the_sum_by_definition(seed):
    """With terminations, truncations and a trace that varies."""
    rng = np.random.default_rng(seed)
    reward, values, following = rng.normal(size=(3, 12, 5))
    terminated, cut = rng.random((2, 12, 5)) < 0.15
    discount, lam = 0.9 * ~terminated, rng.uniform(0.3, 1.0, (12, 5))
    continues = ~(terminated | cut)
    continues[-1] = False
    found = generalised_advantages(reward, discount, continues, values, following, lam)
    np.testing.assert_allclose(found, by_definition(reward, discount, lam, values, following, continues), rtol=1e-10)


def test_advantages_by_hand():
    """Two steps, the second cut off: delta = 1 + .5 * 4 - 2 = 1 each; the first adds .5 * .5 * 1."""
    one = np.ones((2, 1))
    continues = np.array([[True], [False]])
    found = generalised_advantages(one, 0.5 * one, continues, 2 * one, 4 * one, 0.5 * one)
    np.testing.assert_allclose(found[:, 0], [1.25, 1.0])
    ended = generalised_advantages(one, np.array([[0.5], [0.0]]), continues, 2 * one, 4 * one, 0.5 * one)
    np.testing.assert_allclose(ended[:, 0], [1.0 - 0.25, -1.0])


def test_the_clipped_objective_by_hand():
    """Gains stop at 1.2 times, losses at .8 times; what makes it worse is never cut off."""
    ratio = np.array([1.5, 1.5, 0.5, 0.5, 1.1])
    advantage = np.array([2.0, -2.0, 2.0, -2.0, 1.0])
    loss, slope = clipped_surrogate(ratio, advantage, 0.2)
    np.testing.assert_allclose(loss, [-2.4, 3.0, -1.0, 1.6, -1.1], rtol=1e-6)
    assert slope.tolist() == [0.0, 2.0, -2.0, 0.0, -1.0]


def test_a_softmax_policy_equals_torchs():
    """Log-probabilities, entropies and the gradient of a loss of both; scores far apart included."""
    rng = torch.Generator().manual_seed(0)
    logits, action = torch.randn(50, 4, generator=rng), torch.randint(4, (50,), generator=rng)
    logits[0] = torch.tensor([0.0, 90.0, -90.0, 0.0])
    by_log_prob, leaf = torch.randn(50, generator=rng), logits.requires_grad_()
    expected = torch.distributions.Categorical(logits=leaf)
    ((by_log_prob * expected.log_prob(action)).sum() - 0.3 * expected.entropy().sum()).backward()
    found = Categorical(logits.detach().numpy(), action.numpy())
    np.testing.assert_allclose(found.log_prob, expected.log_prob(action).detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.entropy, expected.entropy().detach(), rtol=1e-5, atol=1e-6)
    by_logits, by_more = found.gradient(by_log_prob.numpy(), -0.3)
    np.testing.assert_allclose(by_logits, leaf.grad, rtol=1e-4, atol=1e-6)
    assert by_more is None


def test_a_gaussian_policy_equals_torchs():
    """As the softmax; at a bound what counts is all that lies beyond; a deviation that is cut off has no gradient."""
    rng = torch.Generator().manual_seed(0)
    mean, drawn, by_log_prob = (torch.randn(*size, generator=rng) for size in ((50, 3), (50, 3), (50,)))
    log_std = torch.tensor([-0.3, 0.4, 3.0])
    box = torch.tensor([[-0.5, -torch.inf, -1.0], [0.7, 0.2, torch.inf]])
    drawn = torch.minimum(torch.maximum(drawn, box[0]), box[1])
    leaves = mean.requires_grad_(), log_std.requires_grad_()
    expected = torch.distributions.Normal(mean, log_std.clamp(-5.0, 2.0).exp())
    standardised = (drawn - mean) / expected.scale
    each = torch.where(drawn == box[0], torch.special.log_ndtr(standardised), expected.log_prob(drawn))
    log_prob = torch.where(drawn == box[1], torch.special.log_ndtr(-standardised), each).sum(1)
    entropy = expected.entropy().sum(1)
    ((by_log_prob * log_prob).sum() - 0.3 * entropy.sum()).backward()
    found = DiagonalGaussian(mean.detach().numpy(), log_std.detach().numpy(), drawn.numpy(), box.numpy())
    np.testing.assert_allclose(found.log_prob, log_prob.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.entropy, entropy.detach(), rtol=1e-5)
    for gradient, leaf in zip(found.gradient(by_log_prob.numpy(), -0.3), leaves, strict=True):
        np.testing.assert_allclose(gradient, leaf.grad, rtol=1e-4, atol=1e-5)
    assert gradient[2] == 0.0


def test_the_tail_is_right_however_far_out():
    at = np.linspace(-12.0, 40.0, 500)
    expected = torch.special.log_ndtr(-torch.from_numpy(at)).numpy()
    np.testing.assert_allclose(np.expm1(log_tail(at) - expected), 0.0, atol=2e-7)


def box_policy(mean, log_std, low, high):
    """A policy of one dimension, whatever it sees."""
    numbers = {"mean.bias": mean, "log_std": log_std, "action.low": low, "action.high": high}
    arrays = {name: np.float32([value]) for name, value in numbers.items()}
    hidden = {"hidden_0.weight": np.zeros((1, 1), np.float32), "hidden_0.bias": np.zeros(1, np.float32)}
    return BoxPolicy(arrays | hidden | {"mean.weight": np.zeros((1, 1), np.float32)})


def test_the_weight_of_an_action_at_a_bound_is_that_of_its_probability():
    """Of a half more than 1 deviation off, by a normal of .15866, now .24196: 1.525; by densities it were 1.29."""
    obs, action = np.zeros((1, 1), np.float32), np.float32([[1.0]])
    before, now = box_policy(0.0, 0.0, -1.0, 1.0), box_policy(0.3, 0.0, -1.0, 1.0)
    weight = np.exp(now.log_prob(obs, action) - before.log_prob(obs, action))
    assert weight[0] == pytest.approx(0.2419637 / 0.1586553, rel=1e-5)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 100.0), (-np.inf, 0.5)])
def test_draws_are_cut_and_their_log_probabilities_sum_to_1(low, high):
    """Importance weights of another policy have the mean 1 over 40,000 draws, bounds hit or not."""
    scale = 1.0 if np.isinf(low) else (high - low) / 2
    middle = 0.0 if np.isinf(low) else (high + low) / 2
    obs = np.zeros((40_000, 1), np.float32)
    drawer = box_policy(middle + 0.4 * scale, np.log(0.8 * scale), low, high)
    other = box_policy(middle + 0.2 * scale, np.log(0.7 * scale), low, high)
    actions, log_prob = drawer.sample(obs, np.random.default_rng(0))
    assert low <= actions.min() <= actions.max() == high
    np.testing.assert_allclose(drawer.log_prob(obs, actions), log_prob, rtol=1e-6)
    assert np.exp(other.log_prob(obs, actions) - log_prob).mean() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 100.0), (-0.001, 0.0)])
def test_a_bandit_is_learned_alike_on_any_range(low, high):
    """Best at .8 of the range, seen through uniform draws: within a tenth of the range after eight rollouts."""
    bounds = np.float32([[low], [high]])
    config = dataclasses.replace(SMALL, discount=0.0, minibatch_size=200, learning_rate=3e-3, importance_max=5.0)
    state = ppo.init(dataclasses.replace(config, schedule_rows=10**9), 1, 1, 0, bounds=bounds)
    rng = np.random.default_rng(0)
    for _ in range(8):
        share = rng.random((100, 20, 1))
        obs = rng.normal(size=share.shape).astype(np.float32)
        ends = np.ones(share.shape[:2], np.bool_)
        action, reward = (low + share * (high - low)).astype(np.float32), -np.abs(share[..., 0] - 0.8)
        likely = np.full(ends.shape, -np.log(high - low), np.float32)
        acted = np.full(ends.shape, state.version - 1)
        given = ppo.Rollout(obs, action, likely, reward.astype(np.float32), obs, ends, ~ends, version=acted)
        state, _ = ppo.update(state, given)
    found = load_policy(pack(ppo.policy_arrays(state))).act(np.zeros((1, 1), np.float32))
    assert (found[0, 0] - low) / (high - low) == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("hidden", [(7,), (8, 5, 6), (40, 20)])
def test_the_written_out_gradient_equals_autograds(activation, hidden):
    """Of every layer's weights and biases, at any batch size."""
    shape = MLPShape(5, hidden, 3, "logits", activation)
    flat = initial_mlp(shape, np.random.default_rng(0), 1.0)
    obs, weight = torch.randn(9, 5), torch.randn(9, 3)
    given = forward(split_layers(flat, shape), obs, activation)
    found = torch.full_like(flat, 9.0)
    backward(split_layers(flat, shape), given, weight, activation, split_layers(found, shape))
    leaf = flat.clone().requires_grad_()
    layers, x = split_layers(leaf, shape), obs
    for w, b in layers[:-1]:
        x = getattr(torch, activation)(x @ w + b)
    ((x @ layers[-1][0] + layers[-1][1]) * weight).sum().backward()
    np.testing.assert_allclose(found, leaf.grad, rtol=1e-4, atol=1e-5)


def test_aged_rows_move_the_policy_by_their_weight():
    """The gradient of the weighted, clipped surrogate and the entropy, against autograd's."""
    rng = np.random.default_rng(3)
    state = ppo.init(dataclasses.replace(SMALL, gradient_norm_max=1e9, entropy=0.02), WIDTH, ACTIONS, seed=1)
    state.policy.parameters.add_(torch.randn_like(state.policy.parameters) * 0.3)
    count = 40
    inputs = rng.normal(size=(count, WIDTH)).astype(np.float32)
    action = rng.integers(0, ACTIONS, count)
    before, weight, advantage = (
        (rng.normal(size=count) * deviation + mean).astype(np.float32)
        for mean, deviation in ((-1.0, 0.3), (1.5, 0.4), (0.0, 1.0))
    )
    batch = Rows(inputs, inputs, None, action, before, weight, advantage, np.zeros(count, np.float32))
    leaf = state.policy.parameters.clone().requires_grad_()
    descent = _PolicyDescent(state.config, state.policy.clone())
    descent.step(batch, 1e-3, 0.02)
    layers = state.policy._replace(parameters=leaf).layers
    hidden = torch.from_numpy(inputs)
    for w, b in layers[:-1]:
        hidden = getattr(torch, state.policy.shape.activation)(hidden @ w + b)
    drawn = torch.distributions.Categorical(logits=hidden @ layers[-1][0] + layers[-1][1])
    ratio = (drawn.log_prob(torch.from_numpy(action)) - torch.from_numpy(before)).exp()
    gain = torch.from_numpy(advantage)
    clip = state.config.clip
    surrogate = torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain) * torch.from_numpy(weight)
    (-surrogate.mean() - 0.02 * drawn.entropy().mean()).backward()
    np.testing.assert_allclose(descent._gradient, leaf.grad, rtol=1e-3, atol=1e-6)


def test_the_critic_foresees_what_the_policy_would_get():
    """Agents act uniformly; a safe action pays .85, the other leads to where the learner's own choice earns 1.

    By the agents' own returns the risky way is worth .5 at first, and the safe one looks better for ever.
    """
    config = ppo.PPOConfig(
        hidden=(16,), critic_hidden=(16,), minibatch_size=256, normaliser_rows=1_000, discount=1.0, gae_lambda=0.9,
        importance_max=5.0, schedule_rows=10**9, entropy=0.0,
    )  # fmt: skip
    state = ppo.init(config, 2, 2, seed=0)
    for seed in range(60):
        state, _ = ppo.update(state, safe_or_risky(500, seed, state.version))
    policy = load_policy(pack(ppo.policy_arrays(state)))
    assert isinstance(policy, Policy)
    likely = np.exp(policy.q_values(np.eye(2, dtype=np.float32)))
    risky, good = (likely / likely.sum(axis=1, keepdims=True))[:, 1]
    assert risky > 0.9
    assert good > 0.9


def safe_or_risky(count, seed, version):
    rng = np.random.default_rng(seed)
    obs, next_obs = np.zeros((2, 2, count, 2), np.float32)
    obs[0, :, 0] = obs[1, :, 1] = next_obs[0, :, 1] = 1
    action = rng.integers(0, 2, (2, count))
    reward = np.stack([np.where(action[0] == 0, 0.85, 0.0), action[1]]).astype(np.float32)
    terminated = np.stack([action[0] == 0, np.ones(count, np.bool_)])
    present = np.stack([np.ones(count, np.bool_), ~terminated[0]])
    behaviour = np.full((2, count), np.log(0.5), np.float32)
    truncated, versions = np.zeros((2, count), np.bool_), np.full((2, count), version - 1)
    return ppo.Rollout(obs, action, behaviour, reward, next_obs, terminated, truncated, versions, present)


def test_equal_seeds_and_rollouts_give_equal_bits():
    """Two runs end in one hash, whatever torch's own generator does; another seed in another."""
    first, _ = trained(ppo.init(SMALL, WIDTH, ACTIONS, seed=5), 4)
    torch.manual_seed(99)
    second, _ = trained(ppo.init(SMALL, WIDTH, ACTIONS, seed=5), 4)
    other, _ = trained(ppo.init(SMALL, WIDTH, ACTIONS, seed=6), 4)
    assert state_hash(first) == state_hash(second) != state_hash(other)


@pytest.mark.parametrize("bounds", [None, np.float32([[-2, -2, -2], [2, 2, 2]])])
@pytest.mark.parametrize("at", [0, 3])
def test_training_resumes_to_identical_weights(at, bounds):
    """Through bytes and back; features, prior, moments and the order of rows go on."""
    features = np.random.default_rng(0).normal(size=(WIDTH, 2)).astype(np.float32)
    prior = None if bounds is not None else rule_prior(np.ones(WIDTH), 1.0, ACTIONS, 0.5)
    start = ppo.init(SMALL, WIDTH, ACTIONS, 5, bounds=bounds, features=features, prior=prior)
    straight, _ = trained(start, 6)
    stopped, _ = trained(ppo.init(SMALL, WIDTH, ACTIONS, 5, bounds=bounds, features=features, prior=prior), at)
    payload = pack(*ppo.state_to_arrays(stopped))
    trained(stopped, 2)  # what happens to the old state afterwards must not show
    resumed, _ = trained(ppo.state_from_arrays(*unpack(payload)), 6 - at, first=at)
    assert state_hash(resumed) == state_hash(straight)
    assert ppo.state_to_arrays(resumed)[1] == ppo.state_to_arrays(straight)[1]


@pytest.mark.parametrize("bounds", [[[0.0], [10.0]], [[-2.0, 0.0], [2.0, 10.0]], [[-np.inf], [np.inf]]])
def test_what_is_gone_back_to_acts_alike_whatever_the_actions_unit(bounds):
    bounds = np.array(bounds, np.float32)
    state = ppo.init(SMALL, 3, bounds.shape[1], seed=1, bounds=bounds)
    served = ppo.policy_arrays(state)
    served["mean.bias"] = served["mean.bias"] + np.linspace(0.5, 1.5, bounds.shape[1], dtype=np.float32)
    other = ppo.init(SMALL, 3, bounds.shape[1], seed=2, bounds=bounds)
    back = ppo.policy_arrays(ppo.gone_back(other, served))
    assert back.keys() == served.keys()
    for name, array in back.items():
        np.testing.assert_allclose(array, served[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("low", "high"), [(-3.4e38, 3.4e38), (0.0, 3.4e38), (-3.4e38, 0.0)])
def test_a_bound_as_task_files_write_none_is_none(low, high):
    """It draws about 0 in the action's own unit, and not about the middle of all float32 numbers."""
    spec = TaskSpec("t", ("x",), Bounds((low,), (high,)), 1_000)
    state = algorithm("ppo").init(SMALL, spec, 0)
    assert state.unit.tolist() == [[0.0], [1.0]]
    actions, log_probs = BoxPolicy(ppo.policy_arrays(state)).sample(
        np.zeros((100, 1), np.float32), np.random.default_rng(0)
    )
    assert np.abs(actions).max() < 10.0
    assert np.isfinite(log_probs).all()


def test_a_checkpoint_of_something_else_is_refused():
    """The algorithm is named; a network of another size doesn't pass for ours."""
    arrays, meta = ppo.state_to_arrays(ppo.init(SMALL, WIDTH, ACTIONS, seed=0))
    with pytest.raises(ValueError, match="expected a checkpoint of algorithm 'ppo', found 'dqn'"):
        ppo.state_from_arrays(arrays, meta | {"algorithm": "dqn"})
    with pytest.raises(ValueError, match="expected shape"):
        ppo.state_from_arrays(arrays, meta | {"observation_width": 7})


@pytest.mark.parametrize("continuous", [False, True])
def test_what_acts_is_what_was_trained(continuous):
    """NumPy's log-probabilities of drawn actions equal torch's, features, prior and normaliser included."""
    bounds = np.float32([[-1] * ACTIONS, [1] * ACTIONS]) if continuous else None
    features = np.random.default_rng(0).normal(size=(WIDTH, 2)).astype(np.float32)
    prior = None if continuous else rule_prior(np.ones(WIDTH), 1.0, ACTIONS, 0.7)
    state, _ = trained(ppo.init(SMALL, WIDTH, ACTIONS, 3, bounds=bounds, features=features, prior=prior), 3)
    drawn = rollout(state, seed=9)
    _, metrics = ppo.update(dataclasses.replace(state, config=dataclasses.replace(SMALL, averaging=0.5)), drawn)
    assert metrics["effective_share"] == pytest.approx(1.0, abs=1e-6)
    policy = load_policy(pack(ppo.policy_arrays(state)))
    assert isinstance(policy, BoxPolicy if continuous else Policy)
    obs = drawn.obs.reshape(-1, WIDTH)
    if continuous:
        assert np.abs(policy.act(obs)).max() <= 1.0
        np.testing.assert_allclose([policy.decide(row) for row in obs], policy.act(obs), rtol=1e-4, atol=1e-5)
    else:
        greedy = policy.act(obs, 0.0, np.random.default_rng(0)).tolist()
        assert [policy.decide(row) for row in obs] == greedy


def test_draws_follow_the_softmax():
    """Frequencies of 40,000 draws, by chi-square."""
    state = ppo.init(SMALL, WIDTH, ACTIONS, 3, prior=rule_prior(np.zeros(WIDTH), 1.0, ACTIONS, 0.7))
    policy, obs = Policy(ppo.policy_arrays(state)), np.ones((40_000, WIDTH), np.float32)
    action, log_prob = policy.sample(obs, np.random.default_rng(0))
    logits = policy.q_values(obs[:1])[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    counts = np.bincount(action, minlength=ACTIONS)
    chi_square = (np.square(counts - 40_000 * expected) / (40_000 * expected)).sum()
    assert chi_square < 13.8  # p = .001 at two degrees of freedom
    np.testing.assert_allclose(np.exp(log_prob), expected[action], rtol=1e-4)


def test_it_learns_and_the_prior_fades():
    """A bandit with context: from a prior that is wrong half of the time to nearly always right."""
    config = dataclasses.replace(SMALL, schedule_rows=16_000, discount=0.0, minibatch_size=160, learning_rate=3e-3)
    state = ppo.init(config, WIDTH, ACTIONS, 0, prior=rule_prior(np.zeros(WIDTH), 1.0, ACTIONS, 1.0))
    before = rollout(state, 999, steps=50).reward.mean()
    for i in range(25):
        state, _ = ppo.update(state, rollout(state, i, steps=40, count=16))
    after = rollout(state, 999, steps=50).reward.mean()
    assert before < 0.7
    assert after > 0.93


def test_continuous_actions_are_learned():
    """The mean moves to where the reward is, and the deviation shrinks."""
    config = dataclasses.replace(
        SMALL, schedule_rows=32_000, discount=0.0, minibatch_size=160, learning_rate=3e-3, epochs=8, entropy=0.0
    )
    state = ppo.init(config, WIDTH, 1, 0, bounds=np.float32([[-9], [9]]))
    before = rollout(state, 999, steps=50).reward.mean()
    for i in range(40):
        state, _ = ppo.update(state, rollout(state, i, steps=40, count=16))
    after = rollout(state, 999, steps=50).reward.mean()
    assert before < -3.0
    assert after > -0.5


def test_aged_rows_are_weighted_and_then_dropped():
    """Rows of older versions count by their importance; those beyond the limit not at all, and that is told."""
    state, _ = trained(ppo.init(SMALL, WIDTH, ACTIONS, seed=5), 6)
    fresh = rollout(state, 50)
    version = np.full(fresh.reward.shape, state.version)
    version[:, :2] = state.version - 4
    likely = fresh.log_prob.copy()
    likely[:, ::2] -= 0.5
    _, metrics = ppo.update(state, fresh._replace(version=version, log_prob=likely))
    assert metrics["dropped_share"] == 0.0
    assert metrics["effective_share"] == pytest.approx((1 + np.exp(0.5)) ** 2 / (2 * (1 + np.exp(1.0))), rel=1e-3)
    version[:, :2] = state.version - 5
    dropped, metrics = ppo.update(state, fresh._replace(version=version))
    assert metrics["dropped_share"] == pytest.approx(0.25)
    absent, _ = ppo.update(
        dataclasses.replace(state, rng=np.random.default_rng(0)),
        fresh._replace(version=version * 0, reward=fresh.reward),
    )
    assert absent.version == dropped.version == state.version + 1
    assert torch.equal(absent.policy.parameters, state.policy.parameters)


def test_rows_that_are_not_there_teach_nothing():
    """A shorter trajectory's padding may hold anything."""
    present = np.ones((10, 8), np.bool_)
    present[6:, 3] = False
    hashes = []
    for filling in (0.0, 77.0):
        state, _ = trained(ppo.init(SMALL, WIDTH, ACTIONS, seed=5), 2)
        one = rollout(state, 50, present=present)
        one.reward[6:, 3] = filling
        hashes.append(state_hash(ppo.update(state, one)[0]))
    assert hashes[0] == hashes[1]


def test_advantages_that_do_not_differ_teach_nothing():
    """A constant reward and a constant value: nothing is divided by zero, and the policy stays as it is."""
    config = dataclasses.replace(SMALL, entropy=0.0, discount=0.0)
    state = ppo.init(config, WIDTH, ACTIONS, seed=5)
    state.critic.parameters.zero_()
    one = rollout(state)
    following, metrics = ppo.update(state, one._replace(reward=np.full_like(one.reward, 2.0)))
    assert np.isfinite(list(metrics.values())).all()
    torch.testing.assert_close(following.policy.parameters, state.policy.parameters, rtol=0, atol=1e-6)


@pytest.mark.parametrize("column", ["obs", "reward", "next_obs", "log_prob"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_bad_numbers_stop_learning_and_leave_the_state_good(column, value):
    """The error names the column; the state is as before, and training goes on from it."""
    state, _ = trained(ppo.init(SMALL, WIDTH, ACTIONS, seed=5), 2)
    before, bad = state_hash(state), rollout(state, 7)
    getattr(bad, column)[3, 2] = value
    with pytest.raises(LearnerDivergedError, match=column):
        ppo.update(state, bad)
    assert state_hash(state) == before
    trained(state, 1)


def test_an_exploding_loss_stops_learning():
    """Beyond the limit is diverged, though still finite; the state stays good."""
    state = ppo.init(dataclasses.replace(SMALL, loss_limit=1e-3), WIDTH, ACTIONS, seed=5)
    with pytest.raises(LearnerDivergedError, match=r"limit 0\.001"):
        ppo.update(state, rollout(state))


def test_epochs_end_where_the_policy_has_moved_far():
    """With a tiny limit the policy stops moving after its first step; the critic goes on."""
    state = ppo.init(dataclasses.replace(SMALL, kl_stop=1e-12), WIDTH, ACTIONS, seed=5)
    following, metrics = ppo.update(state, rollout(state))
    assert following.policy.steps < following.critic.steps
    assert metrics["epochs"] == SMALL.epochs


@pytest.mark.parametrize("change", [{"clip": 0.0}, {"discount": 1.5}, {"entropy": -1.0}, {"minibatch_size": 0}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(SMALL, **change)
