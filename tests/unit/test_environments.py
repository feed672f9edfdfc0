"""An environment with a simulator is one entry in one table: it is trained in, evaluated, judged in and explained."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.learners.cloud.environment import ENVIRONMENT as CLOUD
from headrace.learners.cloud.training_environment import CloudTrainingEnvironment
from headrace.learners.explain.simulation import simulator
from headrace.learners.judge.trial import floor_trial
from headrace.learners.simulate.environments import ENVIRONMENTS
from headrace.learners.simulate.training import training_for
from headrace.learners.simulate.training_environments import training_environment
from headrace.learners.stream.algorithms import algorithm
from headrace.pipelines.policies.evaluate import evaluated_baseline, task_of
from headrace.schemas.errors import SettingsError

NAME = "test/Another-v0"
ENVIRONMENT = replace(CLOUD, task="another", baselines=("static", "hpa"), preset=lambda _: None)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(ENVIRONMENTS, NAME, __name__)


def test_it_is_trained_in_by_what_suits_any_environment_where_nothing_was_measured():
    assert isinstance(training_environment(NAME, 2, 5), CloudTrainingEnvironment)
    assert training_for("dqn", NAME) == algorithm("dqn").simulated
    assert training_for("dqn", "headrace/CloudService-v0") != algorithm("dqn").simulated
    assert task_of(NAME) == "another"


def test_its_baselines_are_those_that_it_names():
    assert evaluated_baseline("hpa", NAME, 8, 1).shape == (8,)
    with pytest.raises(SettingsError, match="test/Another-v0 has static, hpa"):
        evaluated_baseline("rate_rule", NAME, 8, 1)
    with pytest.raises(SettingsError, match="'hpa' is unknown; CartPole-v1 has random, constant"):
        evaluated_baseline("hpa", "CartPole-v1", 8, 1)


def test_policies_are_judged_in_it_against_its_floor():
    world = simulator(NAME, 16, 5)
    np.testing.assert_array_equal(floor_trial(world).first(16), world.baselines()[world.floor].returns)
