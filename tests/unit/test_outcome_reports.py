"""Reports of a task with outcomes tell those first, beside what served before and a known rule; words are checked."""

import re

import msgspec
import numpy as np
import pytest
from outcome_examples import BETTER, SPEC, interval_report, totals, version_facts_of, version_report, world
from test_explain_samples import START, version

from headrace.learners import dqn
from headrace.learners.acting import Policy
from headrace.learners.cloud import EPISODE_STEPS, Simulation, draw_traces
from headrace.learners.explain.outcome_facts import outcome_differences, outcome_levels
from headrace.learners.explain.simulation import Simulator, acting, fresh_simulator, simulator, task_simulator
from headrace.learners.explain.template import TemplateNarrator
from headrace.learners.judge.trial import Candidate, tried
from headrace.pipelines.policies.card import outcomes_told
from headrace.pipelines.report.compose import subject
from headrace.pipelines.report.render import direction, outcome_table, sentences, title, to_html
from headrace.pipelines.report.sections import sections
from headrace.pipelines.report.wording import explained
from headrace.schemas.grounding import check, direction_of, fill, problems
from headrace.schemas.narration.kinds import kind_of
from headrace.schemas.narration.question import question
from headrace.schemas.outcomes import measures, tallied
from headrace.schemas.records import Fact, Facts, Narrative, Outcome, PolicyVersion, Sentence, Source, TaskSpec


def test_what_cloud_declares_is_what_its_plant_did() -> None:
    """Computed from rows alone, the exact ones are equal to the plant's own numbers."""
    traces = draw_traces(3, 8)
    simulation, rng = Simulation(traces), np.random.default_rng(0)
    obs, tallies = simulation.observation(), np.zeros((8, 2 * len(SPEC.outcomes)))
    slow, replicas, dropped = [], [], []
    for _ in range(EPISODE_STEPS):
        action, before = rng.integers(0, 5, 8), obs
        obs, _, terms, _ = simulation.step(action)
        tallies += tallied(measures(SPEC), before, action, obs, terms)
        slow.append(simulation.latency_s > 0.25)
        replicas.append(simulation.ready + simulation.pending.sum(axis=0))
        dropped.append(simulation.dropped)
    found = [one.told(*tallies[:, 2 * k : 2 * k + 2].sum(axis=0), 8) for k, one in enumerate(measures(SPEC))]
    expected = [100 * np.mean(slow), np.mean(replicas), 100 * np.mean(dropped)]
    np.testing.assert_allclose(found[:3], expected, rtol=1e-5)  # reward terms are float32
    assert found[3] == pytest.approx(250 * np.mean(simulation._frames[:, 4:-1, 3]), rel=1e-5)


def test_an_outcome_of_a_rollout_is_that_of_its_rows() -> None:
    done = world().outcomes(BETTER)
    (level, *_) = outcome_levels(SPEC, done, {})
    assert level.value == pytest.approx(100 * done.tallies[:, 0].sum() / done.tallies[:, 1].sum())
    assert level.low is not None
    assert level.low < level.value
    rows = slice(3, 7)
    np.testing.assert_array_equal(world().outcomes(BETTER, rows).tallies, done.tallies[rows])
    assert acting(BETTER) is not None


def test_any_gymnasium_environment_is_measured() -> None:
    """Episodes of unequal length: the mean is over all steps; what is read from reward terms is not known."""
    declared = (
        Outcome("right", "%", "higher", Source(action="1"), "mean", scale=100.0),
        Outcome("steps", "", "higher", Source(observation="x0"), "sum_per_episode", scale=1e-30, offset=1.0),
        Outcome("cost", "", "lower", Source(reward_term="cost"), "mean"),
    )
    names = ("x0", "x1", "x2", "x3")
    spec = TaskSpec(
        "pole", names, ("0", "1"), 1000, reward_terms=("cost",), environment="CartPole-v1", outcomes=declared
    )
    there = task_simulator(spec, 16, 5)
    assert there is not None
    done = there.baselines()["random"]
    found = {fact.fact_id: fact for fact in outcome_levels(spec, done, {})}
    assert found.keys() == {"outcome.right", "outcome.steps"}
    assert found["outcome.steps"].value == pytest.approx(done.returns.mean())
    right = done.tallies[:, 0].sum() / done.returns.sum()
    assert found["outcome.right"].value == pytest.approx(right)
    assert not [*outcome_differences(spec, done, {})]


