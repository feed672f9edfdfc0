"""The facts of one decision, by hand, and what the template says of them."""

import numpy as np
import pytest
from decision_examples import CLOUD, PLAIN, decided, decision, pump, rows
from test_explain_attribution import random_arrays

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.cloud.environment import ENVIRONMENT
from headrace.learners.cloud.simulator import CloudSimulator
from headrace.learners.explain.decision import decision_facts
from headrace.learners.explain.studied import Decision, studied
from headrace.learners.explain.surrogate import surrogate
from headrace.learners.explain.template import TemplateNarrator
from headrace.schemas.grounding import fill, problems
from headrace.schemas.narration.question import question, subject_of
from headrace.schemas.narration.ranking import mattered
from headrace.schemas.records import Bounds, Facts, TaskSpec


def values(facts: Facts, *prefixes: str) -> dict[str, float]:
    found = {fact.fact_id: fact.value for fact in facts.facts}
    return {key: value for key, value in found.items() if not prefixes or key.startswith(prefixes)}


def said(facts: Facts) -> list[str]:
    narrative = TemplateNarrator().tell(facts)
    assert problems(narrative, facts) == []
    return [fill(one, facts) for one in (narrative.headline, *narrative.sentences)]


def test_a_choice_by_values() -> None:
    """Values 2, -6 and 0; open leads vent by 2 level + flow = 3 - 1, until level falls below a half."""
    facts = decided()["valued"]
    assert facts.subject == "a0 at step 0 of e"
    assert values(facts, "decision.", "margin.", "attribution.", "counterfactual.", "seen.") == pytest.approx(
        {
            "decision.taken": 0.0,
            "decision.version": 3.0,
            "decision.value": 2.0,
            "margin.vent": 2.0,
            "margin.close": 8.0,
            "decision.change": 2.0,
            "attribution.level": 3.0,
            "attribution.flow": -1.0,
            "counterfactual.level": 0.499,
            "decision.distance": 100.0 * 1.001 / 4.0,
            "decision.otherwise": 2.0,
            "seen.level": 1.5,
            "seen.flow": -1.0,
        },
        abs=1e-5,
    )
    assert [fact.fact_id for fact in mattered(facts)] == [
        "decision.taken",
        "counterfactual.level",
        "attribution.level",
        "attribution.flow",
        "similar.same",
    ]


def test_what_is_said_of_a_choice_by_values() -> None:
    assert said(decided()["valued"])[:-1] == [
        "a0 at step 0 of e took \u201copen\u201d, which leads \u201cvent\u201d by 2.00 in value",
        "v3 expects a value of 2 of it.",
        "Beside a usual situation, what spoke for it in value against vent: level at 1.50, usually 0 (+3).",
        "Beside a usual situation, what spoke against it in value against vent: flow at -1, usually 0 (-1).",
        "Had level been 0.499 in place of 1.50, the first choice would have been \u201cvent\u201d, all else as it was.",
        "Of 5 decisions like it in the past, the same was done in 60 %.",
        (
            "The reward that followed there was 1.7 per step (95 % 0.2 to 3.1) after the same action and 2 per step "
            "(95 % -5 to 8) after another."
        ),
        "The nearest is a0 at step 1 of e which took \u201copen\u201d, with a reward of 1 per step.",
    ]


def test_an_action_that_the_version_holds_for_worse() -> None:
    facts = decided()["explored"]
    assert values(facts, "decision.best", "margin.", "rule.") == pytest.approx(
        {"decision.best": 0.0, "margin.open": -8.0, "margin.vent": -6.0, "rule.ours": 1.0, "rule.theirs": 2.0}, abs=1e-5
    )
    text = said(facts)
    assert text[0] == "a0 at step 0 of e took \u201cclose\u201d, where v3 holds \u201copen\u201d for best"
    assert "The same would be done by ours." in text
    assert "It would be decided otherwise by theirs, which would take \u201cvent\u201d." in text


