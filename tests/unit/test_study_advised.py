"""The advisor in a training: what a watcher sees and steers, the rule in exploration, directives by made-up facts."""

import json
import re

import msgspec
import numpy as np
import openai_server
import pytest
from openai_server import KEY, MODEL, change, openai_url, turns

from headrace.learners.advice.drawn import DrawnAdvisor
from headrace.learners.advice.ledger import problem
from headrace.learners.advice.rules import RuleAdvisor
from headrace.learners.cloud import draw_traces
from headrace.learners.cloud.controllers import RULES as RULE_MAKERS
from headrace.learners.cloud.controllers import RateRule
from headrace.learners.cloud.plant import Simulation
from headrace.learners.cloud.simulator import EXPLORED
from headrace.learners.simulate.curve import CurvePoint, Moment
from headrace.learners.simulate.guide import Guide
from headrace.learners.simulate.training import train
from headrace.pipelines.study import pool, store
from headrace.pipelines.study.advised import Advised
from headrace.pipelines.study.design import ENVIRONMENT, PLAIN_DQN, Budget, Cadence, arm, described
from headrace.pipelines.study.run import Run
from headrace.schemas.directives import ACTIONS, LearningFacts, key_of
from headrace.schemas.records import Directive

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
    advised = Advised(Cadence(points=1, every=1), RuleAdvisor())
    assert advised.watch(moment(1, config, 0))["explore_rule"] == ""
    changed = advised.watch(moment(2, config, 0))
    assert changed["explore_rule"] == "rate_rule"
    assert changed["explore_share"] == pytest.approx(0.4)
    assert [one.verdict for one in advised.directives] == ["accepted"]
    assert advised.judged_steps == 2 * 128 * 100


def test_it_is_asked_as_often_as_its_cadence_says():
    config = PLAIN_DQN.config
    advised = Advised(Cadence(points=2, every=2), RuleAdvisor())
    for number in range(1, 4):
        advised.watch(moment(number, config, 0))
    assert advised.directives == []
    assert advised.judged_steps == 128 * 100
    advised.watch(moment(4, config, 0))
    assert advised.directives != []


FACTS = LearningFacts(
    version=3,
    rows=1,
    updates=1,
    skipped_updates=0,
    settings={
        "learning_rate": 1e-3,
        "epsilon_end": 0.05,
        "epsilon_steps": 30_720.0,
        "explore_rule.hpa": 0.0,
        "explore_rule.rate_rule": 0.8,
        "shaping.term_0": -1.0,
    },
    probation=("learning_rate",),
)


def test_chance_proposes_as_many_as_it_is_told_and_only_what_is_allowed():
    """Whatever the seed; of all settings but the one on probation; the same seed and version draw the same."""
    drawn = [DrawnAdvisor({3: 3}, seed).propose(FACTS) for seed in range(100)]
    assert {len(one) for one in drawn} == {3}
    assert {problem(one, FACTS.settings, FACTS.probation) for some in drawn for one in some} == {None}
    keys = [key_of(one.change, one.target) for some in drawn for one in some]
    assert set(keys) == FACTS.settings.keys() - {"learning_rate"}
    assert all(len({key_of(one.change, one.target) for one in some}) == 3 for some in drawn)
    assert DrawnAdvisor({3: 3}, 7).propose(FACTS) == drawn[7]
    assert DrawnAdvisor({2: 3}, 7).propose(FACTS) == []
    assert len({one.value for some in drawn for one in some if one.change == "epsilon_end"}) > 10


def test_it_draws_evenly_on_both_sides():
    """Of a rate by its logarithm: half of the draws are below the present value."""
    facts = LearningFacts(1, 1, 1, 0, {"learning_rate": 1e-3})
    values = np.array([DrawnAdvisor({1: 1}, seed).propose(facts)[0].value for seed in range(400)])
    assert (values < 1e-3).mean() == pytest.approx(0.5, abs=0.1)
    ratio = ACTIONS["learning_rate"].ratio
    assert (values.min(), values.max()) == (
        pytest.approx(1e-3 / ratio, rel=0.05),
        pytest.approx(1e-3 * ratio, rel=0.05),
    )


def test_the_random_arm_counts_what_the_rules_did_with_the_same_seed(tmp_path, monkeypatch):
    """From the run that is there, else from one that is made; what was refused or undone does not count twice."""
    (job,) = pool.jobs({"dqn+random": arm("dqn+random")}, [5], Budget(steps=25_600))
    made = []

    def run(name, _arm, seed, _budget, fingerprint, advisor):
        made.append((name, type(advisor)))
        return rules_run(name, seed, fingerprint)

    monkeypatch.setattr(pool, "run", run)
    for _ in range(2):
        with pool._advisor(tmp_path, job) as advisor:
            assert advisor._counts == {2: 2, 5: 1}
    assert made == [("dqn+advisor", RuleAdvisor)]
    assert store.one(tmp_path, "dqn+advisor", 5).seed == 5


def rules_run(name, seed, fingerprint):
    def said(version, number, verdict):
        return Directive(
            f"cloud.{version}.{number}",
            "cloud",
            "epsilon_end",
            0.1,
            "rules:",
            verdict,
            "bounds",
            "",
            0,
            version=version,
        )

    directives = [said(2, 1, "accepted"), said(2, 2, "accepted"), said(2, 3, "refused"), said(2, 1, "undone")]
    texts = [msgspec.json.encode(one).decode() for one in [*directives, said(5, 1, "accepted")]]
    return Run(name, seed, fingerprint, "", [1], [1.0], [1], [1.0], [1.0], 1.0, 1.0, 1, 1, [1.0, 1.0], texts)


def test_a_language_model_advises_a_training(tmp_path, monkeypatch):
    """Asked at every version; from the second on it hears what became of its first change. What it said is stored."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with openai_server.running() as server:
        wish = "epsilon_end much more"
        server.behaviour = lambda asked: {"changes": [change(wish)] if wish in json.dumps(asked) else []}
        llm = arm("dqn+llm", openai_url(MODEL, {"base_url": server.base_url}))
        budget = Budget(steps=25_600, curve_traces=16, final_traces=16)
        (job,) = pool.jobs({"dqn+llm": llm}, [5], budget)
        pool._run_job(tmp_path, job)
        told = [turns(json.loads(body))[0] for body in server.requests]
        server.behaviour = lambda _: {"scenarios": [{"level": 9.0}, {"level": 1.5}]}
        url = openai_url(MODEL, {"base_url": server.base_url})
        asked, count = arm("dqn+llm-scenarios", url), len(server.requests)
        again = arm("dqn+llm-scenarios", url, described(asked, budget))
        assert again.scenarios(1) == asked.scenarios(1)
        assert len(server.requests) == count, "what it proposed is known"
        arm("dqn+llm-scenarios", url, described(llm, budget) | {"advisor": "openai:other"})
        assert len(server.requests) == count + 1, "another model did"
    records = [msgspec.json.decode(text, type=Directive) for text in store.one(tmp_path, "dqn+llm", 5).directives]
    assert {one.proposed_by for one in records} == {f"openai:{MODEL}"}
    assert (records[0].change, records[0].verdict) == ("epsilon_end", "accepted")
    assert [one.changes for one in asked.scenarios(1)] == [{"level": 1.5}]
    assert "earlier" not in told[0]
    assert re.search(r"^earlier epsilon_end 0.1 (accepted|undone) [+-]\S+ \[\S+, \S+\]$", told[1], re.MULTILINE)
