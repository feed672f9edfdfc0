"""How learning goes, summed from version to version: what an advisor is told. NumPy only; a checkpoint holds it."""

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from headrace.learners.advice.consult import Judging
from headrace.schemas.directives import LearningFacts

RETURNS_KEPT = 8
_METRICS = ("loss", "td_abs")


class Sums(msgspec.Struct):
    """What was seen since a version. terms, term_rows, actions: by place in the task's order."""

    updates: int = 0
    metrics: dict[str, float] = {}
    terms: list[float] = []
    term_rows: int = 0
    actions: list[int] = []

    def mean(self, metric: str) -> float | None:
        """A metric's mean over the updates; None before the first, without such a metric, or where it is no number."""
        mean = self.metrics[metric] / self.updates if metric in self.metrics and self.updates else math.nan
        return mean if math.isfinite(mean) else None

    def term_means(self) -> dict[str, float]:
        """Each reward term's mean a row, by its place in the task's order: its own name is a stranger's text."""
        return {f"term_{i}": total / self.term_rows for i, total in enumerate(self.terms)} if self.term_rows else {}


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

    def saw(self, actions: np.ndarray, count: int, terms: np.ndarray) -> None:
        """Take in rows: int[N] actions of `count` (0: continuous), float32[N, K] reward terms (NaN: absent)."""
        now = self.now
        counts = np.bincount(actions, minlength=count) if count else np.zeros(0, np.int64)
        now.actions = (counts + now.actions if now.actions else counts).tolist()
        if terms.shape[1]:
            known = np.isfinite(terms).all(axis=1)
            totals = terms[known].sum(axis=0, dtype=np.float64)
            now.terms = (totals + now.terms if now.terms else totals).tolist()
            now.term_rows += int(known.sum())

    def facts(
        self,
        *,
        version: int,
        rows: int,
        updates: int,
        skipped_updates: int = 0,
        exploration: float = 0.0,
        mean_return: float | None = None,
        judging: Judging | None = None,
    ) -> LearningFacts:
        """State the facts at a version, and begin the next interval; settings are the consultation's to fill in.

        skipped_updates: since the task's start. mean_return: the version's, at the gate.
        """
        now, before = self.now, self.before
        if mean_return is not None:
            self.returns = [*self.returns, mean_return][-RETURNS_KEPT:]
        skipped = skipped_updates - self.skipped_at_version
        self.before, self.now, self.skipped_at_version = now, Sums(), skipped_updates
        return LearningFacts(
            version=version,
            rows=rows,
            updates=updates,
            skipped_updates=skipped,
            settings={},
            exploration=exploration,
            loss=now.mean("loss"),
            td_abs=now.mean("td_abs"),
            td_abs_before=before.mean("td_abs"),
            returns=tuple(self.returns),
            floor=float(judging.floor.mean()) if judging else None,
            rules={name: float(returns.mean()) for name, returns in judging.rules.items()} if judging else {},
            terms=now.term_means(),
            terms_before=before.term_means(),
            actions=tuple(count / sum(now.actions) for count in now.actions) if sum(now.actions) else (),
        )
