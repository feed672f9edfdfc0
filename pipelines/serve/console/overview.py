"""All tasks at a glance: a table first, in pages, and what was decided and wanted across them. From memory alone."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import nlargest
from typing import Final, Literal

from headrace.pipelines.serve.console.drawn import spark
from headrace.pipelines.serve.console.safety import Safety, safety
from headrace.pipelines.serve.view import TaskView, View
from headrace.schemas.records import Directive, ServingPolicy

PAGE_ROWS: Final = 25
NEWEST: Final = 8

Sort = Literal["attention", "task", "change", "age"]
Wanted = Literal["", "worse", "stale", "nothing", "held", "canary", "proposed"]
_URGENCY: Final = {"worse": 0, "nothing": 2, "idle": 2, "better": 3, "steady": 4}
_STALE: Final = 1


@dataclass(frozen=True, slots=True)
class Row:
    """A task in the table. proposed: changes that an advisor proposed and nothing has come of."""

    task: str
    safety: Safety
    serving: ServingPolicy | None
    proposed: int
    spark: str = ""

    def matches(self, wanted: Wanted) -> bool:
        """Whether the row is of a kind that is looked for."""
        if wanted == "stale":
            return self.safety.stale
        if wanted == "held":
            return self.serving is not None and self.serving.held
        if wanted == "canary":
            return self.serving is not None and self.serving.canary is not None
        if wanted == "proposed":
            return self.proposed > 0
        return wanted in {"", self.safety.state}


@dataclass(frozen=True, slots=True)
class Overview:
    """A page of the table. matching: rows on all its pages.

    worst: tasks that do worse than before. decisions: the newest of all tasks; directives: too, those proposed first.
    """

    rows: list[Row]
    tasks: int
    matching: int
    page: int
    pages: int
    worse: int
    stale: int
    worst: list[Row]
    decisions: list[ServingPolicy]
    directives: list[Directive]


def overview(view: View, now_ms: int, query: str, wanted: Wanted, sort: Sort, number: int) -> Overview:
    """Put the page together."""
    names = view.names()
    rows = [_row(view, name, now_ms) for name in names]
    matching = [row for row in rows if query.lower() in row.task.lower() and row.matches(wanted)]
    matching.sort(key=lambda row: _order(row, sort))
    pages = max(1, -(-len(matching) // PAGE_ROWS))
    number = min(number, pages)
    shown = matching[(number - 1) * PAGE_ROWS : number * PAGE_ROWS]
    tasks = [view.task(name) for name in names]
    return Overview(
        rows=[replace(row, spark=spark(view.windows(row.task))) for row in shown],
        tasks=len(rows),
        matching=len(matching),
        page=number,
        pages=pages,
        worse=sum(row.safety.state == "worse" for row in rows),
        stale=sum(row.safety.stale for row in rows),
        worst=[row for row in rows if row.safety.state == "worse"][:NEWEST],
        decisions=nlargest(NEWEST, (one for task in tasks for one in [*task.decisions]), key=lambda one: one.ts),
        directives=nlargest(NEWEST, _asking(tasks), key=lambda one: (one.verdict == "proposed", one.ts)),
    )


def _asking(tasks: list[TaskView]) -> Iterator[Directive]:
    """Give what a person can do something about."""
    for task in tasks:
        yield from (one for one in [*task.directives.values()] if one.verdict in {"proposed", "accepted"})


def _row(view: View, name: str, now_ms: int) -> Row:
    spec, task = view.specs.specs[name], view.task(name)
    decisions = [*task.decisions]
    proposed = sum(one.verdict == "proposed" for one in [*task.directives.values()])
    found = safety(spec, view.windows(name), decisions, now_ms)
    return Row(name, found, decisions[-1] if decisions else None, proposed)


def _order(row: Row, sort: Sort) -> tuple[float, str]:
    change, age = row.safety.change, row.safety.age_ms
    order = {
        "attention": float(min(_URGENCY[row.safety.state], _STALE if row.safety.stale else 9)),
        "task": 0.0,
        "change": change.mean if change else float("inf"),
        "age": -float(age) if age is not None else float("-inf"),
    }
    return order[sort], row.task
