"""The scorecard's measures, by hand: what holds, is covered, stays; what a reader gains; what deletion does."""

import math

import numpy as np
import pytest
from narration_examples import every_facts
from test_explain_samples import version_report

from headrace.learners.explain import scorecard, scorecard_reader
from headrace.learners.explain.regions import Condition, told
from headrace.learners.explain.scorecard import Covered, Explanation, Held
from headrace.learners.explain.scorecard_deletion import Deletion
from headrace.learners.explain.scorecard_reader import States, ToldRule
from headrace.learners.explain.template import TemplateNarrator
from headrace.schemas.grounding import problems
from headrace.schemas.records import Bounds, Fact, Facts, Narrative, Sentence, TaskSpec

ROSE = Fact("reward.change", "reward, per step", 0.5, "per step", 0.3, 0.7, "up")
PART = Fact("term.cost.change", "cost, per step", -0.2, "per step", -0.3, -0.1, "down")
FLAT = Fact("term.speed.change", "speed, per step", 0.01, "per step", -0.1, 0.12, "flat")
ROWS = Fact("rows.total", "transitions", 100, "rows")
FACTS = Facts("valve", "now", (ROSE, PART, FLAT, ROWS))
HEADLINE = Sentence("Mean reward rose by {reward.change}", {"reward.change": "up"})


def explained(*sentences, headline=HEADLINE, told=FACTS, truth=FACTS):
    return Explanation(truth, told, Narrative("test", headline, sentences))


@pytest.mark.parametrize(
    ("sentence", "held"),
    [
        (Sentence("{rows.total} came in."), Held(1, 1)),
        (Sentence("The cost part fell by {term.cost.change@size}.", {"term.cost.change": "down"}), Held(2, 2)),
        # Of a name no number is shown; the claim holds.
        (Sentence("It is not shown of {term.speed.change@name}.", {"term.speed.change": "flat"}), Held(1, 1)),
        (Sentence("About 90 rows came in, {rows.total} of them."), Held(1, 2)),
        (Sentence("{rows.lost} were lost."), Held(0, 1)),
        (Sentence("The cost part is {term.cost.change}.", {"term.cost.change": "up"}), Held(1, 2)),
        # "rose" is another statement, which no claim bears out.
        (Sentence("The cost part rose by {term.cost.change@size}."), Held(1, 2)),
        (Sentence("The cost part rose by {term.cost.change@size}.", {"term.cost.change": "up"}), Held(1, 3)),
        (Sentence("{rows.total} came in because of the weather."), Held(1, 2)),
        (Sentence("Nothing is said here."), Held(0, 0)),
    ],
)
def test_what_holds(sentence, held):
    assert scorecard.grounding(explained(sentence, headline=Sentence("Report on {@subject}"))) == held


def test_a_number_that_was_told_wrong_does_not_hold():
    """The check of reports can't see that: it is told the same."""
    lie = Facts("valve", "now", (ROSE, PART, FLAT, Fact("rows.total", "transitions", 99, "rows")))
    narrative = TemplateNarrator().tell(lie)
    assert problems(narrative, lie) == []
    found = scorecard.grounding(Explanation(FACTS, lie, narrative))
    assert found.said - found.holding == 1
    assert scorecard.grounding(Explanation(FACTS, FACTS, TemplateNarrator().tell(FACTS))).share == 1.0


class Liar:
    """Says of every change the opposite, and rounds up."""

    def tell(self, facts):
        opposite = {"up": "down", "down": "up", "flat": "up"}
        changes = [fact for fact in facts.facts if fact.direction is not None]
        sentences = [
            Sentence(
                f"It went {opposite[fact.direction]} by 10, to {{{fact.fact_id}}}.",
                {fact.fact_id: opposite[fact.direction]},
            )
            for fact in changes
        ]
        return Narrative("liar", Sentence("Report on {@subject}"), tuple(sentences))


@pytest.mark.parametrize("name", every_facts())
def test_a_liar_is_found_out_and_the_template_is_none(name):
    facts = every_facts()[name]
    lies = scorecard.grounding(Explanation(facts, facts, Liar().tell(facts)))
    if any(fact.direction for fact in facts.facts):
        assert lies.share <= 0.5
    assert scorecard.grounding(Explanation(facts, facts, TemplateNarrator().tell(facts))).share == 1.0


def test_what_is_covered():
    """What mattered: the reward and its part; the flat part and the rows are context, no miss and no excess."""
    assert scorecard.coverage(explained()) == Covered(0.5, 1.0)
    everything = Sentence("{term.cost.change} and {term.speed.change} of {rows.total}.")
    assert scorecard.coverage(explained(everything)) == Covered(1.0, 1.0)
    assert scorecard.coverage(explained(Sentence("{no.fact} of it."))) == Covered(0.5, 0.5)
    nothing = explained(headline=Sentence("Report on {@subject}"))
    assert scorecard.coverage(nothing) == Covered(0.0, 0.0)
    assert scorecard.coverage(nothing).f1 == 0.0
    assert Covered(0.5, 1.0).f1 == pytest.approx(2 / 3)


