"""What happened, window by window, the newest first: each window over all groups, or by group."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, Final

import msgspec
import numpy as np

from headrace.pipelines.query.scan import Selection
from headrace.schemas.errors import CorruptDataError
from headrace.schemas.outcomes import told
from headrace.schemas.ports import Index
from headrace.schemas.records import AgentStats, TaskSpec, WindowRow, WindowSummary

READ_WINDOWS: Final = 64
"""So many windows are read at a time, from the newest back."""
_WIDER: Final = 4


def windows(index: Index, selection: Selection, latest_ms: int, *, by_group: bool = False) -> Iterator[dict[str, Any]]:
    """Stream a task's windows, the newest first, as JSON objects; no window begins after latest_ms.

    A window is one over all groups: `agents` and `totals` are sums over them. by_group: the summaries themselves, each
    of one group and partition, with their chunks. `outcomes` are of `totals`. With an agent only the windows that it
    has rows in, and unless by_group its rows alone; a summary that is too large to name agents counts as a whole.
    """
    for start_ms, rows in _newest_first(index, selection, latest_ms):
        summaries = [summary for summary in map(decoded, rows) if _wanted(summary, selection)]
        if by_group:
            yield from (_with_outcomes(summary, summary.totals, selection.spec) for summary in summaries)
        elif summaries:
            yield _over_groups(start_ms, summaries, selection)


def decoded(row: WindowRow) -> WindowSummary:
    """Return a window's summary; raises CorruptDataError, which names it."""
    try:
        return msgspec.json.decode(row.summary, type=WindowSummary)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        k = row.key
        raise CorruptDataError(
            f"window {k.task}/{k.group}/{k.start_ms}/{k.partition}: its summary is damaged ({error}): `headrace run "
            "ingest --from-start` writes it again, if the log still holds its rows"
        ) from error


def _newest_first(index: Index, selection: Selection, latest_ms: int) -> Iterator[tuple[int, list[WindowRow]]]:
    task, window_ms = selection.spec.task, selection.spec.window_ms
    low = 0 if selection.start_ms is None else selection.start_ms
    high = latest_ms + 1 if selection.end_ms is None else selection.end_ms
    while (newest := newest_start(index, task, low, high, window_ms)) is not None:
        first = max(low, newest - (READ_WINDOWS - 1) * window_ms)
        found: dict[int, list[WindowRow]] = defaultdict(list)
        for row in index.windows(task, first, newest + 1):
            found[row.key.start_ms].append(row)
        yield from sorted(found.items(), reverse=True)
        high = first


def newest_start(index: Index, task: str, low: int, high: int, window_ms: int) -> int | None:
    """Return the greatest start of a task's windows in low <= start < high, None without any; looks from the end."""
    span = READ_WINDOWS * window_ms
    while not any(index.windows(task, max(low, high - span), high)):
        high -= span
        span *= _WIDER
        if high <= low:
            return None
    low = max(low, high - span)
    while high - low > window_ms:
        middle = (low + high) // 2
        low, high = (middle, high) if any(index.windows(task, middle, high)) else (low, middle)
    return next(index.windows(task, low, high)).key.start_ms


def _wanted(summary: WindowSummary, selection: Selection) -> bool:
    agent = selection.agent_id
    if agent is None:
        return True
    named = {one.agent_id for one in summary.agents}
    return summary.group == selection.group and (not named or agent in named)


def _over_groups(start_ms: int, summaries: Sequence[WindowSummary], selection: Selection) -> dict[str, Any]:
    first, agent_id = summaries[0], selection.agent_id
    parts: dict[str, list[AgentStats]] = defaultdict(list)
    for summary in summaries:
        for agent in summary.agents:
            if agent_id in {None, agent.agent_id}:
                parts[agent.agent_id].append(agent)
    agents = [reduce(plus, parts[name]) for name in sorted(parts)]
    everything = all(summary.agents for summary in summaries)
    totals = reduce(plus, agents if everything else [summary.totals for summary in summaries])
    window = {
        "task": first.task,
        "start_ms": start_ms,
        "end_ms": first.end_ms,
        "groups": len({summary.group for summary in summaries}),
        "rows": totals.rows,
        "duplicates": sum(summary.duplicates for summary in summaries),
        "totals": msgspec.to_builtins(msgspec.structs.replace(totals, agent_id=""), str_keys=True),
        "agents": msgspec.to_builtins(agents if everything else [], str_keys=True),
    }
    return _with_outcomes(window, totals, selection.spec)


def _with_outcomes(window: object, totals: AgentStats, spec: TaskSpec) -> dict[str, Any]:
    """Return a window as a JSON object, with the outcomes by name where the task declares any."""
    found: dict[str, Any] = msgspec.to_builtins(window, str_keys=True)
    return found | ({"outcomes": told(spec, totals)} if spec.outcomes else {})


def plus(one: AgentStats, other: AgentStats) -> AgentStats:
    """Return the stats of both's rows, under the first's name."""
    versions = one.policy_versions | {
        version: one.policy_versions.get(version, 0) + rows for version, rows in other.policy_versions.items()
    }
    return AgentStats(
        one.agent_id,
        one.rows + other.rows,
        one.reward_sum + other.reward_sum,
        min(one.reward_min, other.reward_min),
        max(one.reward_max, other.reward_max),
        tuple(np.add(one.reward_terms, other.reward_terms).tolist()),
        tuple(np.add(one.actions, other.actions).tolist()),
        one.episode_ends + other.episode_ends,
        versions,
        min(one.first_offset, other.first_offset),
        max(one.last_offset, other.last_offset),
        tuple(np.add(one.outcomes, other.outcomes).tolist()),
        tuple(map(sum, zip(one.outcome_rows, other.outcome_rows, strict=True))),
    )
