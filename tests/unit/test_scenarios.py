"""Scenarios: bounded variations in training; the service's own workload stays as it is to the bit."""

import json
import math

import gymnasium
import msgspec
import numpy as np
import pytest

from headrace.learners.advice.drawn import DrawnAdvisor
from headrace.learners.advice.rules import RuleAdvisor
from headrace.learners.cloud import ENVIRONMENT_ID
from headrace.learners.cloud.scenarios import bounds, variations
from headrace.learners.cloud.workload import FLASH_LIMIT, Load, draw_traces
from headrace.learners.simulate.environments import environment_of
from headrace.learners.simulate.scenarios import chosen
from headrace.learners.simulate.training_environments import training_environment
from headrace.schemas.errors import EnvironmentFailedError, SettingsError
from headrace.schemas.scenarios import Loss, Scenario, Variations, parse_scenarios, proposed


def scenarios(*found):
    return parse_scenarios(json.dumps([{"share": share, "changes": changes} for share, changes in found]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "JSON array"),
        ("[]", "0 scenarios"),
        (b'[{"share": 0.5, "changes": {"\xff": 1}}]', "JSON array"),
        ('[{"share": 0.5}]', "changes"),
        ('[{"share": 0, "changes": {}}]', "> 0"),
        ('[{"share": 0.5, "changes": {}, "why": "x"}]', "why"),
        ('[{"share": 0.6, "changes": {}}, {"share": 0.6, "changes": {}}]', "take 1.2"),
        (json.dumps([{"share": 0.01, "changes": {}}] * 17), "17 scenarios"),
    ],
)
def test_what_is_no_list_of_scenarios_is_refused(text, words):
    with pytest.raises(SettingsError, match=words):
        parse_scenarios(text)


def test_whose_turn_it_is_by_hand():
    found = scenarios((0.25, {}), (0.5, {}))
    assert chosen(found, np.array([0.0, 0.2, 0.25, 0.7, 0.75, 0.99])).tolist() == [0, 0, 1, 1, 2, 2]
    assert chosen((), np.array([0.0, 0.9])).tolist() == [0, 0]


def test_a_load_of_ones_is_the_services_own():
    """To the bit; and an episode's load moves no other episode."""
    own, same = draw_traces(3, 20), draw_traces(3, 20, loads=[Load()] * 20)
    mixed = draw_traces(3, 20, loads=[Load(level=2.0)] + [Load()] * 19)
    for name in own.__slots__:
        assert np.array_equal(getattr(own, name), getattr(same, name)), name
    assert np.array_equal(own.rate_rps[1:], mixed.rate_rps[1:])
    assert mixed.rate_rps[0] == pytest.approx(2.0 * own.rate_rps[0])


def test_each_factor_by_hand():
    """Without crowds, day and noise what is left is level times regime; crowds come more often, and are as large."""
    own = draw_traces(5, 256).rate_rps
    calm, few, many = (
        draw_traces(5, 256, loads=[Load(day=0.0, noise=0.0, **one)] * 256).rate_rps
        for one in ({"crowd": 0.0}, {}, {"flash": 8.0})
    )
    assert np.median(np.abs(np.diff(np.log(calm), axis=1))) < 0.001 < np.median(np.abs(np.diff(np.log(own), axis=1)))
    assert (many / calm).max() == pytest.approx(1.0 + FLASH_LIMIT)
    share = [(one > calm * (1.0 + 1e-9)).mean() for one in (few, many)]
    assert share[1] > 2.0 * share[0] > 0.0


def test_cloud_service_varies_its_share_of_the_episodes():
    """Half of 4,096 episodes at twice the level: the mean rate is half as high again. The seed says which."""
    plain = training_environment(ENVIRONMENT_ID, 4_096, 7)
    found = scenarios((0.5, {"level": 2.0}))
    varied, again = (training_environment(ENVIRONMENT_ID, 4_096, 7, scenarios=found) for _ in range(2))
    rate = [one.obs[:, 25].mean() for one in (plain, varied)]
    assert rate[1] / rate[0] == pytest.approx(1.5, abs=0.05)
    assert np.array_equal(varied.obs, again.obs)
    assert varied.obs.shape == plain.obs.shape