def test_a_fact_whose_number_is_another_is_not_covered():
    lie = Facts(
        "valve", "now", (ROSE, Fact("term.cost.change", "cost", -9.0, "per step", -9.5, -8.5, "down"), FLAT, ROWS)
    )
    sentence = Sentence("The cost part: {term.cost.change}.")
    assert scorecard.coverage(explained(sentence, told=lie)) == Covered(0.5, 0.5)


def test_what_stays():
    one = Narrative("a", HEADLINE, (Sentence("{rows.total} came in."),))
    assert scorecard.stability(one, one) == 1.0
    # One shows the change, claims it, and shows the rows; the other does not show the rows.
    assert scorecard.stability(one, Narrative("b", HEADLINE, ())) == pytest.approx(2 / 3)
    silent = Narrative("c", Sentence("Report on {@subject}"), ())
    assert scorecard.stability(silent, silent) == 1.0
    assert scorecard.stability(one, silent) == 0.0


def test_facts_said_otherwise_are_the_same_facts():
    backwards, renamed = scorecard.rephrased(FACTS)
    assert backwards.facts == FACTS.facts[::-1]
    assert [fact.label for fact in renamed.facts] == [
        "thing 1, per step", "thing 2, per step", "thing 3, per step", "thing 4",
    ]  # fmt: skip
    assert [fact.value for fact in renamed.facts] == [fact.value for fact in FACTS.facts]


def test_shuffled_facts_keep_their_names_and_have_anothers_numbers():
    told = scorecard.shuffled(FACTS, 3)
    assert [(fact.fact_id, fact.label, fact.unit) for fact in told.facts] == [
        (fact.fact_id, fact.label, fact.unit) for fact in FACTS.facts
    ]
    assert sorted(fact.value for fact in told.facts) == sorted(fact.value for fact in FACTS.facts)
    explanation = Explanation(FACTS, told, TemplateNarrator().tell(told))
    assert explanation.true_ids == {"rows.total"}, "it has none to change places with"
    assert problems(explanation.narrative, told) == [], "it reads as well"
    assert scorecard.shuffled(FACTS, 3) == told


def test_shuffled_facts_score_below_the_template():
    facts = version_report().facts
    whole = Explanation(facts, facts, TemplateNarrator().tell(facts))
    for seed in range(4):
        told = scorecard.shuffled(facts, seed)
        control = Explanation(facts, told, TemplateNarrator().tell(told))
        assert scorecard.grounding(control).share < 0.7
        assert scorecard.coverage(control).f1 < scorecard.coverage(whole).f1


def test_shuffled_facts_name_other_actions():
    """What would be done there is what is done here, and the other way round: as few as can be keep their own."""
    told = {fact.fact_id: fact for fact in scorecard.shuffled(DECISION, 0).facts}
    assert told["decision.otherwise"].label == "open, what it would hold for best there, its number"
    assert told["decision.otherwise"].value == 0
    others = [told[one].label.split(",")[0] for one in ("decision.taken", "path.action")]
    assert sorted(others) == ["close", "open"]
    situations = {fact.fact_id: fact for fact in scorecard.shuffled(VERSION, 0).facts}
    assert situations["action.s1.open"].value != 90.0
    assert {fact.label.split(",")[0] for key, fact in situations.items() if "action" in key} == {"open", "close"}


def test_which_part_a_narrator_wrote():
    showing = Sentence("{rows.total} came in.")
    narrative = Narrative("m, template", HEADLINE, (showing, showing, showing, showing, Sentence("A caveat.")))
    assert scorecard.told_by(narrative, 1) == 0.75
    assert scorecard.told_by(narrative, 5) == 0.0
    assert scorecard.told_by(Narrative("m", HEADLINE, ()), 0) == 0.0


NAMES = ("level", "flow_t")
CONDITIONS = [
    (),
    (Condition(0, ">", 0.5),),
    (Condition(0, ">", 0.5), Condition(0, "<=", 2.0), Condition(1, "<=", -1e-05)),
    (Condition(1, ">", 1234.0),),
]


@pytest.mark.parametrize("conditions", CONDITIONS)
def test_conditions_are_read_as_they_are_told(conditions):
    text = told(conditions, NAMES) or scorecard_reader.EVERYWHERE
    assert set(scorecard_reader.read_conditions(text, NAMES)) == set(conditions)


