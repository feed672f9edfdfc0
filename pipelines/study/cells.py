"""Cells and tables in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

NOTHING: Final = "\N{EN DASH}"


def cell(told: Mapping[str, Any], digits: int) -> str:
    """Write an arm's mean, deviation, interval, interquartile mean, and how many runs converged."""
    shown = (
        f"{told['mean']:.{digits}f} ± {told['deviation']:.{digits}f} [{told['low']:.{digits}f}, "
        f"{told['high']:.{digits}f}]<br>IQM {told['iqm']:.{digits}f}"
    )
    if "converged" in told:
        shown += f"; converged {told['converged']} of {told['n']}"
    return shown


def interval(row: Mapping[str, Any], name: str, low: str, high: str, digits: int) -> str:
    """Write a number of a row with its bounds; all are signed, but for a probability."""
    sign = "" if name == "greater" else "+"
    return f"{row[name]:{sign}.{digits}f} [{row[low]:{sign}.{digits}f}, {row[high]:{sign}.{digits}f}]"


def p_value(value: float | None) -> str:
    """Write a p-value, as small as it is worth."""
    if value is None:
        return NOTHING
    return "< .0001" if value < 1e-4 else f"{value:.4f}".lstrip("0")


def f_test(f: float | None, above: float | None, below: float | None, p: float | None) -> str:
    """Write an F with its degrees of freedom and p-value."""
    if f is None or above is None or below is None:
        return NOTHING
    return f"F({above:g}, {below:.4g}) = {f:.3g}, p {p_value(p)}"


def rank_test(statistic: float | None, p: float | None) -> str:
    """Write a statistic with its p-value."""
    return NOTHING if statistic is None else f"{statistic:.3g}, p {p_value(p)}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write a table, line by line."""
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    yield from ("| " + " | ".join(row) + " |" for row in rows)
