"""One task's page: what is known of it, in the order in which an operator asks. From memory, and one report."""

from dataclasses import dataclass
from typing import Any

from headrace.pipelines.policies.directing import Act, open_to
from headrace.pipelines.report.render import outcome_table
from headrace.pipelines.serve.console.beside import Bar, Reports, bars
from headrace.pipelines.serve.console.drawn import chart
from headrace.pipelines.serve.console.safety import Safety, safety
from headrace.pipelines.serve.console.soundness import Rejection, Rows, rejections, row_counts
from headrace.pipelines.serve.view import ReportHead, View
from headrace.schemas.directives import key_of
from headrace.schemas.records import Directive, ServingPolicy, TaskSpec

MOST_DECISIONS, MOST_REPORTS, MOST_DIRECTIVES = 20, 10, 20


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision about what serves, and what it changed."""

    record: ServingPolicy
    what: str


@dataclass(frozen=True, slots=True)
class Proposed:
    """A directive as it stands: the setting that it changes, from what to what."""

    record: Directive
    setting: str
    previous: float | None
    value: str
    acts: tuple[Act, ...]


@dataclass(frozen=True, slots=True)
class TaskPage:
    """What the page shows. seen_ts: of the decision seen last; a later one makes what is decided here a conflict."""

    spec: TaskSpec
    safety: Safety
    serving: ServingPolicy | None
    seen_ts: int
    chart: dict[str, Any]
    bars: list[Bar]
    bars_version: int | None
    outcome_table: list[list[str]]
    decided: list[Decided]
    more_decided: int
    rows: Rows
    rejections: list[Rejection]
    reports: list[ReportHead]
    directives: list[Proposed]
    windows: int


def task_page(view: View, spec: TaskSpec, reports: Reports, now_ms: int) -> TaskPage:
    """Put the page together."""
    known, windows = view.task(spec.task), view.windows(spec.task)
    decisions, serving = [*known.decisions], known.serving
    report = reports.of_serving(known, known.serves)
    decided = decided_of(decisions)
    directives = sorted(known.directives.copy().values(), key=lambda one: (one.ts, one.directive_id), reverse=True)
    return TaskPage(
        spec=spec,
        safety=safety(spec, windows, decisions, now_ms),
        serving=serving,
        seen_ts=serving.ts if serving else 0,
        chart=chart(windows, spec.window_ms),
        bars=bars(report) if report else [],
        bars_version=report.policy_version if report else None,
        outcome_table=outcome_table(report) if report else [],
        decided=decided[:MOST_DECISIONS],
        more_decided=max(0, len(decided) - MOST_DECISIONS),
        rows=row_counts(windows),
        rejections=rejections(view.rejections, [*view.rejected], spec.task),
        reports=[one.head for one in [*known.reports.copy().values()][: -MOST_REPORTS - 1 : -1]],
        directives=[_proposed(one) for one in directives[:MOST_DIRECTIVES]],
        windows=len(windows),
    )


def decided_of(decisions: list[ServingPolicy]) -> list[Decided]:
    """Say of each decision what it changed, the newest first. decisions: the oldest first."""
    before = [None, *decisions[:-1]]
    pairs = zip(decisions, before, strict=True) if decisions else ()
    return [Decided(one, _what(one, previous)) for one, previous in pairs][::-1]


def _what(now: ServingPolicy, before: ServingPolicy | None) -> str:
    if now.canary and (before is None or now.canary != before.canary):
        return f"v{now.canary.version} tried by {100.0 * now.canary.share:.0f}\u00a0% of the agents"
    if before is None or now.version != before.version:
        back = before is not None and now.version < before.version
        what = f"v{now.version} serves{' again' if back else ''}" if now.version else "nothing serves"
        return f"{what}, on hold" if now.held and not (before and before.held) else what
    if now.held != before.held:
        return "promotion on hold" if now.held else "hold released"
    if before.canary and not now.canary:
        return f"canary v{before.canary.version} ended"
    return f"v{now.version} serves on"


def _proposed(one: Directive) -> Proposed:
    value = one.text or f"{one.value:g}"
    return Proposed(one, key_of(one.change, one.target), one.previous, value, open_to(one))
