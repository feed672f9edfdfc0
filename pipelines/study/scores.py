"""The scorecard's scores in Parquet: a file an arm and seed, each there whole or not at all."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from headrace.pipelines.study import store
from headrace.schemas.errors import SettingsError

NONE, TEMPLATE, SHUFFLED = "none", "template", "shuffled"
ARMS: Final = (NONE, TEMPLATE, SHUFFLED)
"""Those that need no language model: nothing is said; the template; the template of facts with others' numbers."""
FOLDER: Final = "explanations"
MERGED: Final = "explanations.parquet"
NAN: Final = float("nan")


class Score(msgspec.Struct):
    """What the explanations of an arm with a seed are worth, of one task and kind; a row of the scorecard's table.

    subject: "version", "interval" or "decision". holding, said: numbers and claims. recall, precision, f1: of what
    mattered. without, with_it: how well a reader foretells held-out states; fidelity: how well what it was told alone
    does. cited_auc, random_auc: deletion of the cited features, and of as many drawn ones. stability: under rephrased
    facts, of the first explanation. own: the share of sentences that the narrator wrote itself. tell_ms: from facts to
    sentences, of each explanation; facts_ms: to the facts. NaN where there is no such thing.
    """

    arm: str
    seed: int
    fingerprint: str
    task: str
    subject: str
    explanations: int
    holding: int
    said: int
    recall: float
    precision: float
    f1: float
    without: float
    with_it: float
    fidelity: float
    cited_auc: float
    random_auc: float
    stability: float
    own: float
    tell_ms: list[float]
    facts_ms: list[float]


def mean_of(values: Sequence[float]) -> float:
    """Return the mean of those that are numbers; NaN of none."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else NAN


def fingerprint(described: Any) -> str:  # noqa: ANN401 JSON
    """Return a hash of what scores depend on but their seed: scores of different ones must not be mixed."""
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:16]


def pending(folder: Path, arms: Mapping[str, str], prints: Mapping[str, str], seed: int) -> dict[str, str]:
    """Return the arms that have no scores with a seed yet; raises SettingsError where they have others'."""
    found = {}
    for name, url in arms.items():
        path = store.path_of(folder / FOLDER, name, seed)
        there = {one.fingerprint for one in store.rows_of(path, Score)} if path.exists() else set[str]()
        if there - {prints[name]}:
            raise SettingsError(f"{path} is of another design or narrator: give another --out, or remove it")
        if not there:
            found[name] = url
    return found


def read(folder: Path) -> list[Score]:
    """Return the scores in a folder, of a study or merged ones; none where there are none."""
    merged = [path for path in [folder / MERGED] if path.exists()]
    paths = sorted((folder / FOLDER).glob("*.parquet")) or merged
    return [score for path in paths for score in store.rows_of(path, Score)]


def write_merged(folder: Path, scores: Sequence[Score]) -> None:
    """Store all scores in one file."""
    order = sorted(scores, key=lambda one: (one.arm, one.seed, one.task, one.subject))
    store.write_rows(folder / MERGED, Score, order)
