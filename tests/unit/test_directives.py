"""Directives in force: bounds whatever is proposed, a configuration that is a function of what stands, undoing."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.learners.advice.consult import Judging, consult, worse
from headrace.learners.advice.ledger import (
    PROBATION_MAX,
    PROBATION_VERSIONS,
    STANDING_MAX,
    Ledger,
    Standing,
    problem,
)
from headrace.schemas.directives import ACTIONS, EARLIER_MAX, LearningFacts, Proposal, key_of

BASE = {
    "learning_rate": 1e-3,
    "learning_rate_final": 1e-5,
    "epsilon_end": 0.05,
    "epsilon_steps": 384_000,
    "potential": (),
    "explore_rule": "",
    "explore_share": 0.0,
}
TERMS, RULES = ("term_0", "term_1"), ("rate_rule", "hpa")
FACTS = LearningFacts(
    version=2,
    rows=10,
    updates=5,
    skipped_updates=0,
    settings={},
    terms={"term_0": 1.0, "term_1": 2.0},
    rules={"rate_rule": 87.0, "hpa": 77.0},
)


def standing(number, change, value, target="", version=1):
    return Standing(f"t.{version}.{number}", change, target, value, 0.0, version, "rules:")


class Asking:
    """An advisor that proposes the same of all facts."""

    name = "test"

    def __init__(self, *proposals):
        self.propose = lambda _: proposals


@pytest.mark.parametrize(
    ("proposal", "probation", "words"),
    [
        (Proposal("learning_rate", 5e-4), (), None),
        (Proposal("learning_rate", 2e-3), (), None),
        (Proposal("epsilon_steps", 200_000), (), None),
        (Proposal("explore_rule", 0.4, "rate_rule"), (), None),
        (Proposal("shaping", -0.25, "term_1"), (), None),
        (Proposal("hidden", 5), (), "no such action"),
        (Proposal("n_step", 2), (), "no such action"),
        (Proposal("", 5), (), "no such action"),
        (Proposal("shaping", 0.1), (), "no such setting"),
        (Proposal("shaping", 0.1, "term_7"), (), "no such setting"),
        (Proposal("explore_rule", 0.4, "clairvoyant"), (), "no such setting"),
        (Proposal("learning_rate", 5e-4, "term_0"), (), "no such setting"),
        (Proposal("learning_rate", math.nan), (), "finite"),
        (Proposal("learning_rate", math.inf), (), "finite"),
        (Proposal("epsilon_steps", 200_000.5), (), "whole"),
        (Proposal("learning_rate", 1.0), (), "bounds"),
        (Proposal("epsilon_end", 0.0), (), "bounds"),
        (Proposal("learning_rate", 4e-4), (), "too far"),
        (Proposal("learning_rate", 2.1e-3), (), "too far"),
        (Proposal("epsilon_steps", 100_000), (), "too far"),
        (Proposal("shaping", 0.3, "term_0"), (), "too far"),
        (Proposal("learning_rate", 1e-3), (), "already"),
        (Proposal("learning_rate", 5e-4), ("learning_rate",), "being judged"),
        (Proposal("learning_rate", 5e-4), ("a", "b", "c"), "at most 3"),
    ],
)
def test_what_is_refused(proposal, probation, words):
    found = problem(proposal, Ledger(BASE).settings(TERMS, RULES), probation)
    assert found is None if words is None else words in found


VALUES = st.floats() | st.floats(0, 1) | st.sampled_from([5e-4, 2e-3, 0.1, 2.0, 0.0, -0.2, 0.2, 0.4, 192_000.0, -0.25])
settable = st.sampled_from(sorted(Ledger(BASE).settings(TERMS, RULES))).map(lambda key: key.split("."))
sensible = st.builds(lambda key, value: Proposal(key[0], value, *key[1:]), settable, VALUES)
senseless = st.builds(
    Proposal,
    change=st.sampled_from([*ACTIONS, "hidden"]) | st.text(max_size=20),
    value=VALUES,
    target=st.sampled_from(["", *TERMS, *RULES, "term_9"]) | st.text(max_size=20),
    reason=st.text(max_size=400),
)
anything = sensible | senseless


@settings(max_examples=300, deadline=None)
@given(rounds=st.lists(st.lists(anything, max_size=5), max_size=6), returns=st.lists(st.floats(50, 99), min_size=6))
def test_whatever_is_proposed_stays_within_bounds_or_is_refused(rounds, returns):
    """Also over several consultations, with undoing in between; the records tell what happened, and can be written."""
    ledger = Ledger(BASE)
    noise = np.linspace(-1.0, 1.0, 16)
    judging = Judging(lambda v: returns[v % len(returns)] + noise, dict.fromkeys(RULES, noise + 87.0), noise + 77.0)
    for version, proposals in enumerate(rounds, 1):
        before = ledger.settings(TERMS, RULES)
        facts = msgspec.structs.replace(FACTS, version=version)
        ledger, records = consult(
            ledger, facts, Asking(*proposals), task="t", judging=judging, fit=lambda _: (0.5, -0.25)
        )
        now = ledger.settings(TERMS, RULES)
        assert now.keys() == before.keys()
        for key, value in now.items():
            action = ACTIONS[key.partition(".")[0]]
            assert action.low <= value <= action.high or value == Ledger(BASE).settings(TERMS, RULES)[key]
        for record in records:
            assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record
            assert record.reason.isprintable()
            if record.verdict == "accepted":
                action = ACTIONS[record.change]
                assert action.low <= record.value <= action.high
                if action.ratio:
                    assert 1 / action.ratio - 1e-6 <= record.value / record.previous <= action.ratio + 1e-6
                else:
                    assert abs(record.value - record.previous) <= action.step + 1e-6
        assert len(ledger.probation) <= PROBATION_MAX
        assert all(math.isfinite(weight) for weight in ledger.config()["potential"])


def test_the_configuration_is_a_function_of_what_stands():
    ledger = Ledger(BASE, coefficients={"term_0": (1.0, 0.0), "term_1": (0.0, 2.0)})
    for one in (
        standing(1, "learning_rate", 5e-4),
        standing(2, "epsilon_steps", 200_000.0),
        standing(3, "shaping", 0.25, "term_0"),
        standing(4, "shaping", -0.5, "term_1"),
        standing(5, "explore_rule", 0.4, "hpa"),
        standing(6, "explore_rule", 0.8, "rate_rule"),
        standing(7, "learning_rate", 2.5e-4),
    ):
        ledger = ledger.accepted(one)
    assert ledger.config() == BASE | {
        "learning_rate": 2.5e-4,
        "learning_rate_final": pytest.approx(2.5e-6),
        "epsilon_steps": 200_000,
        "potential": (0.25, -1.0),
        "explore_rule": "rate_rule",
        "explore_share": 0.8,
    }
    assert ledger.settings(TERMS, RULES)["explore_rule.hpa"] == 0.0


def test_a_change_that_is_no_action_any_more_changes_nothing():
    """A checkpoint or a log of an older version may name one; it can still be undone."""
    ledger = Ledger(BASE).accepted(standing(1, "priority", 0.2))
    assert ledger.config() == BASE
    assert ledger.without(["t.1.1"]) == Ledger(BASE)


def test_what_is_undone_is_as_if_it_had_never_been():
    """In any order; the configuration comes back to the bit."""
    ledger = Ledger(BASE, coefficients={"term_0": (1.0, 0.1)})
    changes = [
        standing(1, "learning_rate", 5e-4),
        standing(2, "shaping", 0.1, "term_0"),
        standing(3, "learning_rate", 3e-4),
    ]
    for one in changes:
        ledger = ledger.accepted(one)
    assert ledger.without(["t.1.3"]).config()["learning_rate"] == 5e-4
    assert ledger.without(["t.1.1"]).config()["learning_rate"] == 3e-4
    assert ledger.without([one.directive_id for one in changes]).config() == BASE


def test_the_ledger_comes_back_from_json():
    ledger = Ledger(BASE, coefficients={"term_0": (1.0, 0.1)}).accepted(standing(1, "shaping", 0.3, "term_0"))
    again = msgspec.convert(msgspec.json.decode(msgspec.json.encode(ledger)), Ledger)
    assert again.config() == ledger.config()
    assert again.standing == ledger.standing


def test_the_ledger_is_bounded():
    ledger = Ledger(BASE)
    for number in range(STANDING_MAX * 3):
        ledger = ledger.accepted(standing(number, "learning_rate", 1e-3 * (1 + number)))
    assert len(ledger.standing) == STANDING_MAX
    assert ledger.config()["learning_rate"] == pytest.approx(1e-3 * STANDING_MAX * 3)


def test_a_fall_of_the_return_undoes_what_is_on_probation():
    """Paired on the same traces: what fell for sure goes, what wavers stays, what passed its probation stays."""
    noise = np.random.default_rng(1).normal(size=64)
    levels = {2: 80.0, 3: 80.05, 4: 60.0, 5: 60.0}
    jitter = {v: np.random.default_rng(v).normal(size=64) for v in levels}
    judging = Judging(lambda v: levels[v] + noise + jitter[v], {}, noise)
    ledger, records = consult(Ledger(BASE), FACTS, Asking(Proposal("learning_rate", 5e-4)), task="t", judging=judging)
    assert [r.verdict for r in records] == ["accepted"]
    wavering = consult(ledger, msgspec.structs.replace(FACTS, version=3), None, task="t", judging=judging)
    assert wavering[1] == []
    ledger, records = consult(wavering[0], msgspec.structs.replace(FACTS, version=4), None, task="t", judging=judging)
    assert [(r.verdict, r.decided_by, r.directive_id) for r in records] == [("undone", "gate", "t.2.1")]
    assert "fell since: -2" in records[0].reason
    assert ledger.config() == BASE
    aged = wavering[0]
    for _ in range(PROBATION_VERSIONS):
        aged = aged.judged({})
    kept, records = consult(aged, msgspec.structs.replace(FACTS, version=5), None, task="t", judging=judging)
    assert records == []
    assert kept.config()["learning_rate"] == 5e-4


def test_a_rule_that_is_worse_than_the_floor_is_refused():
    floor = np.linspace(70.0, 80.0, 32)
    rules = {"hpa": floor - 5 + np.arange(32) % 2, "rate_rule": floor + 1}
    judging = Judging(lambda _: floor, rules, floor)
    proposals = [Proposal("explore_rule", 0.4, "hpa"), Proposal("explore_rule", 0.4, "rate_rule")]
    _, records = consult(Ledger(BASE), FACTS, Asking(*proposals), task="t", judging=judging)
    assert [(r.verdict, r.decided_by) for r in records] == [("refused", "gate"), ("accepted", "gate")]
    assert "worse than the floor: -4.5" in records[0].reason
    assert worse(floor, floor) is None


def test_without_applying_everything_is_only_proposed():
    ledger, records = consult(
        Ledger(BASE), FACTS, Asking(Proposal("learning_rate", 5e-4), Proposal("epsilon_end", 9)), task="t", apply=False
    )
    assert [(r.verdict, r.decided_by) for r in records] == [("proposed", "settings"), ("refused", "bounds")]
    assert (ledger.standing, ledger.config()) == ((), BASE)


def test_a_term_that_cannot_be_fitted_is_not_shaped():
    _, records = consult(Ledger(BASE), FACTS, Asking(Proposal("shaping", 0.1, "term_0")), task="t")
    assert records[0].verdict == "refused"
    assert "too few rows" in records[0].reason


def test_settings_are_those_that_the_algorithm_has():
    assert Ledger({"learning_rate": 1e-3}).settings(TERMS, RULES) == {"learning_rate": 1e-3}
    assert set(Ledger(BASE).settings(TERMS, RULES)) == {
        *(name for name, action in ACTIONS.items() if not action.target),
        *(key_of("shaping", term) for term in TERMS),
        *(key_of("explore_rule", rule) for rule in RULES),
    }


def told(one):
    return key_of(one.change, one.target), one.value, one.verdict, one.decided_by, one.effect


def test_the_advisor_is_told_what_became_of_its_directives():
    """By hand, on four paired traces: accepted and not judged yet; kept by a rise; undone by a fall; by a person."""
    levels = {2: [80.0, 90.0, 70.0, 60.0], 3: [81.0, 92.0, 71.0, 62.0], 4: [70.0, 80.0, 61.0, 50.0]}
    judging = Judging(lambda v: np.array(levels[v]), {}, np.array(levels[2]))
    seen = []

    def ask(ledger, version, *proposals, **options):
        def propose(facts):
            seen.append(facts.earlier)
            return proposals

        advisor = Asking()
        advisor.propose = propose
        facts = msgspec.structs.replace(FACTS, version=version)
        return consult(ledger, facts, advisor, task="a.b", judging=judging, **options)[0]

    ledger = ask(Ledger(BASE), 2, Proposal("learning_rate", 5e-4), Proposal("no setting", 7.0, "of\nmine"))
    assert seen[0] == ()
    assert [told(one) for one in ledger.earlier] == [
        ("learning_rate", 5e-4, "accepted", "bounds", None),
        ("unknown", 7.0, "refused", "bounds", None),
    ]
    assert msgspec.json.decode(msgspec.json.encode(ledger), type=Ledger).earlier == ledger.earlier
    ledger = ask(ledger, 3)
    effect = seen[1][0]
    assert effect.effect == pytest.approx(1.5)
    # 1, 2, 1, 2: deviation .577 of four, and Student's t of 3 is 3.182.
    assert (effect.low, effect.high) == (pytest.approx(1.5 - 0.9187, abs=1e-3), pytest.approx(1.5 + 0.9187, abs=1e-3))
    assert str(effect) == "learning_rate 0.0005 accepted +1.5 [+0.581, +2.42]"
    fell = ask(ledger, 4)
    assert told(seen[2][0]) == ("learning_rate", 5e-4, "undone", "gate", pytest.approx(-9.75))
    assert fell.config() == BASE
    ask(ledger, 3, undo={"a.b.2.1": ("ann", "too slow")})
    assert told(seen[3][0]) == ("learning_rate", 5e-4, "undone", "person", pytest.approx(1.5)), "no name of a person"
    ask(ledger, 3, undo={"a.b.2.1": ("learn", "a candidate was promoted")})
    assert told(seen[4][0])[3] == "learn"


def test_what_the_advisor_is_told_is_bounded():
    ledger = Ledger(BASE)
    for version in range(1, 3 * EARLIER_MAX):
        facts = msgspec.structs.replace(FACTS, version=version)
        ledger, _ = consult(ledger, facts, Asking(Proposal("epsilon_end", 9.0)), task="t")
    assert [one.version for one in ledger.earlier] == list(range(2 * EARLIER_MAX, 3 * EARLIER_MAX))