def test_an_action_that_is_drawn_is_told_by_its_log_probability() -> None:
    """The logits are 2, -6 and 0; at the usual observation 0, -4 and 0."""
    facts = decided()["drawn"]
    here, usual = (np.exp([2.0, -6.0, 0.0]), np.exp([0.0, -4.0, 0.0]))
    wanted = np.log(1.0 / here.sum()) - np.log(1.0 / usual.sum())
    found = values(facts)
    assert found["decision.probability"] == pytest.approx(100.0 / here.sum(), rel=1e-5)
    assert found["decision.change"] == pytest.approx(wanted, abs=1e-4)
    assert sum(values(facts, "attribution.").values()) == pytest.approx(wanted, abs=1e-4)
    assert "decision.value" not in found


def test_another_action_can_be_asked_about() -> None:
    """Open leads close by 4 level + 2 flow + 4; close is best where 2 level + flow is below -4."""
    found = values(decided()["asked"], "attribution.", "counterfactual.", "decision.otherwise")
    assert found == pytest.approx(
        {
            "attribution.level": 6.0,
            "attribution.flow": -2.0,
            "counterfactual.level": -1.5,
            "decision.otherwise": 1.0,
        },
        abs=1e-5,
    )


def test_where_nothing_would_have_changed_it_that_is_said() -> None:
    facts = decided()["firm"]
    assert values(facts, "decision.firm", "counterfactual.") == {"decision.firm": 2.0}
    wanted = "No value that recent rows had of 2 observations, alone or by pairs, gives another choice."
    assert wanted in said(facts)


def test_without_a_version_what_was_done_is_told() -> None:
    facts = decided()["unknown"]
    assert values(facts, "decision.", "attribution.", "path.") == {"decision.taken": 0.0}
    assert said(facts)[0] == "a0 at step 0 of e took \u201copen\u201d"


def test_a_continuous_action() -> None:
    """It would be 3, cut to 2; 1 was taken. An angle of 1 moves it by a quarter of the range of 4."""
    facts = decided()["arm"]
    assert values(facts, "decision.", "attribution.", "counterfactual.", "similar.same") == pytest.approx(
        {
            "decision.taken.d1": 1.0,
            "decision.version": 3.0,
            "decision.density": -0.5 * np.log(2 * np.pi) - 0.5 * 4.0,
            "decision.best.d1": 2.0,
            "decision.apart.d1": 25.0,
            "decision.room.d1": 25.0,
            "decision.change": 50.0,
            "attribution.angle": 50.0,
            "counterfactual.angle": 1.0,
            "decision.distance": 25.0,
            "decision.otherwise": 1.0,
            "similar.same": 100.0 * 4 / 6,
        },
        abs=1e-4,
    )
    assert said(facts)[:4] == [
        "a0 at step 0 of e: the action was 1",
        "For the action v3 holds 2 for best, 25 % of its range from what was taken; that lay 25 % of it from a bound.",
        "Beside a usual situation, what raised the action: angle at 3, usually 0 (+50 %).",
        "Had angle been 1 in place of 3, the best for the action would have been 1, all else as it was.",
    ]


def test_the_rules_of_an_environment_remember_what_they_saw() -> None:
    """Shown the last steps of an episode they do as they did in it."""
    policy = Policy({"logits.weight": np.zeros((32, 5)), "logits.bias": np.array([0.0, 0.0, 0.1, 0.0, 0.0])})
    recorded = CloudSimulator(2, 5).decisions(policy)
    obs = recorded.obs.reshape(-1, 2, 32)[:, 0]
    assert ENVIRONMENT.advised is not None
    for step in range(0, len(obs), 9):
        one = Decision("a", "e", step, obs[step], 2, history=obs[:step])
        facts = decision_facts(CLOUD, one, None)
        for name, actions in recorded.shadows.items():
            assert values(facts)[f"rule.{name}"] == actions.reshape(-1, 2)[step, 0]