def test_the_gate_measures_outcomes_on_the_traces_that_it_needed() -> None:
    ready = measures(SPEC)
    fixed = simulator(SPEC.environment, 16, 5)
    assert fixed is not None
    arrays = dqn.policy_arrays(dqn.init(dqn.DQNConfig(hidden=(8,)), SPEC.width, SPEC.action_count, seed=0))
    candidate = Candidate(1, Policy(arrays), None)

    def fresh(count: int, seed: int) -> Simulator:
        return fresh_simulator(SPEC.environment or "", count, seed, ready)

    done = tried(candidate, fixed, fresh, outcomes=ready)
    assert done.outcomes.keys() == {"policy", "floor"}
    world = fresh(done.judgement.traces, done.judgement.seed)
    tallies = world.floored(slice(0, done.verdict.n)).tallies
    assert done.outcomes["floor"]["average size"] == pytest.approx(tallies[:, 2].sum() / tallies[:, 3].sum())
    assert tried(candidate, fixed, fresh).outcomes == {}


def test_a_version_without_outcomes_is_stored_as_it_was() -> None:
    plain = version(1)
    assert b"outcomes" not in msgspec.json.encode(plain)
    told = msgspec.structs.replace(plain, outcomes={"policy": {"average size": 3.0}})
    assert msgspec.json.decode(msgspec.json.encode(told), type=PolicyVersion) == told
    assert [*outcomes_told(told)] == [("policy", "average size 3")]


@pytest.mark.parametrize("worse", [3.0, -0.001])
def test_where_all_agree_the_verdict_stands_before_the_outcomes(worse: float) -> None:
    """Both outcomes are better, or the one reads as the same."""
    facts = {one.fact_id: one for one in version_facts_of(7, 5).facts}
    slow = facts["outcome.time_above_the_SLO"]
    before = f"{slow.fact_id}.serving"
    facts[before] = msgspec.structs.replace(slow, fact_id=before, value=slow.value + worse)
    told = Facts("cloud", "v7", tuple(facts.values()))
    assert re.fullmatch(
        r"v7 is better than v5: time above the SLO [\d.]+ % \(v5: [\d.]+ %\), average size [\d.]+ replicas "
        r"\(v5: [\d.]+ replicas\); \+[\d.]+ return",
        fill(TemplateNarrator().tell(told).headline, told),
    )


def test_the_verdict_and_the_outcomes_come_first() -> None:
    report = version_report()
    check(report.narrative, report.facts)
    assert title(report).startswith("v7 returns more than v5 (+")
    told = sentences(report)
    assert re.match(
        r"Time above the SLO: \S+ % \(v5: \S+ %, the Kubernetes HPA: \S+ %\)\.", told[0].replace("\u00a0", " ")
    )
    compared = " ".join(told)
    assert "Against v5 it is better in average size by" in compared
    assert "Against v5 it is worse in time above the SLO by" in compared
    assert "return" not in " ".join(told[:5])


def test_an_interval_is_told_against_the_one_before_it() -> None:
    report = interval_report()
    check(report.narrative, report.facts)
    assert title(report).startswith("Time above the SLO 1\u00a0%, average size 14.0 replicas; mean reward")
    told = sentences(report)
    assert told[0] == "Time above the SLO: 1\u00a0%."
    assert "Better than in the interval before: time above the SLO by 2.00 percentage points." in " ".join(told)
    values = {fact.fact_id: fact.value for fact in report.facts.facts}
    assert values["outcome.dropped_requests"] == 0.0
    assert values["outcome.p95_latency_as_observed"] == pytest.approx(180.0)


def test_sums_over_an_interval_count_each_row_once() -> None:
    total = totals(START, 0.25)
    assert total.table.shape == (6, 2 + 3 + 1 + 8)
    np.testing.assert_allclose(total.table[:, 7], 120)
    np.testing.assert_allclose(total.table[:, 6], 30)


def test_without_outcomes_nothing_is_told_of_them() -> None:
    plain = world().outcomes(BETTER)
    none = TaskSpec("cloud", SPEC.observations, SPEC.actions, 1000, reward_terms=SPEC.reward_terms)
    assert [*outcome_levels(none, plain, {})] == []