@pytest.mark.parametrize("text", ["speed > 1", "level is high", "level > much", ""])
def test_what_is_no_condition_is_not_read(text):
    assert scorecard_reader.read_conditions(text, NAMES) is None


VALVE = TaskSpec("valve", ("level", "flow"), ("open", "close"), 60_000)
VERSION = Facts(
    "valve",
    "v3",
    (
        Fact("situation.s1", "level \u2264 0.5, decisions there", 60, "decisions"),
        Fact("situation.s2", "level > 0.5, decisions there", 40, "decisions"),
        Fact("action.s1.open", "open, share of decisions where level \u2264 0.5", 90.0, "%"),
        Fact("action.s1.close", "close, share of decisions where level \u2264 0.5", 10.0, "%"),
        Fact("action.s2.open", "open, share of decisions where level > 0.5", 20.0, "%"),
        Fact("action.s2.close", "close, share of decisions where level > 0.5", 80.0, "%"),
    ),
)
FIRST = "Where {situation.s1@name}, it takes {action.s1.open@name} in {action.s1.open@value}."
SECOND = "Where {situation.s2@name}, it takes {action.s2.close@name} in {action.s2.close@value}."
OBS = np.array([[0.1, 0], [0.3, 1], [0.6, 0], [0.9, 1]], np.float32)
OPENS, CLOSES = [1.0, 0.0], [0.0, 1.0]
STATES = States(OBS, np.array([OPENS, OPENS, CLOSES, CLOSES]))
SHOWN = States(OBS[:2], np.array([OPENS, OPENS]))
UNIT = np.ones(2)


def of_version(*texts, facts=VERSION):
    return Explanation(VERSION, facts, Narrative("test", Sentence("Report"), tuple(map(Sentence, texts))))


def read(explanation, spec=VALVE, unit=UNIT, shown=SHOWN, held_out=STATES):
    rules = scorecard_reader.told_rules(explanation, spec, unit)
    found = scorecard_reader.simulated(spec, shown, [], rules, held_out)
    return found.without, found.with_it


def test_rules_are_read_from_what_the_text_shows():
    both = scorecard_reader.told_rules(of_version(FIRST, SECOND), VALVE, UNIT)
    assert [(rule.conditions, rule.target.tolist()) for rule in both] == [
        ((Condition(0, "<=", 0.5),), OPENS),
        ((Condition(0, ">", 0.5),), CLOSES),
    ]
    (one,) = scorecard_reader.told_rules(of_version(SECOND), VALVE, UNIT)
    assert one.target.tolist() == CLOSES
    # Without the situation's name a reader does not know where, without an action not what.
    for text in ("It takes {action.s1.open@name} in {action.s1.open}.", "It was where {situation.s1@name}."):
        assert scorecard_reader.told_rules(of_version(text), VALVE, UNIT) == []


def test_a_reader_gains_by_what_it_is_told():
    """Two decisions are shown, both to open: so it opens everywhere, which is right in half of the states."""
    assert read(of_version()) == (0.5, 0.5)
    assert read(of_version(FIRST)) == (0.5, 0.5)
    assert read(of_version(FIRST, SECOND)) == (0.5, 1.0)


def test_a_reader_loses_by_a_lie():
    """The shares of the first situation have changed places with those of the second."""
    values = [60, 40, 20.0, 80.0, 90.0, 10.0]
    facts = [Fact(one.fact_id, one.label, value, one.unit) for one, value in zip(VERSION.facts, values, strict=True)]
    lie = of_version(
        FIRST.replace("open", "close"), SECOND.replace("close", "open"), facts=Facts("valve", "v3", tuple(facts))
    )
    assert read(lie) == (0.5, 0.0)


def test_a_reader_of_continuous_actions():
    """The range is 4: in the first situation the action is .5 of it, in the second nothing is told."""
    spec = TaskSpec("arm", ("level", "flow"), Bounds((-2.0,), (2.0,)), 60_000)
    facts = Facts("arm", "v1", (VERSION.facts[0], Fact("action.s1.d1", "the action, mean where level \u2264 0.5", 2.0)))
    text = "Where {situation.s1@name}, {action.s1.d1@name} is {action.s1.d1}."
    explanation = Explanation(facts, facts, Narrative("test", Sentence("Report"), (Sentence(text),)))
    shown = States(OBS[:1], np.array([[0.0]]))
    held_out = States(OBS, np.array([[0.5], [0.4], [0.25], [0.0]]))
    without, with_it = read(explanation, spec, np.array([4.0]), shown, held_out)
    assert without == pytest.approx(1 - (0.5 + 0.4 + 0.25 + 0.0) / 4)
    assert with_it == pytest.approx(1 - (0.0 + 0.1 + 0.25 + 0.0) / 4)


