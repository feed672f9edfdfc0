"""How learning goes, summed from version to version: what an advisor is told. NumPy only; a checkpoint holds it."""

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from headrace.schemas.directives import FLOOR, RULES, LearningFacts
from headrace.schemas.records import Interval

RETURNS_KEPT = 8
_METRICS = ("loss", "td_abs", "q_mean", "grad_norm")


class Sums(msgspec.Struct):
    """What was seen since a version. terms, term_rows, actions: by place in the task's order."""

    updates: int = 0
    metrics: dict[str, float] = {}
    terms: list[float] = []
    term_rows: int = 0
    actions: list[int] = []
    ages: int = 0
    aged_rows: int = 0

    def mean(self, metric: str) -> float | None:
        """A metric's mean over the updates, None before the first or where the algorithm has no such metric."""
        return _finite(self.metrics[metric] / self.updates) if metric in self.metrics and self.updates else None

    def term_means(self) -> dict[str, float]:
        """Each reward term's mean a row, by alias."""
        return {term_alias(i): total / self.term_rows for i, total in enumerate(self.terms)} if self.term_rows else {}


class Meter(msgspec.Struct):
    """The sums of this interval and of the one before, and the gate's returns by version."""

    now: Sums = msgspec.field(default_factory=Sums)
    before: Sums = msgspec.field(default_factory=Sums)
    returns: list[float] = []
    skipped_at_version: int = 0

    def learned(self, metrics: Mapping[str, float]) -> None:
        """Take in an update's metrics."""
        self.now.updates += 1
        for name in _METRICS:
            if name in metrics:
                self.now.metrics[name] = self.now.metrics.get(name, 0.0) + metrics[name]

    def saw(
        self,
        actions: np.ndarray,
        count: int,
        terms: np.ndarray | None = None,
        policy_version: np.ndarray | None = None,
        newest: int = 0,
    ) -> None:
        """Take in rows: int[N] actions of `count`, float32[N, K] reward terms (NaN: absent), int[N] versions."""
        now = self.now
        counts = np.bincount(actions, minlength=count) if count else np.zeros(0, np.int64)
        now.actions = (counts + now.actions if now.actions else counts).tolist()
        if terms is not None and terms.shape[1]:
            known = np.isfinite(terms).all(axis=1)
            totals = terms[known].sum(axis=0, dtype=np.float64)
            now.terms = (totals + now.terms if now.terms else totals).tolist()
            now.term_rows += int(known.sum())
        if policy_version is not None:
            acted = policy_version[policy_version >= 0]
            now.ages += int(np.maximum(newest - acted, 0).sum())
            now.aged_rows += len(acted)

    def facts(
        self,
        *,
        version: int,
        rows: int,
        updates: int,
        skipped_updates: int,
        exploration: float = 0.0,
        q_gap: float | None = None,
        evaluation: Mapping[str, float] | None = None,
        difference: Interval | None = None,
    ) -> LearningFacts:
        """State the facts at a version; settings and probation are the ledger's to fill in.

        evaluation: mean returns at the gate by name, "policy" the version's own.
        """
        now, judged = self.now, evaluation or {}
        if "policy" in judged:
            self.returns = [*self.returns, judged["policy"]][-RETURNS_KEPT:]
        return LearningFacts(
            version=version,
            rows=rows,
            updates=updates,
            skipped_updates=skipped_updates - self.skipped_at_version,
            settings={},
            exploration=exploration,
            loss=now.mean("loss"),
            td_abs=now.mean("td_abs"),
            q_mean=now.mean("q_mean"),
            grad_norm=now.mean("grad_norm"),
            td_abs_before=self.before.mean("td_abs"),
            q_gap=_finite(q_gap),
            returns=tuple(self.returns),
            floor=judged.get(FLOOR),
            serving=judged.get("serving"),
            difference=difference,
            rules={name: judged[name] for name in RULES if name in judged},
            terms=now.term_means(),
            terms_before=self.before.term_means(),
            actions=tuple(count / sum(now.actions) for count in now.actions) if sum(now.actions) else (),
            staleness=now.ages / now.aged_rows if now.aged_rows else None,
        )

    def next_interval(self, skipped_updates: int) -> None:
        """Begin the next interval; this one is the one before it."""
        self.before, self.now = self.now, Sums()
        self.skipped_at_version = skipped_updates


def term_alias(place: int) -> str:
    """Name a reward term by its place in the task's order: its own name is a stranger's text."""
    return f"term_{place}"


def q_gap(values: np.ndarray) -> float:
    """Best minus second-best value, mean over rows; values: float32[B, A]. 0 where there is one action."""
    if values.shape[1] < 2:
        return 0.0
    best = np.partition(values.astype(np.float64), -2, axis=1)
    return float((best[:, -1] - best[:, -2]).mean())


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