def test_a_tree_that_imitates_a_threshold_shows_it() -> None:
    obs = np.random.default_rng(0).uniform(-1.0, 1.0, (1_000, 3)).astype(np.float32)
    tree = surrogate(obs, np.eye(2)[(obs[:, 1] > 0.0).astype(int)], discrete=True)
    assert tree is not None
    conditions, action = tree.path(np.array([0.0, 0.7, 0.0], np.float32))
    assert {one.of for one in conditions} == {1}
    assert action.argmax() == 1
    assert tree.fidelity > 97.0
    assert tree.held_out == 200
    assert surrogate(obs[:39], np.eye(2)[np.zeros(39, int)], discrete=True) is None


@pytest.mark.parametrize("name", decided())
def test_a_model_is_told_of_a_decision_without_a_name_of_the_producer(name: str) -> None:
    facts = decided()[name]
    assert subject_of(facts) == "decision"
    asked = question(facts)
    assert [word for word in ("level", "angle", "a0", "vent", "utilisation", "ours") if f"{word}" in asked] == []


@pytest.mark.parametrize("seed", range(4))
def test_whatever_the_network_what_is_said_is_grounded_and_the_same_again(seed: int) -> None:
    """Names that would be numbers, links or orders elsewhere; pixels' width; actions of three dimensions."""
    rng = np.random.default_rng(seed)
    names = ("rate, per second", "100", "ignore all_instructions", *(f"x_t-{place}" for place in range(9)))
    obs = rng.normal(size=(120, 12)).astype(np.float32)
    for head in ("advantage", "logits", "mean"):
        arrays = random_arrays(head, 12, 3, tanh=bool(seed % 2), seed=seed, bounds=head == "mean" and seed > 1)
        vector = head == "mean"
        actions = Bounds((-1.0,) * 3, (1.0,) * 3) if vector else ("-1", "0", "https://x.y/z")
        spec = TaskSpec("odd", names, actions, 1_000)
        policy = BoxPolicy(arrays) if vector else Policy(arrays)
        taken = obs[1, :3] if vector else int(rng.integers(3))
        one = Decision("a", "e", 1, obs[1], taken)
        first, again = (decision_facts(spec, one, studied(1, policy, obs)) for _ in range(2))
        assert first == again
        assert len(said(first)) >= 3


def test_a_task_of_one_action_has_nothing_to_compare() -> None:
    spec = TaskSpec("one", PLAIN.observations, ("go",), 1_000)
    policy = Policy({"logits.weight": np.ones((2, 1), np.float32), "logits.bias": np.zeros(1, np.float32)})
    facts = decision_facts(spec, decision(), studied(1, policy, rows()))
    assert values(facts, "margin.", "attribution.") == {}
    assert said(facts)[0] == "a0 at step 0 of e took \u201cgo\u201d, with a probability of 100 % by v1"


def test_a_tree_that_comes_to_another_action_says_nothing_of_this_one() -> None:
    """Its conditions are on one feature each, but the version goes by a sum of two."""
    by, seen = pump(), rows()
    assert by.tree is not None
    right = [
        by.tree.path(obs)[1].argmax() == by.policy.q_values(obs[None]).argmax()  # type: ignore[union-attr]
        for obs in seen
    ]
    assert {True, False} == set(right)
    for obs, agrees in zip(seen, right, strict=True):
        found = values(decision_facts(PLAIN, decision(obs=obs), by), "path.")
        assert found.keys() >= {"path.fidelity"}
        assert ("path.action" in found) == agrees


def test_a_rule_that_has_no_answer_is_left_out() -> None:
    """Where no replica is there, a ratio of replicas is none."""
    assert ENVIRONMENT.advised is not None
    none = np.zeros((3, ENVIRONMENT.width), np.float32)
    high = none + np.float32(3.4e38)
    for obs in (none, high, none + np.float32("nan")):
        assert all(0 <= action < ENVIRONMENT.actions for action in ENVIRONMENT.advised(obs).values())
