"""Windows as people ask for them: the newest first whatever lies between, over all groups or by group, by agent."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from headrace.pipelines.query.scan import Selection
from headrace.pipelines.query.windows import newest_start, windows
from headrace.schemas.errors import CorruptDataError
from headrace.schemas.partition import group_of
from headrace.schemas.records import AgentStats, Outcome, Share, Source, TaskSpec, WindowKey, WindowRow, WindowSummary
from headrace.sinks.sqlite.index import SqliteIndex

SPEC = TaskSpec(task="valve", observations=("x",), actions=("a", "b"), window_ms=1_000, groups=4)
A, B = "a0", "a1"
GROUP = {name: group_of(name, 4) for name in (A, B)}
assert GROUP[A] != GROUP[B]
NOW_MS = 1_800_000_000_000
STARTS = [0, 7_000, 1_000_000_000_000, 1_000_000_001_000, *range(1_700_000_000_000, 1_700_000_300_000, 1_000)]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SqliteIndex]:
    with closing(SqliteIndex(tmp_path / "index.db")) as index:
        yield index


def stats(name: str, rows: int, reward: float = 1.0, version: int = 1) -> AgentStats:
    return AgentStats(name, rows, rows * reward, reward, reward, (2.0,), (rows, 0), 1, {version: rows}, rows, rows + 9)


def summary(start_ms: int, agents: list[AgentStats], partition: int = 0, totals: AgentStats | None = None) -> WindowRow:
    whole = totals or msgspec.structs.replace(agents[0], agent_id="")
    group = GROUP[agents[0].agent_id] if agents else 3
    key = WindowKey("valve", group, start_ms, partition)
    told = WindowSummary("valve", group, partition, start_ms, start_ms + 1_000, whole.rows, 1, whole, agents, [])
    return WindowRow(key, start_ms * 1000 + whole.rows, msgspec.json.encode(told))


def put(index: SqliteIndex, *rows: WindowRow) -> None:
    index.put([], rows)
    index.flush()


def starts(index: SqliteIndex, **only: int) -> list[int]:
    return [found["start_ms"] for found in windows(index, Selection(SPEC, **only), NOW_MS)]


def test_the_newest_come_first_over_any_gap(index: SqliteIndex) -> None:
    put(index, *(summary(start, [stats(A, 5)]) for start in STARTS))
    assert starts(index) == STARTS[::-1]
    assert starts(index, end_ms=1_000_000_001_000) == [1_000_000_000_000, 7_000, 0]
    assert starts(index, start_ms=1, end_ms=1_700_000_000_001) == STARTS[1:5][::-1]
    assert starts(index, start_ms=8_000, end_ms=1_000_000_000_000) == []
    assert newest_start(index, "valve", 0, 7_000, 1_000) == 0
    assert newest_start(index, "other", 0, NOW_MS, 1_000) is None


def test_a_window_is_the_sum_over_groups_and_partitions(index: SqliteIndex) -> None:
    put(
        index,
        summary(0, [stats(A, 5)]),
        summary(0, [stats(B, 3, -2.0)]),
        summary(0, [stats(A, 2, 4.0, 2)], partition=1),
    )
    (found,) = windows(index, Selection(SPEC), NOW_MS)
    assert (found["rows"], found["duplicates"], found["groups"]) == (10, 3, 2)
    totals = found["totals"]
    assert (totals["reward_sum"], totals["reward_min"], totals["reward_max"]) == (5 - 6 + 8, -2.0, 4.0)
    assert (totals["actions"], totals["reward_terms"], totals["episode_ends"]) == ((10, 0), (6.0,), 3)
    assert totals["policy_versions"] == {"1": 8, "2": 2}
    assert [(agent["agent_id"], agent["rows"]) for agent in found["agents"]] == [(A, 7), (B, 3)]
    by_group = list(windows(index, Selection(SPEC), NOW_MS, by_group=True))
    assert sorted((one["group"], one["partition"], one["rows"]) for one in by_group) == sorted(
        [(GROUP[A], 0, 5), (GROUP[B], 0, 3), (GROUP[A], 1, 2)]
    )


def test_of_an_agent_its_rows_alone(index: SqliteIndex) -> None:
    put(index, summary(0, [stats(B, 3)]), summary(1_000, [stats(A, 5)]), summary(1_000, [stats(B, 3)]))
    (found,) = windows(index, Selection(SPEC, A), NOW_MS)
    assert (found["start_ms"], found["rows"]) == (1_000, 5)
    assert list(windows(index, Selection(SPEC, "nobody"), NOW_MS)) == []


def test_a_window_of_too_many_agents_counts_as_a_whole(index: SqliteIndex) -> None:
    put(index, summary(0, [stats(A, 5)]), summary(0, [], totals=stats("", 5_000)))
    (found,) = windows(index, Selection(SPEC), NOW_MS)
    assert (found["rows"], found["agents"]) == (5_005, [])


def test_a_damaged_summary_is_named_with_its_remedy(index: SqliteIndex) -> None:
    row = summary(0, [stats(A, 5)])
    for damaged in (row.summary[:30], b"\xff" + row.summary[1:], b"{}"):
        index.replace([], [msgspec.structs.replace(row, summary=damaged)])
        with pytest.raises(CorruptDataError, match=rf"window valve/{GROUP[A]}/0/0: .*--from-start"):
            list(windows(index, Selection(SPEC), NOW_MS))


def test_outcomes_are_told_by_name_over_groups_and_by_group(index: SqliteIndex) -> None:
    slow = Outcome("slow", "%", "lower", Source(observation="x"), Share(share_above=1.0))
    spec = msgspec.structs.replace(SPEC, outcomes=(slow, msgspec.structs.replace(slow, name="none", measure="mean")))
    one, other = (
        msgspec.structs.replace(stats(name, rows), outcomes=(float(count), 0.0), outcome_rows=(rows, 0))
        for name, rows, count in ((A, 6, 1), (B, 4, 4))
    )
    put(index, summary(0, [one]), summary(0, [other]))
    (found,) = windows(index, Selection(spec), NOW_MS)
    assert found["outcomes"] == {"slow": 50.0}
    assert found["totals"]["outcome_rows"] == (10, 0)
    by_group = windows(index, Selection(spec), NOW_MS, by_group=True)
    assert sorted(one["outcomes"]["slow"] for one in by_group) == [pytest.approx(100 / 6), 100.0]
    (alone,) = windows(index, Selection(spec, agent_id=B), NOW_MS)
    assert alone["outcomes"] == {"slow": 100.0}
    assert "outcomes" not in next(windows(index, Selection(SPEC), NOW_MS))
