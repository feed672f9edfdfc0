"""Anybody's environment, from recorded steps to a promoted policy: its id alone makes it the gate's simulator."""

import dataclasses

import gymnasium as gym
import msgspec
import numpy as np
import pytest
from gymnasium import spaces
from stream import SETTINGS, open_stream

from headrace.learners.advice.rules import RuleAdvisor
from headrace.learners.dqn import DQNConfig
from headrace.learners.ppo import PPOConfig
from headrace.learners.spaces import NumericSpaces
from headrace.pipelines.learn.advice import Advising
from headrace.pipelines.record import record
from headrace.pipelines.record.task import derive_task
from headrace.pipelines.tasks import add_task, task_specs
from headrace.schemas.records import ServingPolicy

GATED = dataclasses.replace(SETTINGS, gate="simulator")


class Signs(gym.Env):
    """Thirty steps that each show a sign; an action of that sign earns 1. `stuck`: it raises at the tenth."""

    def __init__(self, *, continuous=False, stuck=False):
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32) if continuous else spaces.Discrete(2)
        self.continuous, self.stuck = continuous, stuck

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.shown(), {}

    def shown(self):
        self.obs = self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)
        return self.obs

    def step(self, action):
        self.steps += 1
        if self.stuck and self.steps == 10:
            raise RuntimeError("the lever is stuck")
        chosen = float(action[0]) if self.continuous else 2.0 * action - 1.0
        reward = float(chosen * self.obs[0] > 0.0)
        return self.shown(), reward, False, self.steps == 30, {}


gym.register("signs/Signs-v0", entry_point=f"{__name__}:Signs")


@pytest.fixture
def stream(tmp_path):
    opened = open_stream(tmp_path)
    yield opened
    opened.close()


def recorded(stream, env, steps, draw):
    """Random play, from the recorder to windows."""

    def clock():
        stream.clock.now_ms += 20
        return stream.clock.now_ms

    env = record(env, task="signs", log=stream.log, clock=clock)
    env.reset(seed=1)
    for _ in range(steps):
        action, env.log_prob = draw(env)
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    stream.advance(stream.clock.now_ms + 60_000)
    env.close()
    stream.ingest()


def uniform(env):
    return env.action_space.sample(), -float(np.log(2.0))


def test_a_better_policy_is_promoted_and_says_by_what(stream):
    recorded(stream, gym.make("signs/Signs-v0"), 4_000, uniform)
    spec = task_specs(stream.log)["signs"]
    assert (spec.environment, spec.environment_kwargs) == (f"{__name__}:signs/Signs-v0", {})
    advised = Advising(RuleAdvisor(), every=1)
    job = stream.learn(settings=GATED, config=DQNConfig(hidden=(16,), learning_rate_steps=500), advising=advised)
    first, *others = stream.store.versions("signs")
    assert first.promoted
    assert first.reason.startswith("candidate beats the floor baseline: +")
    assert first.evaluation.keys() == {"random", "constant", "policy"}
    assert first.evaluation["policy"] > 20 > first.evaluation["random"]
    assert (first.judged.opponent, first.judged.number) == (0, first.version)
    assert all(one.judged.opponent for one in others)
    assert job.learners["signs"].progress.serving
    told = [msgspec.json.decode(value, type=ServingPolicy) for value in stream.policies()]
    assert (told[0].task, told[0].version, told[0].decided_by) == ("signs", first.version, "gate")


def test_continuous_actions_pass_the_same_gate(stream):
    recorded(stream, gym.make("signs/Signs-v0", continuous=True), 6_000, uniform)
    settings = dataclasses.replace(GATED, rollout_rows=500, candidate_rows=2_500, rollout_steps=100)
    config = PPOConfig(hidden=(16,), learning_rate=3e-3, minibatch_size=128)
    stream.learn(settings=settings, config=config)
    versions = stream.store.versions("signs")
    assert versions
    assert {"random", "constant", "policy"} <= versions[-1].evaluation.keys()
    assert versions[-1].evaluation["policy"] > versions[-1].evaluation["random"] + 3
    assert any(one.promoted for one in versions)


def test_a_candidate_whose_trial_breaks_is_refused_and_learning_goes_on(stream):
    env = gym.make("signs/Signs-v0")
    spec = derive_task("signs", NumericSpaces(env.observation_space, env.action_space))
    broken = {"environment": f"{__name__}:signs/Signs-v0", "environment_kwargs": {"stuck": True}}
    add_task(stream.log, msgspec.structs.replace(spec, **broken))
    recorded(stream, env, 4_000, uniform)
    advised = Advising(RuleAdvisor(), every=1)
    job = stream.learn(settings=GATED, config=DQNConfig(hidden=(16,), learning_rate_steps=500), advising=advised)
    versions = stream.store.versions("signs")
    assert len(versions) == 2
    assert {one.promoted for one in versions} == {False}
    assert all(one.reason.endswith("raised RuntimeError: the lever is stuck") for one in versions)
    assert job.learners["signs"].training.counts.rows == 4_000
