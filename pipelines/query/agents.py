"""Who has sent what: a task's agents, and why a question about them has no answer."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from headrace.pipelines.query.progress import lag_of
from headrace.pipelines.query.scan import Selection
from headrace.pipelines.query.windows import plus
from headrace.pipelines.topics import INGEST, TRANSITIONS
from headrace.schemas.chunk import agent_stats, decode_stats
from headrace.schemas.ports import Index, Log
from headrace.schemas.reasons import did_you_mean
from headrace.schemas.records import AgentStats

LOOKED_AT: Final = 20_000
"""So many chunks are looked at for the names of agents, where the one that is asked for is unknown."""
_NAMES: Final = 5


@dataclass(slots=True)
class Seen:
    """What an agent has sent. first_ms, last_ms: the starts of its first window and its last."""

    stats: AgentStats
    first_ms: int
    last_ms: int


def agents(index: Index, selection: Selection) -> Iterator[dict[str, Any]]:
    """Give a task's agents by name, as JSON objects: what they have sent, in windows that are open as well."""
    seen = _seen(index, selection, None)
    for name in sorted(seen):
        if selection.agent_id in {None, name}:
            one, stats = seen[name], seen[name].stats
            yield {
                "agent_id": name,
                "rows": stats.rows,
                "mean_reward": stats.reward_sum / stats.rows,
                "episode_ends": stats.episode_ends,
                "policy_versions": {str(version): rows for version, rows in sorted(stats.policy_versions.items())},
                "first_ms": one.first_ms,
                "last_ms": one.last_ms,
            }


def _seen(index: Index, selection: Selection, limit: int | None) -> dict[str, Seen]:
    seen: dict[str, Seen] = {}
    spec = selection.spec
    rows = index.scan(spec.task, selection.start_ms, selection.end_ms, group=selection.group, payload=False)
    for row in islice(rows, limit):
        start_ms = row.key.start_ms
        for stats in agent_stats(decode_stats(row.stats, row.key)):
            known = seen.setdefault(stats.agent_id, Seen(stats, start_ms, start_ms))
            if known.stats is not stats:
                known.stats = plus(known.stats, stats)
                known.first_ms, known.last_ms = min(known.first_ms, start_ms), max(known.last_ms, start_ms)
    return seen


def why_empty(log: Log, index: Index, selection: Selection, what: str) -> str:
    """Say why nothing was found, and what to do. what: windows, chunks, transitions or agents."""
    spec = selection.spec
    first = next(index.scan(spec.task, payload=False), None)
    if first is None:
        return _nothing_indexed(log, spec.task)
    if selection.agent_id is not None:
        names = [*_seen(index, Selection(spec), LOOKED_AT)]
        if selection.agent_id not in names:
            known = ", ".join(sorted(names)[:_NAMES]) + (", ..." if len(names) > _NAMES else "")
            meant = did_you_mean(selection.agent_id, names)
            return (
                f"{spec.task} has no rows of an agent {selection.agent_id!r}{meant} Known: {known} "
                f"(`headrace query agents --task {spec.task}`)"
            )
    if selection.start_ms is not None or selection.end_ms is not None:
        return f"{spec.task} has no {what} in that time: leave --from and --to out to see those that there are"
    return (
        f"the rows of {spec.task} wait in open windows: one closes when its partition's newest event is "
        f"{spec.window_ms} ms and the grace beyond its start; `headrace produce --close`, or more rows, move time on, "
        "and `headrace run ingest` takes that in"
    )


def _nothing_indexed(log: Log, task: str) -> str:
    waiting = sum(one.behind for one in lag_of(log, INGEST, TRANSITIONS))
    if waiting:
        return f"the index has no rows of {task} yet, and {waiting} messages wait on the log: `headrace run ingest`"
    return (
        f"the index has no rows of {task}, and no message waits on the log: send some (`headrace produce FILE`), or "
        "see what was refused (`headrace rejected summary`)"
    )
