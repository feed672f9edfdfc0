"""Training by simulation: reproducible, truly from what followed, and the features and prior are what they say."""

import dataclasses

import numpy as np
import pytest
import torch

from headrace.learners import dqn, ppo
from headrace.learners.acting import Policy
from headrace.learners.checkpoint import pack, unpack, weights_hash
from headrace.learners.cloud import ENVIRONMENT_ID, Simulation, draw_traces
from headrace.learners.cloud.baselines import evaluate
from headrace.learners.cloud.controllers import RateRule
from headrace.learners.cloud.features import cloud_features, cloud_prior
from headrace.learners.cloud.training_environment import CloudTrainingEnvironment
from headrace.learners.dqn.simulate import DQNTraining
from headrace.learners.ppo.simulate import PPOTraining
from headrace.learners.simulate.training import train
from headrace.learners.simulate.training_environments import GymTrainingEnvironment

SMALL_PPO = PPOTraining(ppo.PPOConfig(hidden=(16,), critic_hidden=(16,), minibatch_size=256), 32, 20)
SMALL_DQN = DQNTraining(dqn.DQNConfig(hidden=(16,), batch_size=64, replay_capacity=4_000), 16, learning_starts=200)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("training", [SMALL_PPO, SMALL_DQN])
def test_training_is_a_function_of_configuration_seed_and_steps(training):
    """To the bit; the curve too. Another seed and another number of steps give other weights."""
    first, again = (train(training, ENVIRONMENT_ID, 7, 2_000) for _ in range(2))
    assert weights_hash(first.arrays) == weights_hash(again.arrays)
    assert first.curve == again.curve
    others = [train(training, ENVIRONMENT_ID, seed, steps) for seed, steps in ((8, 2_000), (7, 2_600))]
    assert len({weights_hash(one.arrays) for one in (first, *others)}) == 3


@pytest.mark.parametrize("change", [{"quantiles": 4}, {"n_step": 3}, {"priority": 0.6}, {"error": "huber"}])
def test_each_option_of_dqn_trains_and_acts(change):
    """And its state goes through bytes."""
    training = dataclasses.replace(SMALL_DQN, config=dataclasses.replace(SMALL_DQN.config, **change))
    trained = train(training, ENVIRONMENT_ID, 1, 1_000)
    policy = Policy(trained.arrays)
    obs = CloudTrainingEnvironment(4, 0).obs
    assert policy.act(obs, 0.0, np.random.default_rng(0)).tolist() == [policy.decide(row) for row in obs]
    state = dqn.init(training.config, 32, 5, 1, features=cloud_features(), prior=cloud_prior())
    restored = dqn.state_from_arrays(*unpack(pack(*dqn.state_to_arrays(state))))
    assert weights_hash(dqn.policy_arrays(restored)) == weights_hash(dqn.policy_arrays(state))


def test_quantile_values_are_their_means_in_torch_and_numpy():
    """What acts greedily in NumPy are the quantiles' means of the torch network."""
    config = dqn.DQNConfig(hidden=(16,), quantiles=5)
    state = dqn.init(config, 32, 5, 1, features=cloud_features(), prior=cloud_prior())
    state = dataclasses.replace(state, parameters=state.parameters + 0.1 * torch.randn(state.shape.size))
    state = dataclasses.replace(state, averaged=state.parameters)
    obs = np.random.default_rng(0).random((50, 32), dtype=np.float32)
    found = Policy(dqn.policy_arrays(state)).q_values(obs)
    assert found.argmax(axis=1).tolist() == dqn.greedy(state, obs).tolist()


def test_an_environment_tells_what_truly_followed():
    """The last step's next observation is the old episode's; the next actions are for the new one's first."""
    made = CloudTrainingEnvironment(3, 5, privileged=True, shadow=True)
    rng = np.random.default_rng(5)
    simulation = Simulation(draw_traces(int(rng.integers(2**63 - 1)), 3))
    for step in range(100):
        np.testing.assert_array_equal(made.obs, simulation.observation())
        action = np.full(3, step % 5)
        expected, reward, _, done = simulation.step(action)
        found = made.step(action)
        np.testing.assert_array_equal(found.next_obs, expected)
        np.testing.assert_allclose(found.reward, reward, rtol=1e-6)
        assert found.truncated.all() == done
        assert not found.terminated.any()
    following = Simulation(draw_traces(int(rng.integers(2**63 - 1)), 3))
    np.testing.assert_array_equal(made.obs, following.observation())


def test_the_critic_alone_sees_the_demands_to_come():
    """Columns 5 and on are the demand just served and the next twelve, in units of 500 requests/s."""
    made = CloudTrainingEnvironment(2, 5, privileged=True)
    traces = draw_traces(int(np.random.default_rng(5).integers(2**63 - 1)), 2)
    for step in range(90):
        expected = traces.arrivals_rps[:, step + 1 : step + 14] / 500.0
        columns = made.privileged[:, 5 : 5 + expected.shape[1]]
        np.testing.assert_allclose(columns, expected, rtol=1e-6)
        made.step(np.full(2, 2))


def test_the_shadow_earns_what_the_rate_rule_earns():
    made = CloudTrainingEnvironment(4, 5, shadow=True)
    traces = draw_traces(int(np.random.default_rng(5).integers(2**63 - 1)), 4)
    total = sum(made.step(np.full(4, 2)).shadow for _ in range(100))
    np.testing.assert_allclose(total / made.return_scale, evaluate(RateRule(), traces), rtol=1e-5)


def test_the_prior_is_the_rate_rule_as_far_as_four_frames_show_it():
    """Alone, greedily, it earns within a point of the rule itself."""
    traces, prior = draw_traces(3, 64), cloud_prior()
    rule = evaluate(RateRule(), traces).mean()
    assert evaluate(lambda obs: prior.logits(obs).argmax(axis=1), traces).mean() == pytest.approx(rule, abs=1.0)


def test_a_short_training_learns_and_beats_its_start():
    """Without the prior: from random actions to most of what the rule earns, in a second or two."""
    training = PPOTraining(
        ppo.PPOConfig(activation="relu", hidden=(32,), critic_hidden=(32,), minibatch_size=512, learning_rate=3e-3),
        environments=128,
        rollout_steps=20,
    )
    trained = train(dataclasses.replace(training, informed=False), ENVIRONMENT_ID, 0, 102_400)
    policy, traces = Policy(trained.arrays), draw_traces(3, 128)
    assert trained.curve[-1].mean_return > 70
    assert evaluate(lambda obs: policy.q_values(obs).argmax(axis=1), traces).mean() > 75


def test_copies_of_an_environment_have_seeds_of_their_own():
    """Equal seeds give equal episodes; the copies in one differ."""
    first, again = (GymTrainingEnvironment("CartPole-v1", 3, 9) for _ in range(2))
    np.testing.assert_array_equal(first.obs, again.obs)
    assert len({row.tobytes() for row in first.obs}) == 3
    for made in (first, again):
        for step in range(60):
            made.step(np.arange(3) * 0 + step % 2)
        made.close()
    np.testing.assert_array_equal(first.obs, again.obs)
