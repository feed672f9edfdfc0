"""Rule lists: text and back, found again where they were made by hand, and acted by exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.learners.acting import load_policy
from headrace.learners.checkpoint import pack
from headrace.learners.explain.attribution import attributed, lead_over
from headrace.learners.explain.regions import Condition
from headrace.learners.explain.simulation import acting
from headrace.learners.rules.distil import examples, fidelity, lists
from headrace.learners.rules.document import (
    Rule,
    RuleList,
    load_rules,
    policy_arrays,
    read,
    rule_network,
    simplest,
    written,
)
from headrace.learners.rules.mending import mended
from headrace.learners.rules.quantities import Quantity, quantities, values
from headrace.learners.rules.search import frontier
from headrace.pipelines.policies.portable import Portable
from headrace.schemas.errors import InvalidRulesError, SettingsError
from headrace.schemas.records import Bounds, TaskSpec

PUMP = TaskSpec("pump", ("level", "flow", "heat"), ("-1", "0", "+1"), 10_000)
ARM = TaskSpec("arm", ("angle", "speed"), Bounds((-2.0, -1e30), (2.0, 1e30)), 10_000)
TEXT = """\
# a note
task pump
policy pump@3
if level > 0.5 and flow <= 2 then +1
if heat > 1.5 then -1
otherwise 0
"""


def rules_of(text=TEXT, spec=PUMP):
    return read(text, spec)


def test_text_is_read_as_it_stands():
    first, second, otherwise = rules_of().rules
    assert first == Rule((Condition(Quantity(0), ">", 0.5), Condition(Quantity(1), "<=", 2.0)), 2)
    assert second == Rule((Condition(Quantity(2), ">", 1.5),), 0)
    assert otherwise == Rule((), 1)
    assert rules_of().policy == 3
    assert written(rules_of(), PUMP, ["a note"]) == TEXT


def test_a_condition_may_be_about_one_observation_and_so_many_times_another():
    text = "task pump\nif level - 2.5 heat <= 2 and flow + 1 flow > 3 then +1\notherwise 0\n"
    rules = rules_of(text)
    assert rules.rules[0].conditions[0] == Condition(Quantity(0, -2.5, 2), "<=", 2.0)
    assert written(rules, PUMP) == text
    policy = load_policy(pack(policy_arrays(rules, PUMP)))
    obs = np.float32([[3, 1.6, 0.4], [3.1, 1.6, 0.4], [3, 1.5, 0.4]])
    assert acting(policy)(obs).tolist() == [policy.decide(one) for one in obs] == [2, 1, 1]


@pytest.mark.parametrize(
    ("obs", "action"),
    [
        ((0.6, 2.0, 0.0), 2),
        ((0.5, 2.0, 0.0), 1),  # not beyond the bound
        ((0.6, 2.1, 1.6), 0),
        ((0.6, 1.0, 9.0), 2),  # the first rule that holds
        ((np.nan, 1.0, 9.0), 1),  # in what is no number no rule holds
    ],
)
def test_the_first_rule_that_holds_decides_with_certainty(obs, action):
    policy = load_policy(pack(policy_arrays(rules_of(), PUMP)))
    seen = np.float32([obs])
    rng = np.random.default_rng(0)
    assert policy.softmax  # agents draw, and draws are certain
    assert policy.decide(seen[0]) == acting(policy)(seen)[0] == action
    assert policy.sample_one(seen[0], rng) == (action, pytest.approx(0.0, abs=1e-9))
    assert policy.sample(np.repeat(seen, 1_000, axis=0), rng)[0].tolist() == [action] * 1_000


def test_what_turned_a_rule_is_what_an_action_is_laid_to():
    """From a baseline where `otherwise` decides; two conditions that turn at different places share nothing."""
    policy = load_rules(rules_of(), PUMP)
    baseline = np.array([0.0, 3.0, 1.0])
    found = attributed(policy, baseline, np.float32([0.6, 1.9, 1.0]), lead_over(2, 1))
    assert found.tolist() == [0.0, 60.0, 0.0] or found.tolist() == [60.0, 0.0, 0.0]
    assert attributed(policy, baseline, np.float32([0.0, 3.0, 1.6]), lead_over(0, 1)).tolist() == [0.0, 0.0, 60.0]


def test_continuous_rules_give_their_numbers_within_the_bounds():
    policy = load_policy(
        pack(policy_arrays(rules_of("task arm\nif angle > 0 then -2, 0.25\notherwise 1, 7", ARM), ARM))
    )
    obs = np.float32([[1, 0], [0, 0]])
    assert policy.act(obs).tolist() == [[-2.0, 0.25], [1.0, 7.0]]
    assert policy.decide(obs[0]).tolist() == [-2.0, 0.25]
    drawn, log_prob = policy.sample(np.repeat(obs, 100, axis=0), np.random.default_rng(0))
    assert np.abs(drawn - np.repeat(policy.act(obs), 100, axis=0)).max() < 0.05
    assert np.isfinite(log_prob).all()


floats = st.floats(-(2.0**60), 2.0**60, width=32)


@st.composite
def rule_lists(draw, spec):
    def conditions():
        places = st.integers(0, spec.width - 1)
        pairs = st.tuples(places, floats.filter(bool), places).map(lambda given: Quantity(*given))
        sums = places.map(Quantity) | pairs
        found = draw(st.lists(st.builds(Condition, sums, st.sampled_from(["<=", ">"]), floats), max_size=3))
        return tuple({one.of: one for one in found}.values())  # both sides might contradict each other

    def action():
        if spec.discrete:
            return draw(st.integers(0, 2))
        return (draw(st.floats(-2, 2, width=32)), draw(floats))

    bodies = [body for body in (conditions() for _ in range(draw(st.integers(0, 6)))) if body]
    rules = (*(Rule(body, action()) for body in bodies), Rule((), action()))
    return RuleList(spec.task, rules, draw(st.none() | st.integers(1, 999)))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([PUMP, ARM]))
def test_what_is_written_is_read_again_and_acts_alike(data, spec):
    rules = data.draw(rule_lists(spec))
    again = read(written(rules, spec), spec)
    assert again.policy == rules.policy
    for name, array in policy_arrays(rules, spec).items():
        assert np.array_equal(array, policy_arrays(again, spec)[name]), name


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("level > 0.5", "levle > 0.5", "line 4: 'levle' is no observation of pump; did you mean level"),
        ("level > 0.5", "pressure > 0.5", "it has level, flow, heat"),
        ("level > 0.5", "level >= 0.5", "is no condition: write NAME > NUMBER or NAME"),
        ("level > 0.5", "level > high", "'high' is no number"),
        ("level > 0.5", "level > nan", "'nan' is no number"),
        ("then +1", "then +2", r"line 4: '\+2' is no action of pump"),
        ("then +1", "+1", "write a rule as `if NAME > NUMBER"),
        ("and flow", "or flow", "conditions have `and` between them"),
        ("flow <= 2", "level <= 0.5", "line 4: no level is both > 0.5 and <= 0.5"),
        ("otherwise 0", "", "the last line must say what is done where no rule holds"),
        ("if heat", "otherwise 0\nif heat", "line 6: nothing may follow `otherwise`"),
        ("if heat", "when heat", "a line begins with task, policy, if, otherwise or #, not 'when'"),
        ("task pump", "task valve", "line 2: the rules are read for task pump"),
        ("pump@3", "3", "write the policy as pump@VERSION"),
        ("if heat > 1.5", "if heat > 1.5 heat <= 2", "conditions have `and` between them, and `then ACTION`"),
        ("if heat", 300 * "if flow > 1 then 0\n" + "if heat", "line 260: a list has 256 rules at most"),
        ("if heat", f"if {65 * 'flow > 1 and '}heat", "line 5: a rule has 64 conditions at most"),
    ],
)
def test_a_file_that_was_edited_wrongly_is_told_by_line(before, after, message):
    with pytest.raises(InvalidRulesError, match=message):
        rules_of(TEXT.replace(before, after))


def test_names_may_be_words_of_a_rule():
    """An observation may be called `then`, an action `and`: what was written is read again."""
    spec = TaskSpec("odd", ("then", "and", "+", "-"), ("if", "then", "otherwise"), 10_000)
    conditions = [Condition(Quantity(place, 0.5 * place + 1, 3 - place), ">", 1.0) for place in range(4)]
    rules = RuleList("odd", (Rule(tuple(conditions), 1), Rule(tuple(conditions[::-1]), 0), Rule((), 2)))
    assert read(written(rules, spec), spec) == rules


def test_conditions_are_told_in_the_simplest_way():
    limits = ((">", 0.5), (">", 0.2), ("<=", 0.4))
    low, lower, high = (Condition(Quantity(0), *limit) for limit in limits)
    assert simplest((lower, low)) == (low,)
    assert simplest((lower, high)) == (lower, high)
    assert simplest((low, high)) is None
    assert simplest(()) == ()


def test_continuous_actions_are_checked():
    with pytest.raises(InvalidRulesError, match="has 2 numbers, not 1"):
        rules_of("task arm\notherwise 1", ARM)
    with pytest.raises(InvalidRulesError, match="3 lies outside of -2 to 2"):
        rules_of("task arm\notherwise 3, 0", ARM)


def test_arrays_that_do_not_fit_do_not_act():
    arrays = policy_arrays(rules_of(), PUMP)
    with pytest.raises(ValueError, match="do not fit"):
        load_policy(pack(arrays | {"rules.high": np.zeros((2, 3), np.float32)}))
    with pytest.raises(ValueError, match="do not fit"):
        load_policy(pack(arrays | {"rules.sums": np.ones((3, 3), np.float32)}))
    with pytest.raises(ValueError, match="must not act"):
        load_policy(pack(arrays | {"rules.low": np.full((3, 3), np.nan, np.float32)}))


def test_rules_have_no_layers_to_export():
    with pytest.raises(SettingsError, match="headrace rules show"):
        Portable.of(load_rules(rules_of(), PUMP))


def a_policy(rules, spec):
    """What rules do, and 2,000 observations on which it is seen."""
    obs = np.random.default_rng(1).uniform(-3, 3, (2_000, spec.width)).astype(np.float32)
    return load_rules(rules_of(rules, spec), spec), obs


HAND_MADE = [
    "task pump\nif level > 0.5 then +1\notherwise 0",
    TEXT,
    "task pump\nif level > 1 and flow > 0 and heat > 0 then +1\nif flow <= -1 then -1\notherwise 0",
]


@pytest.mark.parametrize("text", HAND_MADE)
def test_rules_made_by_hand_are_found_again(text):
    """As many rules, and the same decisions but for what lies between two thresholds that were tried."""
    policy, obs = a_policy(text, PUMP)
    found = lists(examples(obs, policy, np.zeros(0), 0), PUMP, 1, 7, 0)[-1]
    assert len(found.rules) == len(rules_of(text).rules)
    decides = rule_network(found, PUMP).outputs_of(obs).argmax(axis=1)
    assert fidelity(acting(policy)(obs), decides) > 0.97
    known = {limit.of for one in rules_of(text).rules for limit in one.conditions}
    assert {limit.of for one in found.rules for limit in one.conditions} == known


def test_two_observations_are_summed_where_that_tells_more_than_either():
    """The direction is that of the costs; a pair that tells nothing, and one that is the same twice, is left out."""
    obs = np.random.default_rng(0).normal(size=(4_000, 3)).astype(np.float32) * np.float32([1, 10, 1])
    costs = np.eye(2)[(obs[:, 0] - 0.08 * obs[:, 1] > 0.3).astype(int)]
    *alone, pair = quantities(obs, costs)
    assert alone == [Quantity(0), Quantity(1), Quantity(2)]
    assert (pair.feature, pair.other) == (0, 1)
    assert pair.times == pytest.approx(-0.08, abs=0.006)
    assert values(obs[:1], [pair])[0, 0] == obs[0, 0] + np.float32(pair.times) * obs[0, 1]


def test_a_slanting_boundary_is_one_condition():
    policy, _ = a_policy("task pump\nif level - 0.5 flow > 1 then +1\notherwise 0", PUMP)
    obs = np.random.default_rng(0).normal(size=(2_000, 3)).astype(np.float32)
    found = lists(examples(obs, policy, np.zeros(0), 0), PUMP, 1, 2, 0)[-1]
    assert (0, 1) in {(one.of.feature, one.of.other) for one in found.rules[0].conditions if one.of.times}
    assert fidelity(acting(policy)(obs), acting(load_rules(found, PUMP))(obs)) > 0.97


def test_few_values_are_told_apart_exactly():
    """Of whole numbers the threshold lies between them, in the fewest digits."""
    obs = np.random.default_rng(0).integers(0, 6, (500, 3)).astype(np.float32)
    costs = 1.0 - np.eye(2)[(obs[:, 1] > 3.0).astype(int)]
    *_, found = frontier(obs, costs, 7, 0)
    ((only,), action), otherwise = found.rules
    assert found.cost == 0.0
    assert only.of == 1
    assert only.threshold in {3.0, 3.5, 4.0}
    assert {action, otherwise.action} == {0, 1}


def test_rows_that_cost_nothing_bend_no_rule():
    """Where both actions are worth the same, what the policy happens to prefer is not followed."""
    obs = np.random.default_rng(0).uniform(-1, 1, (2_000, 2)).astype(np.float32)
    costs = np.where(obs[:, :1] > 0, 1.0 - np.eye(2)[(obs[:, 1] > 0).astype(int)], 0.0)
    costs += 1e-7 * np.random.default_rng(1).random(costs.shape)
    *_, found = frontier(obs, costs, 7, 0)
    assert len(found.rules) == 2


def test_a_list_of_more_rules_costs_less():
    policy, obs = a_policy(HAND_MADE[2], PUMP)
    given_costs = examples(obs, policy, np.zeros(0), 0)
    costs = [one.cost for one in frontier(obs, given_costs.costs, 7, 0)]
    assert costs == sorted(costs, reverse=True)
    assert len(costs) == 3


def test_without_a_policy_what_was_done_is_followed():
    obs = np.random.default_rng(0).uniform(-1, 1, (1_000, 3)).astype(np.float32)
    taken = np.where(obs[:, 2] > 0.25, 2, 0).astype(np.int32)
    found = lists(examples(obs, None, taken, 0), PUMP, None, 7, 0)[-1]
    assert len(found.rules) == 2
    assert fidelity(taken, acting(load_rules(found, PUMP))(obs)) > 0.97


def test_continuous_actions_become_the_means_of_parts():
    """Of a step function its steps; of a slope so many parts that most of its variance is explained."""
    policy, obs = a_policy("task arm\nif angle > 0.5 then -2, 0.25\nif speed <= -1 then 0, 3\notherwise 1, 7", ARM)
    found = lists(examples(obs, policy, np.zeros(0), 0), ARM, 1, 7, 0)[-1]
    assert {one.action for one in found.rules} == {(-2.0, 0.25), (0.0, 3.0), (1.0, 7.0)} or len(found.rules) == 3
    slope = np.stack([np.clip(obs[:, 0], -2, 2), np.zeros(len(obs))], axis=1).astype(np.float32)
    *_, steps = lists(examples(obs[::4], None, slope[::4], 0), ARM, None, 5, 0)
    assert fidelity(slope, load_rules(steps, ARM).act(obs)) > 0.9


def test_rules_are_mended_by_what_they_earn():
    """From a wrong action and thresholds that are off, in moves each of which earns more."""
    right, obs = a_policy("task pump\nif level > 0.5 and flow <= 2 then +1\notherwise 0", PUMP)
    wanted = acting(right)(obs)
    wrong = rules_of("task pump\nif level > 0.8 and flow <= 1.5 and heat <= 2.5 then -1\notherwise 0")
    found, earned = mended(wrong, PUMP, obs, lambda one: fidelity(wanted, acting(load_rules(one, PUMP))(obs)), 1.0)
    assert earned > 0.99
    assert [one.action for one in found.rules] == [2, 1]
    assert {one[:2] for one in found.rules[0].conditions} == {(Quantity(0), ">"), (Quantity(1), "<=")}


def test_fidelity_is_agreement_or_explained_variance():
    assert fidelity(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])) == 0.75
    wanted = np.float32([[0], [2]])
    assert fidelity(wanted, wanted) == 1.0
    assert fidelity(wanted, np.float32([[1], [1]])) == 0.0
