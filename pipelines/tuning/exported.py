"""The data set as files: two of pairs in OpenAI's format, the facts that are held out, and what is in it."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from headrace.learners.tuning.dataset import Told, lines, manifest, split
from headrace.learners.tuning.invented import invented_facts
from headrace.schemas.errors import SettingsError
from headrace.schemas.records import Facts, Report

R = TypeVar("R")

TRAIN, HELD_OUT, FACTS, MANIFEST = "train.jsonl", "held_out.jsonl", "held_out_facts.jsonl", "manifest.json"
MOST_REPORTS: Final = 10_000
"""The newest are taken: what a small model can learn from more is nothing new."""


def export(reports: Iterable[Report], folder: Path, invented: int, seed: int) -> dict[str, Any]:
    """Write the data set of reports and of tasks that are invented; return its manifest.

    Raises SettingsError where there is nothing to train on, or the folder can't be written.
    """
    by_id = {one.report_id: one for one in reports}  # a repeated one is the same
    newest = sorted(by_id.values(), key=lambda one: (one.end_ms, one.report_id))[-MOST_REPORTS:]
    narrated = [Told(one.end_ms, one.facts, (one.narrative.headline, *one.narrative.sentences)) for one in newest]
    made = split([*map(Told, range(invented), invented_facts(invented, seed)), *narrated], seed)
    if not made.train or not made.facts:
        raise SettingsError("there are too few reports to train on some and hold some out: say --invented 30")
    described = manifest(made, seed, len(newest), invented)
    files = {
        TRAIN: lines(made.train),
        HELD_OUT: lines(made.held_out),
        FACTS: b"".join(msgspec.json.encode(one) + b"\n" for one in made.facts),
        MANIFEST: json.dumps(described, indent=1).encode() + b"\n",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise SettingsError(f"{folder} can't be written ({error}): name another folder by --out") from error
    return described


def read_pairs(folder: Path) -> list[tuple[str, str, str]]:
    """Return instructions, prompt and answer of each pair to train on; raises SettingsError."""

    def pair(line: str) -> tuple[str, str, str]:
        instructions, prompt, answer = (message["content"] for message in json.loads(line)["messages"])
        return instructions, prompt, answer

    return _read(folder / TRAIN, lambda text: [*map(pair, text.splitlines())])


def read_facts(folder: Path) -> list[Facts]:
    """Return the facts that are held out; raises SettingsError."""
    return _read(folder / FACTS, lambda text: [msgspec.json.decode(line, type=Facts) for line in text.splitlines()])


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what is in a data set; raises SettingsError."""
    return _read(folder / MANIFEST, json.loads)


def _read(path: Path, decode: Callable[[str], R]) -> R:
    try:
        return decode(path.read_text())
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SettingsError(f"{path} can't be read ({error}): `headrace narrator export` writes one") from error
