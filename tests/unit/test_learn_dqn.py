"""The DQN learner: against a slow reference, reproducible, resumable, and able to learn."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from dueling_reference import plain_q_values

from headrace.learners import dqn
from headrace.learners.acting import Policy, Seen, network_inputs
from headrace.learners.checkpoint import pack, unpack, weights_hash
from headrace.learners.dqn.replay import Batch, ReplayBuffer
from headrace.learners.dqn.updates import _rewards
from headrace.learners.nets.normaliser import INPUT_LIMIT
from headrace.learners.prior import rule_prior
from headrace.schemas.errors import LearnerDivergedError

WIDTH, ACTIONS = 4, 3
SMALL = dqn.DQNConfig(hidden=(16, 16), batch_size=32, normaliser_updates=20, learning_rate_steps=100)


pytestmark = pytest.mark.usefixtures("one_thread")


def filled_buffer(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    buffer = ReplayBuffer(1000, WIDTH)
    obs, next_obs = (rng.normal(1.0, 2.0, (rows, WIDTH)).astype(np.float32) for _ in range(2))
    reward = rng.normal(0.5, 1.0, rows).astype(np.float32)
    buffer.add(Batch(obs, rng.integers(ACTIONS, size=rows), reward, next_obs, rng.random(rows) < 0.1))
    return buffer


def trained(state, buffer, updates):
    metrics = {}
    for _ in range(updates):
        state, metrics = dqn.update(state, buffer.sample(state.rng, state.config.batch_size))
    return state, metrics


@pytest.mark.parametrize("change", [{"quantiles": 3}, {"error": "huber"}, {"double": False}])
@pytest.mark.parametrize("steps", [1, 2])
def test_each_losss_gradient_equals_autograds(change, steps):
    """Weighted rows, rewards of several steps, prior and features included."""
    rng, config = np.random.default_rng(1), dataclasses.replace(SMALL, **change)
    features, prior = rng.normal(size=(WIDTH, 2)).astype(np.float32), rule_prior(np.ones(WIDTH), 1.0, ACTIONS, 0.5)
    state = dqn.init(config, WIDTH, ACTIONS, 0, features=features, prior=prior)
    state.target.mul_(1.5)
    batch = filled_buffer().sample(rng, 32)._replace(steps=np.full(32, steps))
    weight = rng.random(32).astype(np.float32)
    leaf = state.parameters.clone().requires_grad_()
    following, metrics, errors = dqn.update_prioritised(state, batch, weight)
    loss, expected_errors = plain_loss(following, leaf, state.shape, batch, weight)
    loss.backward()
    np.testing.assert_allclose(following.passes.gradient.flat, leaf.grad, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(errors, expected_errors.detach().abs(), rtol=1e-4, atol=1e-5)
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-4)


def plain_loss(state, leaf, shape, batch, weight):
    """By definition, of an update's first state; its target is the parameters times 1.5."""
    config, rows = state.config, torch.arange(len(batch.action))
    seen = [
        torch.from_numpy(network_inputs(obs, Seen(state.inputs.mean, state.inputs.scale, INPUT_LIMIT), state.features))
        for obs in (batch.obs, batch.next_obs)
    ]
    unit = state.unit
    priors = [
        torch.from_numpy(state.prior.logits(obs) / np.float32(unit)).unsqueeze(2) for obs in (batch.obs, batch.next_obs)
    ]
    online, after, priced = (
        plain_q_values(flat, shape, inputs).view(len(rows), ACTIONS, -1) + prior
        for flat, inputs, prior in (
            (leaf, seen[0], priors[0]),
            (leaf.detach(), seen[1], priors[1]),
            (1.5 * leaf.detach(), seen[1], priors[1]),
        )
    )
    best = (after if config.double else priced).mean(dim=2).argmax(dim=1)
    steps = torch.from_numpy(batch.steps)
    discount = config.discount**steps * torch.from_numpy(~batch.terminated)
    reward = (torch.from_numpy(batch.reward) - state.rewards.mean / state.fading * (1 - discount)) / unit
    target = (reward.unsqueeze(1) + discount.unsqueeze(1) * priced[rows, best]).float()
    taken = online[rows, torch.from_numpy(batch.action)]
    error = target.mean(dim=1) - taken.mean(dim=1)
    if config.quantiles == 1:
        losses = torch.nn.functional.huber_loss(taken, target, reduction="none")[:, 0]
        losses = losses if config.error == "huber" else 0.5 * error.square()
    else:
        levels = (torch.arange(config.quantiles) + 0.5) / config.quantiles
        gap = target.unsqueeze(1) - taken.unsqueeze(2)
        huber = torch.nn.functional.huber_loss(gap, torch.zeros_like(gap), reduction="none")
        losses = ((levels.view(1, -1, 1) - (gap < 0).float()).abs() * huber).mean(dim=2).sum(dim=1)
    return (losses * torch.from_numpy(weight)).mean(), error


