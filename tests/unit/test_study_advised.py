"""The advisor in a training: what a watcher sees and steers, the rule in exploration, directives by made-up facts."""

import numpy as np
import pytest

from headrace.learners.cloud import draw_traces
from headrace.learners.cloud.controllers import RULES as RULE_MAKERS
from headrace.learners.cloud.controllers import RateRule
from headrace.learners.cloud.plant import Simulation
from headrace.learners.cloud.simulator import EXPLORED
from headrace.learners.simulate.curve import CurvePoint, Moment
from headrace.learners.simulate.guide import Guide
from headrace.learners.simulate.training import train
from headrace.pipelines.study.advised import Advised
from headrace.pipelines.study.design import ENVIRONMENT, PLAIN_DQN, Cadence

STEPS, POINTS = 7_680, 3


def constant_policy(action):
    """A network that always takes one action."""
    return {
        "hidden_0.weight": np.zeros((32, 2), np.float32),
        "hidden_0.bias": np.zeros(2, np.float32),
        "value.weight": np.zeros((2, 1), np.float32),
        "value.bias": np.zeros(1, np.float32),
        "advantage.weight": np.zeros((2, 5), np.float32),
        "advantage.bias": np.eye(5, dtype=np.float32)[action],
    }


def moment(number, config, action):
    point = CurvePoint(number * 5_120, 50.0, {"loss": 1.0, "td_abs": 1.0}, 64)
    return Moment(point, number * 100, config, lambda: constant_policy(action))


def test_a_watcher_that_changes_nothing_changes_no_bit():
    seen = []

    def watch(now):
        seen.append((now.point.steps, now.config.epsilon_end, sorted(now.arrays())))
        return {}

    alone = train(PLAIN_DQN, ENVIRONMENT, 3, STEPS)
    watched = train(PLAIN_DQN, ENVIRONMENT, 3, STEPS, watch=watch, points=POINTS)
    assert [steps for steps, _, _ in seen] == [2_560, 5_120, 7_680]
    assert all(np.array_equal(alone.arrays[name], watched.arrays[name]) for name in alone.arrays)
    assert [point.episodes for point in watched.curve] == [0, 0, 64]


def test_what_a_watcher_changes_holds_from_there_on():
    found = []

    def watch(now):
        found.append(now.config.explore_share)
        return {"explore_rule": "rate_rule", "explore_share": 1.0, "epsilon_end": 1.0}

    alone = train(PLAIN_DQN, ENVIRONMENT, 3, STEPS, points=POINTS)
    steered = train(PLAIN_DQN, ENVIRONMENT, 3, STEPS, watch=watch, points=POINTS)
    assert found == [0.0, 1.0, 1.0]
    assert steered.curve[-1].mean_return > alone.curve[-1].mean_return + 5.0, "it explored by a rule that is good"


@pytest.mark.parametrize("name", EXPLORED)
def test_a_guide_follows_its_rule_and_begins_anew_with_the_episode(name):
    obs = Simulation(draw_traces(1, 16)).observation()
    random, rng = np.full(16, 9), np.random.default_rng(0)
    guide = Guide(16, RULE_MAKERS)
    first = guide.guided(random, obs, name, 1.0, rng)
    assert set(first.tolist()) <= set(range(5))
    guide.guided(random, obs * 0.5, name, 1.0, rng)
    guide.ended(np.ones(16, np.bool_))
    assert np.array_equal(guide.guided(random, obs, name, 1.0, rng), first)


def test_a_guide_takes_its_share_and_draws_nothing_without_a_rule():
    obs = Simulation(draw_traces(1, 4_096)).observation()
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    guide, random = Guide(4_096, RULE_MAKERS), np.full(4_096, 9)
    assert np.array_equal(guide.guided(random, obs, "", 0.0, rng), random)
    assert rng.bit_generator.state == before
    found = guide.guided(random, obs, "rate_rule", 0.4, rng)
    by_rule = found != 9
    assert by_rule.mean() == pytest.approx(0.4, abs=0.03)
    rule = RateRule()
    rule.reset(4_096)
    assert np.array_equal(found[by_rule], rule.act(obs)[by_rule])


def test_a_policy_below_the_floor_is_told_to_explore_by_a_rule():
    """Two versions that shrink the service to nothing: the advisor names the best rule, and it holds."""
    config = PLAIN_DQN.config
    advised = Advised(Cadence(points=1, every=1))
    assert advised.watch(moment(1, config, 0))["explore_rule"] == ""
    changed = advised.watch(moment(2, config, 0))
    assert changed["explore_rule"] == "rate_rule"
    assert changed["explore_share"] == pytest.approx(0.4)
    assert [one.verdict for one in advised.directives] == ["accepted"]
    assert advised.judged_steps == 2 * 128 * 100


def test_it_is_asked_as_often_as_its_cadence_says():
    config = PLAIN_DQN.config
    advised = Advised(Cadence(points=2, every=2))
    for number in range(1, 4):
        advised.watch(moment(number, config, 0))
    assert advised.directives == []
    assert advised.judged_steps == 128 * 100
    advised.watch(moment(4, config, 0))
    assert advised.directives != []
