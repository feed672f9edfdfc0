"""Many comparisons in one report: a direction is called only where Holm's correction over all of them bears it out.

Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.
"""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace
from scipy.special import stdtr, stdtrit

from headrace.schemas.records import Fact

LEVEL = 0.05
"""Probability that a report calls any direction wrongly where there is no difference; its intervals stay 95 %."""


def corrected(changes: Sequence[Fact], count: int) -> Iterator[Fact]:
    """Call flat what does not pass Holm's test, and add the fact of how many comparisons there were.

    changes: facts with 95 % t intervals. count: n of the sample behind each of them.
    """
    from headrace.learners.judge.comparison import holm_adjusted  # noqa: PLC0415 scipy.stats is slow to load

    for fact, p in zip(changes, holm_adjusted([p_value(fact, count) for fact in changes]), strict=True):
        yield fact if p <= LEVEL else replace(fact, direction="flat")
    if changes:
        label = "comparisons, a direction is called where Holm's correction over all of them bears it out"
        yield Fact("comparisons.count", label, len(changes), "comparisons")


def p_value(fact: Fact, count: int) -> float:
    """Return the two-sided p-value of the t test whose 95 % interval the fact has."""
    assert fact.low is not None, fact
    assert fact.high is not None, fact
    half = (fact.high - fact.low) / 2.0
    if half == 0.0:
        return 0.0 if fact.value else 1.0
    statistic = abs(fact.value) / half * float(stdtrit(count - 1, 0.975))
    return 2.0 * float(stdtr(count - 1, -statistic))