def shown(fact: Fact, text: str, **claims: str) -> list[str]:
    claimed = {"outcome.slow.vs-serving": claims["claim"]} if claims else {}
    narrative = Narrative("x", Sentence("A report"), (Sentence(text, claimed),))  # type: ignore[arg-type]
    return problems(narrative, Facts("t", "v1", (fact,)))


@pytest.mark.parametrize(("better", "value", "word"), [("lower", -2.0, "better"), ("higher", -2.0, "worse")])
def test_better_and_worse_go_by_which_way_is_good(better: str, value: float, word: str) -> None:
    other = {"better": "worse", "worse": "better"}[word]
    direction = direction_of(value)
    fact = Fact("outcome.slow.vs-serving", "slow, x", value, "%", -3.0, -1.0, direction, better)  # type: ignore[arg-type]
    number = "{outcome.slow.vs-serving@size}"
    assert not shown(fact, f"It is {word} by {number}.", claim=direction)
    assert not shown(fact, f"It fell by {number}.", claim=direction)
    assert shown(fact, f"It is {other} by {number}.", claim=direction)
    assert shown(fact, f"It rose by {number}.", claim=direction)
    assert shown(fact, f"It is {word} by {number}.")


def test_a_model_is_told_which_way_is_good_and_no_name() -> None:
    asked = question(version_facts_of(7, 5))
    assert '"better":"lower"' in asked
    assert "SLO" not in asked
    assert kind_of("outcome.x.vs-hpa").role == kind_of("outcome.x.change").role == "whole"
    assert kind_of("outcome.x.hpa").name == "outcome of a rival"


def test_the_page_has_a_table_of_outcomes_in_place_of_sentences() -> None:
    report = version_report()
    table = outcome_table(report)
    assert table[0] == ["", "v7", "v5", "The Kubernetes HPA"]
    assert [row[0] for row in table[1:]] == [
        "Time above the SLO",
        "Average size",
        "Dropped requests",
        "p95 latency as observed",
    ]
    page = to_html(report)
    assert page.count('<th scope="row">') == 4
    assert "<p>Time above the SLO:" not in page
    head, first, *_ = outcome_table(interval_report())
    assert head == ["", "All agents", "Against the interval before"]
    assert first == ["Time above the SLO", "1\u00a0%", "\u22122.00 percentage points"]


@pytest.mark.parametrize(("number", "more"), [(7, "more"), (5, "less")])
def test_a_headline_does_not_say_better_before_numbers_that_are_worse(number: int, more: str) -> None:
    """The return goes one way, the time above the SLO the other; the average size goes with the return."""
    report = version_report(number, before=3)
    said = (
        rf"v{number} returns {more} than v3 \(.[\d.]+ return\), but: time above the SLO [\d.]+.% \(v3: [\d.]+.%\); "
        r"beside that, average size [\d.]+ replicas \(v3: [\d.]+ replicas\)"
    )
    assert re.fullmatch(said, title(report))
    assert re.fullmatch(f"cloud: {said}", subject(sections([report])))
    assert direction(report) == {"more": "up", "less": "down"}[more]


def test_a_rival_whose_name_is_not_told_is_left_out() -> None:
    """As where a question is about one rule alone."""
    facts = version_facts_of(7, 5)
    some = tuple(one for one in facts.facts if not one.fact_id.startswith(("return.vs-", "version.previous")))
    narrowed = Facts(facts.task, facts.subject, some)
    narrative = TemplateNarrator().tell(narrowed)
    check(narrative, narrowed)
    assert narrative.sentences[0].text == "{outcome.time_above_the_SLO@name}: {outcome.time_above_the_SLO@value}."


def test_a_term_is_explained_where_it_first_stands() -> None:
    known = set[str]()
    told = explained("+2 return", ["It slowed down.", "Returns fell.", "The return rose."], known)
    assert told[0] == "It slowed down."
    assert told[1].startswith("Returns fell. (Return: what the task rewards")
    assert told[2] == "The return rose."
    assert explained("+2 return", ["No term."], set())[0].startswith("No term. (Return: ")
    assert explained("+2 return", ["No term."], known) == ["No term."]


def test_a_narrator_without_words_tells_the_same_facts() -> None:
    assert TemplateNarrator().tell(version_facts_of(7, 5)) == TemplateNarrator().tell(version_facts_of(7, 5))