def test_fidelity_is_that_of_the_rules_where_they_speak():
    rules = [ToldRule((Condition(0, "<=", 0.7),), np.array(OPENS))]
    assert scorecard_reader.fidelity(rules, STATES, discrete=True) == pytest.approx(2 / 3)
    assert math.isnan(scorecard_reader.fidelity([], STATES, discrete=True))


def opens_at_low_level(obs):
    """Goes by the first feature alone."""
    return np.eye(2)[(obs[:, 0] > 0.5).astype(int)]


def test_deletion_by_hand():
    """At the baseline .4 it opens: without the level the two that closed open, without the flow nothing changes."""
    deletion = Deletion(opens_at_low_level, OBS, np.array([0.4, 0.5]), discrete=True)
    # Actions that stay: all, then half, then half: trapezoids of (1 + .5) / 2 and (.5 + .5) / 2, each half as wide.
    assert deletion.auc([(0,), (1,)]) == pytest.approx((0.75 + 0.5) / 2)
    assert deletion.auc([(1,), (0,)]) == pytest.approx((1.0 + 0.75) / 2)
    assert deletion.auc([(0,)]) == pytest.approx(0.75)
    assert deletion.auc([(0, 1)]) == pytest.approx(0.75)
    either = deletion.random_auc([(0,), (1,)], 1, [7])
    assert 0.75 < either < 1.0
    assert either == deletion.random_auc([(0,), (1,)], 1, [7])


def test_deletion_of_continuous_actions():
    deletion = Deletion(lambda obs: obs[:, :1].astype(float), OBS, np.array([0.5, 0.5]), discrete=False)
    # The action moves by .4, .2, .1 and .4 of the range.
    assert deletion.auc([(0,)]) == pytest.approx((1.0 + (1.0 - 1.1 / 4)) / 2)


DECISION = Facts(
    "valve",
    "plant-7 at step 3 of e1",
    (
        Fact("decision.taken", "open, action taken, its number in the task", 0),
        Fact("attribution.flow", "flow, its part in value against close", 0.5, direction="up"),
        Fact("attribution.level", "level, its part in value against close", 1.5, direction="up"),
        Fact("counterfactual.level", "level, the nearest value at which it would act otherwise", 0.52),
        Fact("decision.otherwise", "close, what it would hold for best there, its number", 1),
        Fact("path.1.level", "level \u2264 0.5, on the tree's path", 0.5),
        Fact("path.2.flow", "flow > 0.2, on the tree's path", 0.2),
        Fact("path.action", "open, where the tree's path ends, its number", 0),
    ),
)
HAD = "Had {counterfactual.level@name} been {counterfactual.level}, it were {decision.otherwise@name}."
PATH = "A tree comes to {path.action@name} by {path.1.level@name} and {path.2.flow@name}."
SPOKE = "For it spoke {attribution.level@name} and {attribution.flow@name}."


def of_decision(*texts):
    return Explanation(DECISION, DECISION, Narrative("test", Sentence("Report"), tuple(map(Sentence, texts))))


def test_what_a_decisions_text_adds_for_a_reader():
    """A state in which it would be otherwise, and a path on which it would be the same."""
    seen = np.array([0.1, 0.9], np.float32)
    other = scorecard_reader.told_example(of_decision(HAD), VALVE, UNIT, seen)
    assert other.obs.tolist() == [pytest.approx([0.52, 0.9])]
    assert other.targets.tolist() == [CLOSES]
    assert scorecard_reader.told_example(of_decision(PATH), VALVE, UNIT, seen) is None
    (rule,) = scorecard_reader.told_rules(of_decision(PATH), VALVE, UNIT)
    assert rule.conditions == (Condition(0, "<=", 0.5), Condition(1, ">", 0.2))
    assert rule.target.tolist() == OPENS
    assert scorecard_reader.told_rules(of_decision(HAD), VALVE, UNIT) == []


def test_which_observations_a_text_cites():
    """In its order, each once; stacked frames of one observation are one."""
    assert scorecard_reader.cited_groups(of_decision(SPOKE, HAD), VALVE) == [(0,), (1,)]
    assert scorecard_reader.cited_groups(of_version(SECOND), VALVE) == [(0,)]
    assert scorecard_reader.cited_groups(of_version(), VALVE) == []
    stacked = TaskSpec("pipe", ("flow_t-1", "level_t-1", "flow_t", "level_t"), ("open", "close"), 60_000)
    facts = Facts("pipe", "v1", (Fact("situation.s1", "level_t-1 > 0.5, decisions there", 9, "decisions"),))
    text = Narrative("test", Sentence("Report"), (Sentence("Where {situation.s1@name}."),))
    assert scorecard_reader.cited_groups(Explanation(facts, facts, text), stacked) == [(1, 3)]
