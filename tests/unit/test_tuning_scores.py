"""What a model's sentences are worth, and when one model is promoted over another."""

import hashlib
import json

import numpy as np
import pytest

from headrace.learners.judge.spending import spent
from headrace.learners.tuning.scores import Outcome, figures, judged, said, sign_test, stance_right, why_not_better
from headrace.pipelines.tuning import promoted
from headrace.pipelines.tuning.evaluated import questions
from headrace.pipelines.tuning.finetuned import check_data
from headrace.schemas.errors import SettingsError
from headrace.schemas.records import Fact, Facts

FELL = Fact("return.vs-hpa", "the HPA, difference in return", -2.0, "return", -3.0, -1.0, "down")
ROWS = Fact("rows.total", "transitions", 90, "rows")
FACTS = Facts("valve", "v7", (FELL, ROWS))
RIGHT = Outcome("It trails {name} by {size}.", True, True, False, True, 10.0, 8.0)
WRONG = RIGHT._replace(right_kind=False)
REFUSED = RIGHT._replace(grounded=False)


@pytest.mark.parametrize(
    ("text", "fact", "grounded", "right_kind", "connective"),
    [
        ("It is worse than {name} by {size}.", FELL, True, True, False),
        ("It is better than {name} by {}.", FELL, False, True, False),
        ("But it is worse than {name} by {size}.", FELL, True, True, True),
        ("In the interval {} came in.", ROWS, True, True, False),
        ("The mean reward was {}.", ROWS, False, False, False),
        ("They stand at {}.", ROWS, True, False, False),
    ],
)
def test_a_sentence_is_judged_by_grounding_kind_and_connective(text, fact, grounded, right_kind, connective) -> None:
    found = judged(json.dumps({"text": text}), "no JSON at all", fact, FACTS, 5.0, 4.0)
    assert (found.text, found.milliseconds) == (text, 5.0)
    assert (found.grounded, found.right_kind, found.connective) == (grounded, right_kind, connective)
    assert found.right is (grounded and right_kind and not connective)


@pytest.mark.parametrize(
    ("text", "direction", "right"),
    [
        ("It fell.", "down", True),
        ("It rose.", "down", False),
        ("It rose and fell.", "up", False),
        ("It is not shown to differ.", "flat", True),
        ("It rose.", "flat", False),
        ("It is what it is.", None, True),
        ("It rose.", None, False),
    ],
)
def test_the_stance_of_free_words(text, direction, right) -> None:
    assert stance_right(text, Fact("reward.change", "reward", 0.0, "per step", None, None, direction)) is right


def test_an_answer_that_is_no_json_is_its_own_text() -> None:
    assert said('{"text":"It fell."}') == "It fell."
    assert said("It fell.") == "It fell."
    assert said('{"text":"It fell.","more":1}') == '{"text":"It fell.","more":1}'


def test_figures_are_shares_and_times() -> None:
    found = figures([RIGHT, RIGHT._replace(text="Other.", milliseconds=30.0), WRONG, REFUSED])
    assert found["sentences"] == 4
    assert [found[name] for name in ("right", "grounded", "right_kind", "distinct")] == [0.5, 0.75, 0.75, 2]
    assert (found["milliseconds_p50"], found["milliseconds_p95"]) == (10.0, 27.0)


def test_the_sign_test_by_hand() -> None:
    """Of 5 all gained 1/32; of 6 one lost 7/64; where nothing differs certainty."""
    assert [sign_test(5, 0), sign_test(5, 1), sign_test(0, 0)] == [1 / 32, 7 / 64, 1.0]


