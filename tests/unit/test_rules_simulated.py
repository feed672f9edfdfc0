"""Rules found in a simulator: they meet what they lead to, and stop where they earn what the policy does."""

import numpy as np

from headrace.learners.rules.distil import best_of, tried_lists
from headrace.learners.rules.document import load_rules, read
from headrace.learners.simulate.gymnasium_simulator import GymnasiumSimulator
from headrace.schemas.records import TaskSpec

POLE = TaskSpec("pole", ("position", "speed", "angle", "turning"), ("left", "right"), 10_000)


def test_rules_that_balance_a_pole_are_found_without_any_history():
    rule = read("task pole\nif turning + 9 angle > 0.006 then right\notherwise left", POLE)
    world = GymnasiumSimulator("CartPole-v1", 8, 3)
    found = tried_lists(np.zeros((0, 4), np.float32), load_rules(rule, POLE), world, POLE, 1, 3, 0)
    best = best_of(found)
    assert best.mean_return == world.outcomes(load_rules(rule, POLE)).returns.mean() == 500.0
    assert len(best.rules.rules) == 2
    assert found[0].mean_return < 20.0