def state_hash(state):
    return weights_hash(dqn.state_to_arrays(state)[0])


def test_updates_equal_a_plain_implementation():
    """Ten updates agree with autograd and Adam written out as in its paper; clipping and changes of unit included."""
    config = dataclasses.replace(SMALL, normaliser_updates=0, gradient_norm_max=0.5)
    buffer, state = filled_buffer(), dqn.init(config, WIDTH, ACTIONS, seed=0)
    online = state.parameters.clone().requires_grad_()
    target, averaged, shape = online.detach().clone(), online.detach().clone(), state.shape
    mean, square, reward_mean, fading, clipped = 0.0, 0.0, 0.0, 0.0, 0
    heads, units = (config.hidden[-1] + 1) * (ACTIONS + 1), set()
    for step in range(10):
        batch = buffer.sample(np.random.default_rng(step), 32)
        following, metrics = dqn.update(state, batch)
        unit = state.unit if step else following.unit
        obs, next_obs = torch.from_numpy(batch.obs), torch.from_numpy(batch.next_obs)
        reward_mean += (batch.reward.mean() - reward_mean) / (step + 1)
        with torch.no_grad():
            chosen = plain_q_values(online, shape, next_obs).argmax(1)
            priced = plain_q_values(target, shape, next_obs)[torch.arange(32), chosen]
            discount = 0.95 * torch.from_numpy(~batch.terminated)
            fading += (1.0 - discount.double().mean().item() - fading) / (step + 1)
            # All that is worth something is worth so much less, what follows an end as well.
            reward = torch.from_numpy(batch.reward) - reward_mean / fading * (1.0 - discount)
            goal = reward / unit + discount * priced
        taken = plain_q_values(online, shape, obs)[torch.arange(32), torch.from_numpy(batch.action)]
        loss = 0.5 * (goal - taken).square().mean()
        (gradient,) = torch.autograd.grad(loss, online)
        norm = gradient.norm()
        clipped += bool(norm > 0.5)
        gradient = gradient / max(1.0, norm / 0.5)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        change = (mean / (1 - 0.9 ** (step + 1))) / ((square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        online = (online - dqn.learning_rate_at(config, step) * change).detach().requires_grad_()
        target = 0.995 * target + 0.005 * online.detach()
        share = 9.0 / (10.0 + step)
        averaged = (1 - share) * averaged + share * online.detach()
        for flat in (online.detach(), target, averaged):
            flat[-heads:] *= unit / following.unit
        state = following
        units.add(state.unit)
        assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-4)
        assert metrics["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
    assert clipped
    assert len(units) > 5
    for found, expected in ((state.parameters, online), (state.target, target), (state.averaged, averaged)):
        np.testing.assert_allclose(found, expected.detach(), rtol=1e-4, atol=1e-5)


def test_equal_seeds_and_batches_give_equal_bits():
    """Two runs end in one hash, another seed in another, and weights did change."""
    first, _ = trained(dqn.init(SMALL, WIDTH, ACTIONS, seed=5), filled_buffer(), 60)
    torch.manual_seed(99)
    second, _ = trained(dqn.init(SMALL, WIDTH, ACTIONS, seed=5), filled_buffer(), 60)
    other, _ = trained(dqn.init(SMALL, WIDTH, ACTIONS, seed=6), filled_buffer(), 60)
    assert state_hash(first) == state_hash(second) != state_hash(other)
    assert state_hash(first) != state_hash(dqn.init(SMALL, WIDTH, ACTIONS, seed=5))


@pytest.mark.parametrize("at", [0, 7, 45])
def test_training_resumes_to_identical_weights(at):
    """Through bytes and back, before and after the normaliser froze: optimiser, draws and means go on."""
    buffer = filled_buffer()
    straight, straight_metrics = trained(dqn.init(SMALL, WIDTH, ACTIONS, seed=5), buffer, 60)
    stopped, _ = trained(dqn.init(SMALL, WIDTH, ACTIONS, seed=5), buffer, at)
    payload = pack(*dqn.state_to_arrays(stopped))
    trained(stopped, buffer, 3)  # what happens to the old state afterwards must not show
    resumed, metrics = trained(dqn.state_from_arrays(*unpack(payload)), buffer, 60 - at)
    assert state_hash(resumed) == state_hash(straight)
    assert dqn.state_to_arrays(resumed)[1] == dqn.state_to_arrays(straight)[1]
    assert metrics == straight_metrics


def test_a_checkpoint_of_something_else_is_refused():
    """The algorithm is named; a network of another size doesn't pass for ours."""
    arrays, meta = dqn.state_to_arrays(dqn.init(SMALL, WIDTH, ACTIONS, seed=0))
    with pytest.raises(ValueError, match="expected a checkpoint of algorithm 'dqn', found 'ppo'"):
        dqn.state_from_arrays(arrays, meta | {"algorithm": "ppo"})
    with pytest.raises(ValueError, match=r"hidden_0\.weight: expected shape"):
        dqn.state_from_arrays(arrays, meta | {"observation_width": 7})


@pytest.mark.parametrize("column", ["obs", "reward", "next_obs"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_bad_numbers_stop_learning_and_leave_the_state_good(column):
    """The error names the update; the state is as before, and training goes on from it."""
    buffer = filled_buffer()
    state, _ = trained(dqn.init(SMALL, WIDTH, ACTIONS, seed=5), buffer, 5)
    before, meta = state_hash(state), dqn.state_to_arrays(state)[1]
    batch = buffer.sample(np.random.default_rng(0), 32)
    getattr(batch, column)[3] = np.nan
    with pytest.raises(LearnerDivergedError, match="update 6 diverged"):
        dqn.update(state, batch)
    assert (state_hash(state), dqn.state_to_arrays(state)[1]) == (before, meta)
    assert trained(state, buffer, 1)[1]["loss"] < 10


def test_an_exploding_loss_stops_learning():
    """Beyond the limit is diverged, though still finite."""
    config = dataclasses.replace(SMALL, loss_limit=0.25)
    batch = filled_buffer().sample(np.random.default_rng(0), 32)
    with pytest.raises(LearnerDivergedError, match=r"limit 0\.25"):
        dqn.update(dqn.init(config, WIDTH, ACTIONS, seed=0), batch)


def test_the_normaliser_is_the_mean_and_deviation_of_what_was_seen():
    """Merged batch by batch it equals NumPy's over all rows; then it is frozen; a constant keeps scale 1."""
    config = dataclasses.replace(SMALL, normaliser_updates=6)
    buffer, state, seen = filled_buffer(), dqn.init(SMALL, WIDTH, ACTIONS, seed=0), []
    state = dataclasses.replace(state, config=config)
    np.testing.assert_array_equal(state.inputs.scale, np.ones(WIDTH))
    for step in range(9):
        batch = buffer.sample(np.random.default_rng(step), 20 + step)
        batch.obs[:, 2] = 7.0
        seen.append(batch.obs)
        state, _ = dqn.update(state, batch)
    rows = np.concatenate(seen[:6]).astype(np.float64)
    expected = rows.std(axis=0)
    expected[2] = 1.0
    np.testing.assert_allclose(state.inputs.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(state.inputs.scale, expected, rtol=1e-12)


def test_the_config_is_json_and_its_ranges_are_checked():
    """A config comes back from JSON equal; a discount of 1.1 is refused."""
    config = dataclasses.replace(SMALL, discount=0.9)
    assert dqn.DQNConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config
    with pytest.raises(ValueError, match=r"discount must lie in \[0, 1\], got 1.1"):
        dqn.DQNConfig(discount=1.1)
    with pytest.raises(ValueError, match="batch_size must be positive"):
        dqn.DQNConfig(batch_size=0)


def test_schedules_follow_steps():
    """Both ramps: first value, middle, last, and after."""
    config = dqn.DQNConfig(learning_rate=1e-2, learning_rate_final=1e-4, learning_rate_steps=100)
    rates = [dqn.learning_rate_at(config, updates) for updates in (0, 50, 100, 1000)]
    assert rates == pytest.approx([1e-2, 5.05e-3, 1e-4, 1e-4])
    explorer = dqn.DQNConfig(epsilon_start=1.0, epsilon_end=0.2, epsilon_steps=10)
    assert [dqn.exploration_at(explorer, step) for step in (0, 5, 20)] == pytest.approx([1.0, 0.6, 0.2])


CHAIN, GAMMA = 6, 0.9


def chain_transitions(*, terminates):
    """Every (state, action) of a chain: left pays .02 at the left end, right pays 1 at the right end.

    At the right end it terminates, or starts again at the left.
    """
    state, action = (grid.ravel() for grid in np.meshgrid(np.arange(CHAIN), [0, 1], indexing="ij"))
    after = np.clip(state + 2 * action - 1, 0, CHAIN - 1)
    ends = (state == CHAIN - 1) & (action == 1)
    after[ends & (not terminates)] = 0
    reward = np.where(ends, 1.0, np.where((state == 0) & (action == 0), 0.02, 0.0)).astype(np.float32)
    one_hot = np.eye(CHAIN, dtype=np.float32)
    return Batch(one_hot[state], action, reward, one_hot[after], ends & terminates)


def exact_values(batch):
    """Value iteration, float64[CHAIN, 2]."""
    values, after = np.zeros((CHAIN, 2)), batch.next_obs.argmax(axis=1)
    for _ in range(1000):
        targets = batch.reward + GAMMA * ~batch.terminated * values.max(axis=1)[after]
        values = targets.reshape(CHAIN, 2)
    return values


@pytest.mark.parametrize(("terminates", "centred"), [(True, False), (True, True), (False, True)])
def test_it_learns_the_values_of_a_chain(terminates, centred):
    """The averaged weights reach value iteration's values and its policy, far from where they began.

    Centred, every value is lower by the same: where nothing ends by what the mean reward for ever is worth.
    """
    config = dqn.DQNConfig(
        hidden=(32, 32),
        discount=GAMMA,
        batch_size=64,
        learning_rate_steps=2500,
        polyak=0.02,
        averaging=5e-3,
        centre_rewards=centred,
    )
    batch, state = chain_transitions(terminates=terminates), dqn.init(config, CHAIN, 2, seed=0)
    buffer = ReplayBuffer(len(batch.action), CHAIN)
    buffer.add(batch)
    obs = np.eye(CHAIN, dtype=np.float32)
    fading = 1.0 - GAMMA * (~batch.terminated).mean()
    expected = exact_values(batch) - (batch.reward.mean() / fading if centred else 0.0)
    before = np.abs(Policy(dqn.policy_arrays(state)).q_values(obs) - expected).max()
    state, metrics = trained(state, buffer, 2500)
    found = Policy(dqn.policy_arrays(state)).q_values(obs)
    error = np.abs(found - expected)
    assert before > 0.3
    assert error.max() < 0.1, error
    assert found.argmax(axis=1).tolist() == [1] * CHAIN
    assert metrics["td_abs"] < 0.05


def batch_of(reward, terminated, n_step, count=8):
    """Rows that are alike, each of a reward summed over n steps at a discount of .9."""
    summed = sum(0.9**k for k in range(n_step)) * reward
    return Batch(
        obs=np.zeros((count, 2), np.float32),
        action=np.zeros(count, np.int64),
        reward=np.full(count, summed, np.float32),
        next_obs=np.zeros((count, 2), np.float32),
        terminated=np.broadcast_to(terminated, count),
        steps=np.full(count, n_step),
    )


@pytest.mark.parametrize("n_step", [1, 2, 3])
@pytest.mark.parametrize("terminated", [False, True])
def test_a_constant_reward_is_centred_to_nothing(n_step, terminated):
    """Where nothing ends and where each row does. The mean is of rewards a step, however many of them a row sums."""
    state = dqn.init(dqn.DQNConfig(hidden=(4,), batch_size=8, n_step=n_step, discount=0.9), 2, 2, seed=0)
    batch = batch_of(1.0, terminated, n_step)
    state, _ = dqn.update(state, batch)
    assert state.rewards.mean == pytest.approx(1.0)
    assert state.unit == pytest.approx(1.0)
    assert _rewards(state, batch)[0] == pytest.approx(np.zeros(8), abs=1e-5)


@pytest.mark.parametrize(("n_step", "centred"), [(1, 0.818182), (2, 1.293277)])
def test_what_ends_and_what_goes_on_are_centred_to_a_mean_of_nothing(n_step, centred):
    """Half of the rows end. One step: .1 of a value is gone where it goes on, all at an end, so .55 in the mean.

    Each value is lower by 1 / .55: going on loses a tenth of it, 1 - .181818; ending all, 1 - 1.818182. Two steps:
    rows are worth 1.9, (.19 + 1) / 2 / 1.9 = .313158 is gone a step, and 1.9 - .19 / .313158 = 1.293277.
    """
    state = dqn.init(dqn.DQNConfig(hidden=(4,), batch_size=8, n_step=n_step, discount=0.9), 2, 2, seed=0)
    batch = batch_of(1.0, np.arange(8) % 2 == 1, n_step)
    state, _ = dqn.update(state, batch)
    assert _rewards(state, batch)[0] == pytest.approx(np.tile([centred, -centred], 4), abs=1e-5)


@pytest.mark.parametrize("constant", [1_000.0, -1_000.0])
def test_a_large_constant_on_the_reward_of_each_episode_changes_nothing(constant):
    """Episodes of one step; the action that fits the observation's sign pays 1 more than the other."""
    rng = np.random.default_rng(0)
    state = dqn.init(dqn.DQNConfig(hidden=(16,), batch_size=64), 2, 2, seed=0)
    for _ in range(300):
        obs, action = rng.normal(size=(64, 2)).astype(np.float32), rng.integers(2, size=64)
        reward = np.float32(constant) + ((obs[:, 0] > 0) == (action == 1))
        state, _ = dqn.update(state, Batch(obs, action, reward.astype(np.float32), obs, np.ones(64, np.bool_)))
    obs = rng.normal(size=(1_000, 2)).astype(np.float32)
    chosen = Policy(dqn.policy_arrays(state)).q_values(obs).argmax(axis=1)
    assert (chosen == (obs[:, 0] > 0)).mean() > 0.95


def test_undiscounted_rewards_are_centred_only_where_nothing_ends():
    """The values of what ends have no common part; once an end was seen, rewards are as they came."""
    state = dqn.init(dqn.DQNConfig(hidden=(4,), batch_size=8, discount=1.0), 2, 2, seed=0)
    for terminated, expected in ((False, 0.0), (True, 1.0), (False, 1.0)):
        state, _ = dqn.update(state, batch_of(1.0, terminated, 1))
        assert _rewards(state, batch_of(1.0, False, 1))[0] == pytest.approx(np.full(8, expected), abs=1e-6)


@pytest.mark.parametrize(("go_on", "stop", "best"), [(1.0, 2.0, 0), (-1.0, -1.5, 1)])
def test_whether_to_end_is_decided_by_what_follows(go_on, stop, best):
    """Going on for ever is worth 20 times its reward; ending is worth its own, whatever their mean is."""
    state = dqn.init(dqn.DQNConfig(hidden=(8,), batch_size=64, learning_rate_steps=1500, polyak=0.02), 2, 2, seed=0)
    action = np.arange(64) % 2
    obs, reward = np.zeros((64, 2), np.float32), np.where(action, stop, go_on).astype(np.float32)
    for _ in range(600):
        state, _ = dqn.update(state, Batch(obs, action, reward, obs, action == 1))
    assert Policy(dqn.policy_arrays(state)).decide(obs[0]) == best
