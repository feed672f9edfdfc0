"""Any Gymnasium environment judges policies: on fixed seeds, beside a floor of its own, whatever its actions are."""

import dataclasses
import itertools
import re
import sys

import gymnasium as gym
import msgspec
import numpy as np
import pytest
from gymnasium import spaces

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.explain.simulation import fresh_simulator, simulator
from headrace.learners.judge.gate import judge
from headrace.learners.judge.trial import UNPAIRED, Candidate, as_acting, floor_trial, policy_trial, tried
from headrace.learners.simulate.episodes import UNLIMITED, Episodes
from headrace.learners.simulate.fitting import misfit
from headrace.learners.simulate.gymnasium_simulator import affordable
from headrace.schemas.errors import EnvironmentFailedError
from headrace.schemas.records import Bounds, TaskSpec

RESETS = itertools.count()


class Corridor(gym.Env):
    """Walks to the right for a reward of 1 a step; how far it goes is drawn by the seed. Then what `end` says."""

    def __init__(self, end="terminates", continuous=False):
        self.observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32) if continuous else spaces.Discrete(2, start=5)
        self.end, self.continuous = end, continuous

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 3 + next(RESETS) % 9 if self.end == "unseeded" else int(self.np_random.integers(3, 12))
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.left -= 1
        over = self.left <= 0 and self.end != "never"
        if over and self.end == "raises":
            raise RuntimeError("the wall is wet")
        if over and self.end == "exits":
            sys.exit("bye")
        seen = np.full(1, np.nan if self.end == "blind" else 0.0, np.float32)
        reward = next(RESETS) if self.end == "moody" else float(action[0]) if self.continuous else float(action == 6)
        return seen, np.nan if over and self.end == "nan" else reward, over, False, {}


gym.register("corridor/Corridor-v0", entry_point=Corridor)
CORRIDOR = "corridor/Corridor-v0"


def named(**kwargs):
    return CORRIDOR + msgspec.json.encode(kwargs).decode()


def valued(*weights):
    """A policy of two actions: the second where the weighted observation is above 0, or nearly so."""
    zeros = {"value.weight": np.zeros((len(weights), 1), np.float32), "value.bias": np.zeros(1, np.float32)}
    column = np.array([weights], np.float32).T
    head = {"advantage.weight": np.hstack([-column, column]), "advantage.bias": np.float32([0.0, 0.001])}
    return Policy(zeros | head)


UPRIGHT, IDLE = valued(0.0, 0.0, 1.0, 1.0), valued(0.0, 0.0, 0.0, 0.0)


def cart(candidate, version=1, serving=None):
    name = "CartPole-v1"
    fixed = simulator(name, 16, 5)
    return tried(Candidate(version, candidate, serving), fixed, lambda count, seed: fresh_simulator(name, count, seed))


def test_a_better_policy_beats_the_floor_and_the_worse_one_that_serves():
    done = cart(UPRIGHT)
    assert done.verdict.accepted
    assert done.verdict.opponent == "floor"
    assert done.verdict.reason.startswith("candidate beats the floor baseline: +")
    assert done.evaluation["random"] < 40
    assert done.evaluation["policy"] > 300
    assert done.evaluation["constant"] < 12
    assert cart(UPRIGHT, 4, (1, IDLE)).verdict.accepted


def test_what_serves_and_random_play_are_not_beaten_by_the_like():
    assert not cart(UPRIGHT, 2, (1, UPRIGHT)).verdict.accepted
    assert not cart(IDLE).verdict.accepted


def test_a_verdict_can_be_computed_again_from_its_record():
    done = cart(UPRIGHT, 4, (1, IDLE))
    judged = done.judgement
    assert (judged.opponent, judged.number, judged.seed) == (1, 3, 1_000_000_004)
    world = fresh_simulator("CartPole-v1", judged.traces, judged.seed)
    pairs = zip(policy_trial(world, UPRIGHT), policy_trial(world, IDLE), strict=True)
    again = judge(pairs, "serving", judged.alpha)
    assert dataclasses.astuple(again) == dataclasses.astuple(done.verdict)
    assert again.n == judged.taken


def test_each_candidate_has_traces_of_its_own():
    assert cart(UPRIGHT, 2).judgement.seed != cart(UPRIGHT, 3).judgement.seed
    worlds = [fresh_simulator("CartPole-v1", 16, 1_000_000_000 + number) for number in (2, 3)]
    first, second = (floor_trial(world).first(16) for world in worlds)
    assert (first != second).any()


def test_rows_of_the_traces_are_the_same_whoever_runs_beside_them():
    world = simulator(CORRIDOR, 40, 5)
    right = valued(1.0)
    whole = world.outcomes(right).returns
    assert whole.shape == (40,)
    assert len(set(whole)) > 3
    np.testing.assert_array_equal(world.outcomes(right, slice(10, 20)).returns, whole[10:20])


def test_the_floor_is_the_better_of_random_play_and_the_best_constant():
    world = simulator(CORRIDOR, 64, 5)
    found = {name: done.returns.mean() for name, done in world.baselines().items()}
    assert (world.floor, set(found)) == ("constant", {"random", "constant"})
    np.testing.assert_array_equal(world.floored(slice(3, 9)).returns, world.baselines()["constant"].returns[3:9])
    assert found["random"] == pytest.approx(found["constant"] / 2, rel=0.2)
    assert simulator("CartPole-v1", 16, 5).floor == "random"


