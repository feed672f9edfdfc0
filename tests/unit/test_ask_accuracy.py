"""How many of the questions that were written from the docs alone are understood: kinds, and what they name."""

import json
from collections import Counter
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from headrace.learners.explain.evidence import controllers
from headrace.pipelines.ask.router import route
from headrace.pipelines.ask.slots import Names
from headrace.schemas.records import TaskSpec

FOLDER = Path(__file__).parents[1] / "e2e"
QUESTIONS, UNSEEN = (
    [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]
    for name in ("questions", "questions_unseen")
)
WORLD = json.loads((FOLDER / "questions_world.json").read_text())
SPECS = {one["task"]: msgspec.convert(one, TaskSpec) for one in WORLD["tasks"]}
NAMES = Names(SPECS, lambda task: WORLD["agents"].get(task, ()), controllers)


def ms(time):
    return int(datetime.fromisoformat(time).timestamp() * 1000)


def routed(questions):
    at, zone = ms(WORLD["at"]), ZoneInfo("UTC")
    return [(one, route(one["question"], NAMES, at, zone, one.get("task"))) for one in questions]


@pytest.fixture(scope="module")
def understood():
    return routed(QUESTIONS)


def test_in_scope_at_least_95_percent_are_of_the_right_kind(understood):
    """The target; after the questions were looked at, it holds for more."""
    asked = [(one, found) for one, found in understood if one["kind"] != "out-of-scope"]
    wrong = [(one["kind"], found.kind, one["question"]) for one, found in asked if found.kind != one["kind"]]
    assert len(wrong) <= 0.05 * len(asked), wrong


def test_what_is_out_of_scope_is_declined(understood):
    """All of it: commands, what will come, other systems, words for a model."""
    answered = [one["question"] for one, found in understood if one["kind"] == "out-of-scope" and found.kind]
    assert answered == []


def test_names_and_times_are_found(understood):
    """Agents, versions, steps and times are what is looked up: one that is wrong would answer another question."""
    names = {"agent": "agent", "version": "version", "than": "other", "step": "step", "episode": "episode"}
    for one, found in understood:
        slots = one["slots"]
        expected = {names[name]: value for name, value in slots.items() if name in names}
        assert {name: getattr(found, name) for name in expected} == expected, one
        starts = [ms(slots[name]) for name in ("time", "from") if name in slots]
        assert not starts or found.moment.start_ms == starts[0], one
        assert "to" not in slots or found.moment.end_ms == ms(slots["to"]), one


def test_unseen_questions_are_understood_as_often_as_when_first_measured():
    """100 of 102, and 18 of 18 declined, within 2 points and one. Nobody who mends the router looks at these."""
    pairs = (
        (one["kind"] == "out-of-scope", one["kind"] == (found.kind or "out-of-scope")) for one, found in routed(UNSEEN)
    )
    right = Counter(pairs)
    assert right[False, True] >= 98
    assert right[True, True] >= 17
