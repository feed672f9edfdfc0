"""The data set that a small model is tuned on: wordings, the checker by kind, the split, the files."""

import json

import numpy as np
import pytest
from narration_examples import every_facts

from headrace.learners.tuning.dataset import Example, Told, acceptable, examples, held_task, split
from headrace.learners.tuning.invented import invented_facts
from headrace.learners.tuning.right_kind import NEEDED, kind_problems
from headrace.learners.tuning.wordings import CHANGES, LEVEL, wordings
from headrace.pipelines.tuning.exported import export
from headrace.schemas.errors import SettingsError
from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.kinds import KINDS, OTHER, kind_of
from headrace.schemas.narration.question import stance_of
from headrace.schemas.records import Fact, Facts, Sentence

NAMES = {kind.name for kind in KINDS.values()}
FACTS = Facts(
    "valve",
    "v7",
    (
        Fact("return.vs-hpa", "the HPA, difference in return", -2.0, "return", -3.0, -1.0, "down"),
        Fact("term.latency.vs-hpa", "latency, against the HPA", 1.5, "return", 1.0, 2.0, "up"),
        Fact("rows.total", "transitions", 90, "rows"),
    ),
)


@pytest.mark.parametrize("facts", [*every_facts().values(), *invented_facts(3, 1)], ids=lambda facts: facts.subject)
def test_every_fact_has_wordings_that_would_be_accepted(facts: Facts) -> None:
    aliases = Aliases(facts)
    texts = {fact.fact_id: wordings(fact, aliases) for fact in facts.facts}
    assert {kind_of(fact_id).name for fact_id, found in texts.items() if not found} & {*LEVEL, *CHANGES} == set()
    by_id = {fact.fact_id: fact for fact in facts.facts}
    wrong = [text for key, found in texts.items() for text in found if not acceptable(text, by_id[key], facts, aliases)]
    assert wrong == []


def test_the_tables_name_no_kind_that_is_gone() -> None:
    """And few that are there are left to the template."""
    known = {*LEVEL, *CHANGES} - {OTHER.name}
    assert known == set(NEEDED)
    assert known - NAMES == set()
    assert len(known) > 0.7 * len(NAMES)


def test_the_checker_refuses_the_words_of_other_kinds() -> None:
    said = {(kind_of(fact.fact_id).name, text) for facts in invented_facts(1, 0) for fact in facts.facts
            for text in wordings(fact, Aliases(facts))}  # fmt: skip
    tried = [(kind, other, text) for kind, text in said for other in NEEDED if other != kind]
    assert np.mean([not kind_problems(text, other) for _, other, text in tried]) < 0.05


@pytest.mark.parametrize(
    ("text", "kind", "right"),
    [
        ("The mean reward was {}.", "mean reward", True),
        ("The mean reward was {}.", "rows", False),
        ("In the interval {} came in.", "rows", True),
        ("Late came in {}.", "rows", False),
        ("It is better than {name} by {}.", "difference in return", True),
        ("It is better in the {name} part by {}.", "difference in return", False),
        ("Something or other is {}.", "a kind that is not there", True),
    ],
)
def test_a_sentence_is_of_the_right_kind(text: str, kind: str, right: bool) -> None:
    assert (kind_problems(text, kind) == []) is right


def test_a_wording_is_expanded_and_its_marks_are_those_of_the_fact() -> None:
    aliases = Aliases(FACTS)
    fell, rose, _ = FACTS.facts
    assert wordings(fell, aliases)[:2] == ("It is worse than {name} by {size}.", "It is behind {name} by {size}.")
    assert wordings(rose, aliases) == (
        "In the {name} part of the return it is better than {other} by {}.",
        "Against {other}, it is better in the {name} part by {}.",
    )
    alone = Facts("valve", "v7", (rose,))
    assert wordings(rose, Aliases(alone))[1] == "It is better in the {name} part by {}."


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        (
            Sentence("It trails {return.vs-hpa@name} by {return.vs-hpa@size}.", {"return.vs-hpa": "down"}),
            "It trails {name} by {size}.",
        ),
        (
            Sentence("In the {term.latency.vs-hpa@name} part it beats {return.vs-hpa@name} by {term.latency.vs-hpa}."),
            "In the {name} part it beats {other} by {}.",
        ),
        (Sentence("We are worse than {return.vs-hpa@name} by {return.vs-hpa@size}."), None),
        (Sentence("The mean reward was {rows.total}."), None),
        (Sentence("Of {rows.total} it trails {return.vs-hpa@name} by {return.vs-hpa@size}."), None),
    ],
)
def test_a_narration_becomes_a_pair_if_it_would_be_accepted_now(sentence: Sentence, text: str | None) -> None:
    found = examples(Told(0, FACTS, (sentence,)), np.random.default_rng(0), held_out=False)
    assert [one.text for one in found if one.accepted] == ([text] if text else [])
    assert len(found) == 3, "the others are of wordings"


def test_tasks_and_the_newest_reports_are_held_out_with_all_that_is_like_them() -> None:
    told = [Told(place, facts) for place, facts in enumerate(invented_facts(20, 0))]
    made = split(told, 0)
    by_task = {one.facts.task: one.end_ms for one in told}
    held = {facts.task for facts in made.facts}
    assert {task for task in by_task if held_task(task)} <= held
    others = [task for task in by_task if not held_task(task)]
    assert [task for task in others if task in held] == others[len(others) - len(others) // 5 :]
    assert {one.near for one in made.train} & {one.near for one in made.held_out} == set()
    assert len(made.train) > 700
    assert {one.kind for one in made.train} == {*LEVEL, *CHANGES}


def test_near_duplicates_differ_in_names_and_places_only() -> None:
    one = Example("id: return.vs-a\nfact: s1", "It is.", "k", "up", accepted=False)
    assert one.near == Example("id: return.vs-b\nfact: s2", "it is.", "k", "up", accepted=False).near
    assert one.near != one._replace(text="It was.").near


def test_an_export_is_the_same_by_its_seed_and_says_what_is_in_it(tmp_path) -> None:
    made = [export([], tmp_path / name, 8, seed) for name, seed in (("a", 3), ("b", 3), ("c", 4))]
    assert made[0] == made[1] != made[2]
    train = (tmp_path / "a" / "train.jsonl").read_text().splitlines()
    assert len(train) == made[0]["train"]["pairs"] == sum(made[0]["train"]["by_kind"].values())
    assert [message["role"] for message in json.loads(train[0])["messages"]] == ["system", "user", "assistant"]
    assert json.loads((tmp_path / "a" / "manifest.json").read_text()) == made[0]
    with pytest.raises(SettingsError, match="too few reports"):
        export([], tmp_path, 0, 0)


def test_each_fact_is_said_in_its_stance() -> None:
    """Of every kind that has a direction there are wordings for each."""
    assert {tuple(sorted(stances)) for stances in CHANGES.values()} == {("down", "flat", "up")}
    seen = {(kind_of(fact.fact_id).name, stance_of(fact)) for facts in invented_facts(9, 0) for fact in facts.facts}
    assert seen >= {(kind, stance) for kind, stances in CHANGES.items() for stance in stances}