@pytest.mark.parametrize(
    ("changes", "words"), [({"level": 3.0}, "<= 2"), ({"replicas": 1.0}, "replicas"), ({"crowd": "big"}, "float")]
)
def test_a_load_beyond_its_bounds_is_refused(changes, words):
    with pytest.raises(SettingsError, match=words) as refused:
        training_environment(ENVIRONMENT_ID, 2, 7, scenarios=scenarios((0.5, changes)))
    assert "level, day, noise, flash, crowd" in str(refused.value)


MADE_UP = Variations(
    {"wind": (0.0, 4.0), "mass": (0.5, 2.0)},
    5.0,
    (Loss("wind", 0.0, 1.0), Loss("wind", 4.0, 9.0), Loss("mass", 0.5, 3.0), Loss("mass", 2.0, 7.0)),
)


def test_rules_propose_the_extremes_that_cost_most():
    found = RuleAdvisor().scenarios(MADE_UP)
    assert [one.changes for one in found] == [{"wind": 4.0}, {"mass": 2.0}, {"mass": 0.5}, {"wind": 0.0}]
    assert sum(one.share for one in found) == 0.5


def test_chance_draws_within_the_bounds_and_by_its_seed():
    sets = [DrawnAdvisor({}, seed).scenarios(MADE_UP) for seed in range(50)]
    assert sets[3] == DrawnAdvisor({}, 3).scenarios(MADE_UP) != sets[4]
    for name, (low, high) in MADE_UP.bounds.items():
        values = [one.changes[name] for found in sets for one in found]
        assert len(values) == 200
        assert low <= min(values) < low + 0.1 * (high - low) < high - 0.1 * (high - low) < max(values) <= high


def test_what_is_beyond_the_bounds_is_left_out():
    changes = [{"wind": 4.1}, {"rain": 1.0}, {}, {"wind": math.nan}, {"wind": 3.0, "mass": 2.5}, *[{"wind": 1.0}] * 9]
    assert proposed(changes, MADE_UP.bounds) == (Scenario(0.125, {"wind": 1.0}),) * 4


def test_what_cloud_service_varies():
    """Crowds that come often cost the rate rule more than none do; what is proposed is a load."""
    found = variations()
    losses = {(one.name, one.value): one.loss for one in found.losses}
    assert losses["flash", 8.0] > found.loss > losses["flash", 0.1]
    assert found.bounds == bounds() == environment_of(ENVIRONMENT_ID).variations().bounds
    for one in RuleAdvisor().scenarios(found):
        msgspec.convert(one.changes, Load)


def test_any_environment_is_made_otherwise_in_some_copies():
    """Pendulum with half the gravity: two of four copies have it, and observations are of the same kind."""
    made = training_environment('Pendulum-v1{"g": 9.0}', 4, 7, scenarios=scenarios((0.5, {"g": 5.0})))
    assert [one.unwrapped.g for one in made._environments] == [5.0, 5.0, 9.0, 9.0]
    assert made.step(np.zeros((4, 1), np.float32)).next_obs.shape == (4, 3)
    with pytest.raises(EnvironmentFailedError, match="can't be made"):
        training_environment("Pendulum-v1", 2, 7, scenarios=scenarios((0.5, {"gravity": 5.0})))
    with pytest.raises(SettingsError, match="must have its observations"):
        training_environment("FrozenLake-v1", 2, 7, scenarios=scenarios((0.5, {"map_name": "8x8"})))


def test_a_scenario_is_its_parts():
    assert scenarios((0.5, {"g": 5})) == (Scenario(0.5, {"g": 5}),)
    assert gymnasium.make("Pendulum-v1", g=5).unwrapped.g == 5
