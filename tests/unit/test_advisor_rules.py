"""The table of rules: each speaks when its facts say so, and is silent beside that."""

import msgspec
import pytest

from headrace.learners.advice.ledger import problem
from headrace.learners.advice.rules import RULES, RuleAdvisor
from headrace.schemas.directives import LearningFacts

SETTINGS = {
    "learning_rate": 1e-3,
    "epsilon_end": 0.05,
    "shaping.term_0": 0.0,
    "shaping.term_1": 0.25,
    "explore_rule.rate_rule": 0.0,
    "explore_rule.hpa": 0.0,
}
WELL = LearningFacts(
    version=4,
    rows=100_000,
    updates=2_000,
    skipped_updates=0,
    settings=SETTINGS,
    exploration=0.05,
    loss=0.1,
    td_abs=0.3,
    td_abs_before=0.3,
    returns=(70.0, 78.0, 84.0),
    floor=77.0,
    rules={"rate_rule": 87.0, "hpa": 77.0},
    terms={"term_0": 1.0, "term_1": -0.5},
    terms_before={"term_0": 1.0, "term_1": -0.5},
    actions=(0.2, 0.2, 0.3, 0.2, 0.1),
)
FOLLOWING = SETTINGS | {"explore_rule.rate_rule": 0.4}

# The rule, what is different from WELL, and what is proposed (None: nothing).
TABLE = [
    ("explode", {"skipped_updates": 1}, ("learning_rate", "", 5e-4)),
    ("explode", {"td_abs": 0.7, "loss": 0.3}, ("learning_rate", "", 5e-4)),
    ("explode", {"td_abs": 0.59, "loss": 0.2}, None),
    ("explode", {"td_abs_before": None, "td_abs": 9.0, "loss": 50.0}, None),
    ("explode", {"skipped_updates": 1, "settings": {"learning_rate": 1e-6}}, None),
    ("sink", {"returns": (90.0, 85.0, 80.0)}, ("learning_rate", "", 5e-4)),
    ("sink", {"returns": (90.0, 85.0, 86.0)}, None),
    ("sink", {"returns": (90.0, 80.0)}, None),
    ("sink", {"returns": (90.0, 89.9, 89.8)}, None),
    ("lost", {"returns": (30.0, 40.0)}, ("explore_rule", "rate_rule", 0.4)),
    ("lost", {"returns": (30.0,)}, None),
    ("lost", {"returns": (30.0, 40.0), "rules": {}}, None),
    ("lost", {"returns": (30.0, 40.0), "settings": FOLLOWING}, None),
    ("outgrown", {"settings": FOLLOWING, "returns": (85.0, 87.5)}, ("explore_rule", "rate_rule", 0.0)),
    ("outgrown", {"settings": FOLLOWING, "returns": (80.0, 86.5)}, None),
    ("stuck", {"actions": (0.95, 0.05, 0.0, 0.0, 0.0)}, ("epsilon_end", "", 0.1)),
    ("stuck", {"actions": (0.95, 0.05, 0.0, 0.0, 0.0), "exploration": 0.5}, None),
    ("stuck", {"actions": ()}, None),
    (
        "fallen",
        {"returns": (84.0, 84.1, 84.0), "terms": {"term_0": 0.99, "term_1": -0.6}},
        ("shaping", "term_1", 0.35),
    ),
    ("fallen", {"terms": {"term_0": 0.99, "term_1": -0.6}}, None),
    ("fallen", {"returns": (84.0, 84.1, 84.0), "terms": {"term_0": 0.95, "term_1": -0.5}}, None),
    ("fallen", {"returns": (84.0, 84.1, 84.0), "terms_before": {}}, None),
]


@pytest.mark.parametrize(("name", "changed", "expected"), TABLE)
def test_each_rule(name, changed, expected):
    (rule,) = [rule for rule in RULES if rule.name == name]
    facts = msgspec.structs.replace(WELL, **changed)
    proposal = rule.proposal(facts)
    if expected is None:
        assert proposal is None
        return
    assert (proposal.change, proposal.target, proposal.value) == pytest.approx(expected)
    assert problem(proposal, facts.settings, ()) is None
    assert rule.words in proposal.reason


def test_every_rule_is_in_the_table():
    assert {name for name, _, expected in TABLE if expected} == {rule.name for rule in RULES}


def test_nothing_is_said_where_all_is_well():
    assert RuleAdvisor().propose(WELL) == []


def test_a_setting_is_named_once_and_the_most_urgent_come_first():
    facts = msgspec.structs.replace(
        WELL,
        skipped_updates=2,
        returns=(60.0, 50.0, 40.0),
        actions=(1.0, 0.0),
    )
    proposals = RuleAdvisor().propose(facts)
    assert [(one.change, one.target) for one in proposals] == [
        ("learning_rate", ""),
        ("explore_rule", "rate_rule"),
        ("epsilon_end", ""),
    ]
    assert proposals[0].reason == "updates are too long: skipped_updates 2; td_abs 0.3; td_abs_before 0.3"