def test_continuous_actions_are_drawn_as_agents_draw_them():
    arrays = {"mean.weight": np.zeros((1, 1), np.float32), "log_std": np.float32([0.0])}
    policy = BoxPolicy(arrays | {"mean.bias": np.float32([0.5]), "action.low": [-1.0], "action.high": [1.0]})
    world = simulator(named(continuous=True), 64, 5)
    steps = simulator(CORRIDOR, 64, 5).outcomes(valued(1.0)).returns.sum()
    assert world.outcomes(policy).returns.sum() == pytest.approx(0.5 * steps)
    drawn = np.concatenate(list(policy_trial(world, policy))).sum() / steps
    assert 0.2 < drawn < 0.45  # the mean of a normal around .5, cut to -1 and 1, is .33
    np.testing.assert_array_equal(*(world.outcomes(as_acting(policy)).returns for _ in range(2)))
    assert world.decisions(policy) is None
    assert world.floor == "constant"  # the highest


def test_decisions_are_what_the_policy_saw():
    found = simulator("CartPole-v1", 16, 5).decisions(UPRIGHT)
    assert found.obs.shape[1] == 4
    assert 1_000 < len(found.obs) <= 4_096
    np.testing.assert_array_equal(found.actions, (found.obs[:, 2:].sum(axis=1) > -0.0005).astype(int))


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("raises", "RuntimeError: the wall is wet"),
        ("exits", "SystemExit: bye"),
        ("nan", "the reward nan is no finite number"),
    ],
)
def test_an_environment_that_breaks_is_an_error_of_its_own(end, message):
    with pytest.raises(EnvironmentFailedError, match=message):
        simulator(named(end=end), 16, 5).outcomes(valued(1.0))


def test_an_environment_that_does_not_repeat_is_told_of():
    name = named(end="unseeded")
    fixed = simulator(name, 16, 5)
    assert not fixed.repeats
    assert simulator(CORRIDOR, 16, 5).repeats
    assert simulator(named(end="blind"), 16, 5).repeats  # NaN again is the same
    assert not simulator(named(end="moody"), 16, 5).repeats  # its rewards alone are others
    done = tried(Candidate(1, valued(-1.0), None), fixed, lambda count, seed: fresh_simulator(name, count, seed))
    assert done.verdict.reason.endswith(UNPAIRED)


def test_an_episode_ends_at_its_limit_or_at_ours():
    right = lambda obs: np.ones(len(obs), int)  # noqa: E731
    assert Episodes(named(end="never")).returns(right, [1]) == [UNLIMITED]
    assert Episodes(named(end="never", max_episode_steps=30)).returns(right, [1, 2]).tolist() == [30, 30]


@pytest.mark.parametrize(("limit", "count"), [(30, 128), (1_000, 48), (100_000, 32)])
def test_the_number_of_episodes_depends_on_their_limit_alone(limit, count):
    name = named(end="never", max_episode_steps=limit)
    assert affordable(name, 512) == count
    assert affordable(name, 8) == 8
    assert affordable(name, 2_048) == 4 * count


def test_short_episodes_without_a_limit_are_many():
    """Of 3 to 11 steps; at ten times as many they afford all that are asked for."""
    assert affordable(CORRIDOR, 512) == 512
    assert affordable(named(end="never"), 512) == 48


ARM = Bounds((-2.0,), (2.0,))
PLAIN = TaskSpec("t", ("a", "b", "c", "d"), ("0", "1"), 1_000, environment="CartPole-v1")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"environment": None}, None),
        ({"environment_kwargs": {"max_episode_steps": 9}}, None),
        ({"environment": "CartPol-v1"}, "Did you mean: `CartPole`"),
        ({"environment": "nowhere:CartPole-v1"}, "No module named 'nowhere'"),
        ({"environment_kwargs": {"wheels": 3}}, "unexpected keyword argument 'wheels'"),
        ({"observations": ("a", "b")}, "has 4 observations, the task names 2"),
        ({"actions": ("0", "1", "2")}, "has 2 discrete actions, the task 3 discrete actions"),
        ({"actions": ARM}, "has 2 discrete actions, the task 1 action dimensions"),
        ({"environment": "Pendulum-v1", "observations": ("x", "y", "z"), "actions": ARM}, None),
        (
            {"environment": "Pendulum-v1", "observations": ("x", "y", "z"), "actions": Bounds((-3.0,), (2.0,))},
            r"takes actions from \[-2.0\] to \[2.0\], the task's bounds are wider",
        ),
        ({"environment": "Blackjack-v1"}, "has 45 observations, the task names 4"),
        ({"environment": "headrace/CloudService-v0"}, "has 32 observations, the task names 4"),
    ],
)
def test_an_environment_must_fit_its_task(changes, problem):
    found = misfit(msgspec.structs.replace(PLAIN, **changes))
    assert found is None if problem is None else re.search(problem, found)
