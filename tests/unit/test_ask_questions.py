"""The questions that `headrace ask` is measured by: written from the docs alone, of every kind, of several tasks."""

import json
import re
from collections import Counter
from pathlib import Path

import msgspec

from headrace.schemas.records import TaskSpec

ROOT = Path(__file__).parents[2]
QUESTIONS = [json.loads(line) for line in (ROOT / "tests/e2e/questions.jsonl").read_text().splitlines()]
WORLD = json.loads((ROOT / "tests/e2e/questions_world.json").read_text())
"""What they are asked of: tasks, agents, versions up to which number, and when."""
DOCS = (ROOT / "docs/explanations.md").read_text()


def test_they_are_spread_over_the_kinds_of_the_docs():
    counts = Counter(one["kind"] for one in QUESTIONS)
    kinds = set(re.findall(r"^\| `([a-z]+)` \|", DOCS.partition("## Ask")[2].partition("\n## ")[0], re.MULTILINE))
    assert counts.pop("out-of-scope") == 75
    assert counts.keys() == kinds
    assert sum(counts.values()) == 425
    assert min(counts.values()) >= 12


def test_none_is_another_or_an_example_of_the_docs():
    asked = [re.sub(r"\W+", " ", one["question"].lower()).strip() for one in QUESTIONS]
    known = {re.sub(r"\W+", " ", line.lower()).strip() for line in DOCS.splitlines()}
    assert len(set(asked)) == 500
    assert not known & set(asked)


def test_what_they_name_is_there():
    tasks = {one["task"]: one for one in WORLD["tasks"]}
    agents = {agent: task for task, names in WORLD["agents"].items() for agent in names}
    for spec in tasks.values():
        msgspec.convert(spec, TaskSpec)
    for one in QUESTIONS:
        slots = one["slots"]
        said = [task for task in tasks if task in one["question"].lower()]
        task = slots.get("task") or one.get("task") or agents.get(slots.get("agent")) or (said or ["cloud"])[0]
        assert agents.get(slots.get("agent"), task) == task, one
        assert max(slots.get("version", 0), slots.get("than", 0)) <= WORLD["versions"][task], one
        assert all(slots[name] <= WORLD["at"] for name in ("time", "from", "to") if name in slots), one
        names = {name.removesuffix("_t") for name in tasks[task]["observations"]}
        assert slots.get("observation", next(iter(names))) in names, one
