"""The scorecard from policies to table 3: on a task of which only rows are known, in a process of its own."""

import dataclasses
import json
import math

import msgspec
import openai_server
import pytest
from openai_server import KEY, MODEL, told, turns
from test_study_tables import DESIGNS, SHAPES, made

from headrace.learners.ppo.simulate import PPOTraining
from headrace.learners.seeds import SCORED_TRAINING
from headrace.pipelines.study import explained, scorecard, scores, scoring
from headrace.pipelines.study.page import markdown
from headrace.pipelines.study.run import Run
from headrace.pipelines.study.scores import ARMS, Score
from headrace.pipelines.study.tables import tables
from headrace.schemas.errors import SettingsError
from headrace.schemas.grounding import check
from headrace.schemas.records import Directive, TaskSpec

SEED = SCORED_TRAINING.first
CARTPOLE = explained.subjects()[1]
SMALL = dataclasses.replace(
    CARTPOLE,
    spec=TaskSpec("cartpole", CARTPOLE.spec.observations, ("left", "right"), 3_600_000),
    training=PPOTraining(environments=32),
    steps=1_280,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where each arm is scored with one seed."""
    out = tmp_path_factory.mktemp("scores")
    told = []
    assert scoring.score_all(out, [SMALL], dict.fromkeys(ARMS, ""), [SEED], 1, lambda *one: told.append(one)) == 3
    assert told == [(0, 1), (1, 1)]
    return out


def test_the_template_holds_and_the_control_does_not(folder):
    found = {(one.arm, one.subject): one for one in scores.read(folder)}
    assert {subject for _, subject in found} == {"version", "interval", "decision"}
    for subject in ("version", "interval", "decision"):
        none, template, shuffled = (found[arm, subject] for arm in ARMS)
        assert template.holding == template.said > 0
        assert shuffled.holding < 0.7 * shuffled.said
        assert none.said == none.recall == 0
        assert template.recall > shuffled.recall
        assert template.stability > 0.8
    for subject in ("version", "decision"):
        none, template, shuffled = (found[arm, subject] for arm in ARMS)
        assert template.without == none.without == none.with_it
        assert template.with_it > shuffled.with_it
        assert 0.0 <= template.cited_auc <= 1.0
    assert len(found["template", "decision"].tell_ms) == 8
    assert math.isnan(found["none", "version"].cited_auc)


def test_what_is_scored_is_not_scored_again(folder):
    assert scoring.score_all(folder, [SMALL], dict.fromkeys(ARMS, ""), [SEED], 1) == 0
    with pytest.raises(SettingsError, match="another design or narrator"):
        scoring.score_all(folder, [CARTPOLE], dict.fromkeys(ARMS, ""), [SEED], 1)
    with pytest.raises(SettingsError, match="another design or narrator"):
        scoring.score_all(folder, [SMALL], {"template": "template:?another"}, [SEED], 1)


def test_what_is_explained_is_grounded_and_a_function_of_the_seed():
    first, again = (explained.Explained(SMALL, SEED) for _ in range(2))
    assert first.version_facts() == again.version_facts()
    assert first.interval_facts() == again.interval_facts()
    ((decision, compute),) = first.decisions([700])
    assert decision.agent == f"agent-{700 % explained.AGENTS}"
    assert decision.step == sum(first.rows[1].episode[:700] == first.rows[1].episode[700])
    for facts in (first.version_facts(), first.interval_facts(), compute()):
        check(scoring.TemplateNarrator().tell(facts), facts)


def test_a_language_model_is_an_arm(tmp_path, monkeypatch):
    """Whether it writes well or not, what is published holds: the template speaks for it where it did not."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with openai_server.running() as good, openai_server.running() as bad:
        good.behaviour = lambda body: answer(body, "Of {name} it is {}.")
        bad.behaviour = lambda body: answer(body, "It is 7 of {}, and will grow.")
        arms = {name: f"openai:{MODEL}?base_url={one.base_url}" for name, one in (("good", good), ("bad", bad))}
        scoring.score_job(scoring.Job(tmp_path, SEED, [SMALL], arms, dict.fromkeys(arms, "f")))
        assert good.requests
        assert bad.requests
    found = scores.read(tmp_path)
    assert len(found) == 6
    for one in found:
        assert one.holding == one.said > 0
        assert (one.own > 0.0) == (one.arm == "good")


def answer(request, text):
    aliases = [fact["id"] for fact in json.loads(turns(request)[0])["facts"]]
    return told(request, dict.fromkeys(aliases[:8], text))


def score(arm, seed, **fields):
    numbers = {name: 0.5 for name, kind in Score.__annotations__.items() if kind is float}
    told = {"explanations": 2, "holding": 9, "said": 10, "tell_ms": [1.0, 3.0], "facts_ms": [5.0], "subject": "version"}
    return Score(arm=arm, seed=seed, fingerprint="f", task="t", **{**numbers, **told, **fields})


def test_the_table_by_hand():
    """Two seeds; the template foretells .2 and .4 better; the model .1 and .1; nothing is told by none."""
    scored = [
        score("template", 1, with_it=0.7),
        score("template", 2, with_it=0.9),
        score("small", 1, with_it=0.6, said=12),
        score("small", 2, with_it=0.6, recall=math.nan),
        score("none", 1, said=0, holding=0),
    ]
    found = scorecard.scorecard(scored)
    assert found["arms"] == ["none", "template", "small"]
    assert found["seeds"] == {"none": [1], "template": [1, 2], "small": [1, 2]}
    rows = {row["measure"]: row for row in found["measures"]}
    gain = rows["gain"]
    assert gain["arms"]["template"]["mean"] == pytest.approx(30.0)
    assert (gain["arms"]["template"]["low"], gain["arms"]["template"]["high"]) == pytest.approx((20.0, 40.0))
    assert gain["against"]["small"]["mean"] == pytest.approx(-20.0)
    assert gain["against"]["none"] == pytest.approx({"mean": -20.0, "low": -20.0, "high": -20.0, "n": 1})
    assert "template" not in gain["against"]
    assert rows["grounding"]["arms"]["none"] is None
    assert rows["grounding"]["arms"]["small"]["mean"] == pytest.approx((75.0 + 90.0) / 2)
    assert rows["recall"]["arms"]["small"]["n"] == 1
    assert rows["tell_p50"]["arms"]["template"]["mean"] == pytest.approx(2.0)
    assert rows["decision_p50"]["arms"]["template"] is None
    decided = [score("template", seed, subject="decision", facts_ms=[5.0, 9.0]) for seed in (1, 2)]
    rows = {row["measure"]: row for row in scorecard.scorecard(decided)["measures"]}
    assert rows["decision_p50"]["arms"]["template"]["mean"] == pytest.approx((6.0 + 12.0) / 2)


def run(arm, seed, verdicts):
    directives = [
        msgspec.json.encode(Directive("t.1.1", "t", "c", 1.0, "a", verdict, "b", "r", 0)).decode()
        for verdict in verdicts
    ]
    empty = {name: [] for name in ("ended", "training", "final", "decision_us", "evaluation")}
    numbers = {"train_cpu_s": 0.0, "train_wall_s": 0.0, "samples": 0, "judged_steps": 0}
    return Run(
        arm=arm,
        seed=seed,
        fingerprint="f",
        weights_hash="w",
        steps=[25_600, 50_000],
        directives=directives,
        **empty,
        **numbers,
    )


def test_adjustments_are_counted_where_they_were_accepted():
    """50,000 steps are 500 episodes: three accepted directives are 6 per 1,000."""
    runs = [run("dqn", 1, []), run("dqn+advisor", 1, ["accepted", "refused", "accepted", "undone", "accepted"])]
    found = scorecard.adjustments(runs)
    assert found["dqn"]["mean"] == 0.0
    assert found["dqn+advisor"]["mean"] == pytest.approx(6.0)


def test_the_page_has_table_3_beside_the_papers():
    runs = [made(arm, seed, *SHAPES[arm]) for arm in ("dqn", "dqn+advisor") for seed in range(1_000, 1_003)]
    scored = [score(arm, seed) for arm in (*ARMS, "small") for seed in (1, 2)]
    text = markdown(tables(runs, DESIGNS, scored), "study")
    assert "|  | nothing said | template | shuffled facts | `small` |" in text
    assert "| **Grounding** (%) | 90.0 [90.0, 90.0] |" in text
    assert "| User satisfaction (CSAT) | 68 | 87 | not measured |" in text
    assert "`small`: language models, given by `--narrator`" in text
    unscored = markdown(tables(runs, DESIGNS), "study")
    assert "Explanations were not scored" in unscored
    assert "| Interpretability score | 2.1 | 4.6 | not measured |" in unscored


def test_merged_scores_are_the_same(folder, tmp_path):
    scored = scores.read(folder)
    scores.write_merged(tmp_path, scored)
    again = scores.read(tmp_path)
    key = lambda one: (one.arm, one.subject)  # noqa: E731
    assert list(map(repr, sorted(again, key=key))) == list(map(repr, sorted(scored, key=key)))
    assert scores.read(tmp_path / "none") == []


def test_a_folder_that_can_t_be_written_is_told_before_any_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="can't be written"):
        scoring.score_all(tmp_path / "file" / "x", [SMALL], dict.fromkeys(ARMS, ""), [SEED], 1)
