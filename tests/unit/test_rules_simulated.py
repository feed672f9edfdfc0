"""Rules found in a simulator: they meet what they lead to, and stop where they earn what the policy does."""

import numpy as np

from headrace.learners.rules import mending
from headrace.learners.rules.distil import best_of, tried_lists
from headrace.learners.rules.document import load_rules, read
from headrace.learners.simulate.gymnasium_simulator import GymnasiumSimulator
from headrace.schemas.records import Bounds, TaskSpec

PENDULUM = TaskSpec("pendulum", ("cos", "sin", "turning"), Bounds((-2.0,), (2.0,)), 10_000)
POLE = TaskSpec("pole", ("position", "speed", "angle", "turning"), ("left", "right"), 10_000)


def test_rules_that_balance_a_pole_are_found_without_any_history():
    rule = read("task pole\nif turning + 9 angle > 0.006 then right\notherwise left", POLE)
    world = GymnasiumSimulator("CartPole-v1", 8, 3)
    found = tried_lists(np.zeros((0, 4), np.float32), load_rules(rule, POLE), world, POLE, 1, 3, 0)
    best = best_of(found)
    assert best.mean_return == world.outcomes(load_rules(rule, POLE)).returns.mean() == 500.0
    assert len(best.rules.rules) == 2
    assert found[0].mean_return < 20.0


def test_rules_of_a_continuous_action_are_found_in_a_simulator(monkeypatch):
    """Who pushes a pendulum against the way it turns brings it to rest; two rules do so, with the policy's numbers."""
    monkeypatch.setattr(mending, "TRIALS", 20)
    rule = read("task pendulum\nif turning > 0 then -2\notherwise 2", PENDULUM)
    world = GymnasiumSimulator("Pendulum-v1", 2, 3)
    found = tried_lists(np.zeros((0, 3), np.float32), load_rules(rule, PENDULUM), world, PENDULUM, 1, 2, 0)
    assert [len(one.rules.rules) for one in found] == [1, 2]
    assert sorted(one.action for one in found[1].rules.rules) == [(-2.0,), (2.0,)]
    own, others = (world.outcomes(load_rules(one, PENDULUM)).returns.mean() for one in (rule, found[1].rules))
    assert found[1].mean_return == others
    assert abs(others - own) < 0.05 * abs(own)