@pytest.mark.parametrize(
    ("new", "old", "reason"),
    [
        ([RIGHT] * 6, [WRONG] * 6, ""),
        ([RIGHT] * 6, [REFUSED] * 6, ""),
        ([RIGHT] * 5, [WRONG] * 5, "says 5 facts rightly .* and the other way 0"),
        ([RIGHT] * 9 + [REFUSED], [WRONG] * 10, "9 of its 10 sentences are grounded, and 10"),
        ([RIGHT] * 5, [RIGHT] * 5, "says 0 facts"),
    ],
)
def test_a_model_is_better_only_by_a_paired_test(new, old, reason) -> None:
    found = why_not_better(new, old, 0.025)
    assert (found == "") == (reason == "")
    with pytest.raises(AssertionError):
        why_not_better(new, old[1:], 0.025)


def test_what_is_better_is_served_from_then_on(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuned.gguf").write_bytes(b"weights")
    with pytest.raises(SettingsError, match="not promoted in place of base"):
        promoted.promote(tmp_path / "tuned.gguf", [RIGHT], tmp_path / "base.gguf", [RIGHT])
    card = promoted.promote(tmp_path / "tuned.gguf", [RIGHT] * 6, tmp_path / "base.gguf", [WRONG] * 6)
    assert promoted.serving_model().read_bytes() == b"weights"
    assert card["evaluation"]["right"] == 1.0
    assert json.loads((promoted.PROMOTED / "tuned.json").read_text()) == card


def test_who_tries_many_models_on_the_same_facts_must_be_surer_of_each(tmp_path, monkeypatch) -> None:
    """Models that are as good as what is served, by coins: at 2.5 % each, half of 28 tries would end in a promotion."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "held_out_facts.jsonl").write_text("facts")
    names = [f"m{number}" for number in range(40)]
    for name in names:
        (tmp_path / f"{name}.gguf").write_text(name)

    def place(name, count=60):
        return promoted.place_among_tried(tmp_path / f"{name}.gguf", tmp_path, count)

    assert [place(name) for name in names] == [*range(1, 41)]
    assert (place("m3"), place("m3"), place("m3", 61)) == (4, 4, 41), "the same is no new try, other facts are one"
    (tmp_path / "held_out_facts.jsonl").write_text("newer facts")
    assert place("m3") == 1

    passed, rng = 0, np.random.default_rng(0)
    for _ in range(100):
        gains = rng.binomial(20, 0.5, 40)  # of 20 facts on which the two differ
        passed += any(
            not why_not_better([RIGHT] * won + [WRONG] * (20 - won), [WRONG] * won + [RIGHT] * (20 - won), spent(one))
            for one, won in enumerate(gains.tolist(), 1)
        )
    assert passed <= 0.05 * 100
    better = [RIGHT] * 6, tmp_path / "base.gguf", [WRONG] * 6
    with pytest.raises(SettingsError, match=r"\(p = 0.016, and 0.0065 is asked\); it is try 2 on"):
        promoted.promote(tmp_path / "m0.gguf", *better, place=2)
    card = promoted.promote(tmp_path / "m0.gguf", *better, place=1)
    assert (card["try"], card["level"]) == (1, spent(1))


def test_each_prompt_is_asked_once_evenly_of_all() -> None:
    twice = [FACTS, Facts("other", "v8", (ROWS, FELL))]
    assert {fact.fact_id for fact, _ in questions(twice, 9)} == {"return.vs-hpa", "rows.total"}
    assert len(questions(twice, 9)) == 2
    assert len(questions(twice, 1)) == 1


def test_a_model_is_judged_by_the_data_set_that_it_was_tuned_on(tmp_path) -> None:
    model = tmp_path / "m.gguf"
    (tmp_path / "train.jsonl").write_bytes(b"pairs")
    check_data(model, tmp_path)  # of one without a card nothing is known
    model.with_suffix(".json").write_text(json.dumps({"data_sha256": hashlib.sha256(b"pairs").hexdigest()}))
    check_data(model, tmp_path)
    (tmp_path / "train.jsonl").write_bytes(b"other pairs")
    with pytest.raises(SettingsError, match="other pairs"):
        check_data(model, tmp_path)
