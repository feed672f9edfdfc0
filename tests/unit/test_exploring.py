"""How agents explore: as ever without directives; with them as often, but otherwise."""

import msgspec
import numpy as np

from headrace.learners.acting import epsilon_at
from headrace.learners.cloud import Simulation, draw_traces
from headrace.learners.cloud.controllers import RULES, RateRule
from headrace.learners.stream.algorithms import algorithm
from headrace.learners.stream.exploring import Exploration, Explorer
from headrace.schemas.records import Directive

TRACES = draw_traces(5, 2_000)
OBS = Simulation(TRACES).observation()


def directive(number, change, value, verdict="accepted", target=""):
    return Directive(f"t.1.{number}", "t", change, value, "rules:", verdict, "bounds", "because", 0, target=target)


def test_without_directives_nothing_is_drawn():
    """The generator stands where it stood, and the policy is asked with the schedule's epsilon."""
    explorer, asked = Explorer(Exploration(1.0, 0.1, 100), RULES), []
    rng = np.random.default_rng(0)
    explorer.begin(len(OBS))
    explorer.act(lambda epsilon: asked.append(epsilon) or np.zeros(len(OBS), int), OBS, 50, rng)
    assert asked == [epsilon_at(50, 1.0, 0.1, 100)]
    assert rng.random() == np.random.default_rng(0).random()


def test_what_stands_is_followed_and_what_is_undone_is_forgotten():
    explorer = Explorer(Exploration(1.0, 0.1, 100), RULES)
    explorer.apply([directive(1, "epsilon_end", 0.2), directive(2, "epsilon_steps", 50.0)])
    assert explorer.now == Exploration(1.0, 0.2, 50)
    explorer.apply([directive(3, "explore_rule", 0.4, target="rate_rule")])
    assert (explorer.now.rule, explorer.now.share) == ("rate_rule", 0.4)
    for verdict in ("refused", "proposed", "undo"):
        explorer.apply([directive(4, "epsilon_end", 0.3, verdict)])
    explorer.apply([directive(9, "learning_rate", 1e-4), directive(8, "explore_rule", 0.4, target="evil")])
    assert explorer.now == Exploration(1.0, 0.2, 50, "rate_rule", 0.4)
    explorer.apply([msgspec.structs.replace(directive(n, "", 0.0), verdict="undone") for n in (1, 2, 3, 8)])
    assert explorer.now == Exploration(1.0, 0.1, 100)


def test_what_people_state_of_the_schedule_is_followed():
    """By the task's file, and by a record that stands above it; other settings of the learner change nothing."""
    explorer = Explorer(Exploration(1.0, 0.1, 100).stated({"epsilon_end": 0.3, "candidate_rows": 7}), RULES)
    assert explorer.now == Exploration(1.0, 0.3, 100)
    explorer.apply([directive(1, "epsilon_end", 0.2), directive(2, "setting", 0.05, target="epsilon_end")])
    assert explorer.now == Exploration(1.0, 0.05, 100)
    named = {"epsilon_start": 0.5, "epsilon_steps": 40.0, "candidate_rows": 9.0}
    explorer.apply([directive(f"s{name}", "setting", value, target=name) for name, value in named.items()])
    assert explorer.now == Exploration(0.5, 0.05, 40)


def test_a_streamed_dqn_and_agents_mean_the_same_schedule():
    """What is doubled of a learner's epsilon is then what agents had."""
    config = algorithm("dqn").streamed
    assert Exploration() == Exploration(config.epsilon_start, config.epsilon_end, config.epsilon_steps)


def test_a_rule_takes_a_share_of_the_exploration_and_no_more():
    """Of 30 % exploration half by the rule: 15 % of the actions are the rule's, 15 % random, the rest the policy's."""
    explorer = Explorer(Exploration(0.3, 0.3, 0), RULES)
    explorer.apply([directive(1, "explore_rule", 0.5, target="rate_rule")])
    explorer.begin(len(OBS))
    rng, asked = np.random.default_rng(1), []
    marked = np.full(len(OBS), 99)
    actions = explorer.act(lambda epsilon: asked.append(epsilon) or marked, OBS, 10, rng)
    rule = RateRule()
    rule.reset(len(OBS))
    by_rule = actions != 99
    assert (actions[by_rule] == rule.act(OBS)[by_rule]).all()
    assert abs(by_rule.mean() - 0.15) < 0.03
    assert abs(0.15 + 0.85 * asked[0] - 0.3) < 1e-12
