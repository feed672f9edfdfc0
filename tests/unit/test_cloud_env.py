"""The Gymnasium environments: Gymnasium's own check, seeds, autoreset, and both on one core."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from numpy.testing import assert_array_equal

from headrace.learners.cloud import (
    ENVIRONMENT_ID,
    EPISODE_STEPS,
    REWARD_TERMS,
    CloudEnv,
    CloudVectorEnv,
    draw_traces,
)


def test_gymnasiums_check_passes_without_a_warning():
    check_env(gymnasium.make(ENVIRONMENT_ID).unwrapped)


def test_registered_for_make_and_make_vec():
    assert isinstance(gymnasium.make(ENVIRONMENT_ID).unwrapped, CloudEnv)
    vector = gymnasium.make_vec(ENVIRONMENT_ID, num_envs=3)
    assert isinstance(vector.unwrapped, CloudVectorEnv)
    obs, _ = vector.reset(seed=0)
    assert obs in vector.observation_space
    assert vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


def test_observations_stay_in_the_space():
    env = CloudVectorEnv(64)
    obs, _ = env.reset(seed=1)
    generator = np.random.default_rng(1)
    for _ in range(EPISODE_STEPS):
        assert obs.dtype == np.float32
        assert obs in env.observation_space
        obs, *_ = env.step(generator.integers(5, size=64))


def test_single_equals_the_vectors_first_row():
    single, vector = CloudEnv(), CloudVectorEnv(37)
    obs, _ = single.reset(seed=11)
    rows, _ = vector.reset(seed=11)
    assert_array_equal(obs, rows[0])
    for action in np.random.default_rng(2).integers(5, size=EPISODE_STEPS):
        obs, reward, terminated, truncated, info = single.step(action)
        rows, rewards, _, ends, infos = vector.step(np.full(37, action))
        assert_array_equal(obs, rows[0])
        assert reward == rewards[0]
        assert truncated == ends[0]
        assert not terminated
        assert {name: values[0] for name, values in infos.items()} == info
    assert truncated


def test_every_row_equals_its_trace_alone():
    traces = draw_traces(4, 5)
    vector = CloudVectorEnv(5)
    rows, _ = vector.reset(options={"traces": traces})
    actions = np.random.default_rng(3).integers(5, size=(20, 5))
    course = [rows] + [vector.step(row)[0] for row in actions]
    for index in range(5):
        single = CloudEnv()
        obs, _ = single.reset(options={"traces": traces.take(slice(index, index + 1))})
        alone = [obs] + [single.step(action)[0] for action in actions[:, index]]
        assert_array_equal(np.stack(alone), np.stack(course)[:, index])


def test_autoreset_comes_with_the_next_step():
    env = CloudVectorEnv(2)
    first, _ = env.reset(seed=0)
    for _ in range(EPISODE_STEPS):
        _, _, terminated, truncated, _ = env.step(np.full(2, 2))
    assert truncated.all()
    assert not terminated.any()
    obs, reward, _, truncated, info = env.step(np.full(2, 4))
    assert_array_equal(reward, [0, 0])
    assert_array_equal(info["pending"], [0, 0])
    assert not truncated.any()
    assert not np.array_equal(obs, first)  # fresh traces
    _, _, _, _, info = env.step(np.full(2, 4))
    assert_array_equal(info["pending"], [2, 2])


def test_info_tells_the_reward_apart():
    env = CloudVectorEnv(8)
    env.reset(seed=5)
    for _ in range(10):
        _, reward, _, _, info = env.step(np.full(8, 3))
        assert_array_equal(info["throughput"] + info["latency"] + info["cost"], reward)
    assert set(info) == {*REWARD_TERMS, "ready", "pending", "load_rps", "p95_ms", "queue", "dropped"}
    assert np.all(info["p95_ms"] > 60)


def test_wrong_use_is_told():
    env = CloudVectorEnv(2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match="3 traces for 2"):
        env.reset(options={"traces": draw_traces(0, 3)})
    with pytest.raises(TypeError, match="str"):
        env.reset(options={"traces": "no"})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="from 0 to 4"):
        env.step(np.array([0, 5]))
    with pytest.raises(ValueError, match="at least 1"):
        CloudVectorEnv(0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        CloudEnv().step(np.int64(0))
