"""What every index does with sampled decisions: the nearest of a task come first, as they were put, each once."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from contract_chunks import START_MS, chunk
from numpy.typing import NDArray

from headrace.schemas.decisions import DecisionBatch, Neighbours
from headrace.schemas.ports import Index
from headrace.schemas.transition import COLUMNS, TransitionBatch
from headrace.sinks.sqlite.index import SqliteIndex

OpenIndex = Callable[[], Index]

EVERYTHING = 20
"""Decisions of a small test, of which an approximate answer has all."""


def decisions(task: str, vectors: NDArray[np.float32], first: int = 0, partition: int = 0) -> DecisionBatch:
    """One decision a vector, offsets and steps from `first` on; its reward is its step."""
    count, width = vectors.shape
    number = np.arange(first, first + count)
    random = np.random.default_rng(first)
    rows = TransitionBatch(
        task=task,
        agents=("agent-2", "agent-1"),
        episodes=("e-1", "e-0"),
        agent=(number % 2).astype(np.int32),
        episode=(number // 2 % 2).astype(np.int32),
        step=number,
        ts=START_MS + number * 1_000,
        offset=number,
        obs=random.normal(size=(count, width)).astype(np.float32),
        action=(number % 3).astype(np.int32),
        reward=number.astype(np.float32),
        next_obs=random.normal(size=(count, width)).astype(np.float32),
        terminated=number % 5 == 0,
        truncated=number % 7 == 0,
        reward_terms=random.normal(size=(count, 2)).astype(np.float32),
        policy_version=number % 4 - 1,
        log_prob=np.where(number % 2, np.nan, -0.5).astype(np.float32),
    )
    return DecisionBatch(partition, rows, vectors)


def put(index: Index, *batches: DecisionBatch) -> None:
    index.decisions.put(batches)
    index.flush()


def similar(index: Index, task: str, vector: NDArray[np.float32], limit: int = EVERYTHING) -> Neighbours:
    found = index.decisions.similar(task, vector, limit)
    assert found is not None
    return found


def line(*places: float) -> NDArray[np.float32]:
    """Vectors on a line through the plane: a place x lies at (3x, 4x), 5x from 0."""
    return np.array([[3 * x, 4 * x] for x in places], np.float32)


def test_the_nearest_come_first_with_their_distances(open_index: OpenIndex, name: str) -> None:
    index = open_index()
    put(index, decisions(name, line(2, -1, 0.5, 7)))
    for handle in (index, open_index()):
        found = similar(handle, name, line(0)[0])
        assert found.rows.step.tolist() == [2, 1, 0, 3]
        np.testing.assert_allclose(found.distances, [2.5, 5, 10, 35])
        assert similar(handle, name, line(6)[0], 2).rows.step.tolist() == [3, 0]


@pytest.mark.parametrize("continuous", [False, True])
def test_a_decision_comes_back_as_it_was_put(index: Index, name: str, *, continuous: bool) -> None:
    batch = decisions(name, line(*range(1, 13)))
    if continuous:
        action = np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)
        batch = replace(batch, rows=replace(batch.rows, action=action))
    put(index, batch)
    found, wanted = similar(index, name, line(0)[0]).rows, batch.rows
    assert found.task == name
    for column in set(COLUMNS) - {"agent", "episode"}:
        np.testing.assert_array_equal(getattr(found, column), getattr(wanted, column), column)
        assert getattr(found, column).dtype == getattr(wanted, column).dtype
    for names, codes in (("agents", "agent"), ("episodes", "episode")):
        told = [[getattr(rows, names)[code] for code in getattr(rows, codes)] for rows in (found, wanted)]
        assert told[0] == told[1]


def test_the_same_put_again_changes_nothing(open_index: OpenIndex, name: str) -> None:
    """By the process itself, in other batches, or by another that is behind."""
    index, zombie = open_index(), open_index()
    batch = decisions(name, line(*range(6)))
    put(index, batch)
    parts = [DecisionBatch(0, batch.rows.slice(a, b), batch.vectors[a:b]) for a, b in ((0, 1), (1, 4), (2, 6))]
    put(zombie, *parts, batch)
    assert similar(index, name, line(0)[0]).rows.step.tolist() == list(range(6))


def test_a_task_has_its_own(index: Index, name: str) -> None:
    """Also where its vectors have another width."""
    put(index, decisions(name, line(1, 2)), decisions(f"{name}-b", np.ones((3, 7), np.float32)))
    assert len(similar(index, name, line(0)[0]).rows) == 2
    assert len(similar(index, f"{name}-b", np.zeros(7, np.float32)).rows) == 3
    assert index.decisions.similar(f"{name}-c", line(0)[0], 5) is None


def test_of_a_decision_that_was_sent_twice_the_first_is_meant(index: Index, name: str) -> None:
    """A producer sent it again: it lies at a later offset."""
    batch = decisions(name, line(1, 2, 3))
    again = replace(batch.rows, offset=batch.rows.offset + 100)
    put(index, DecisionBatch(0, again, batch.vectors))
    put(index, batch)
    found = similar(index, name, line(0)[0])
    assert list(zip(found.rows.step.tolist(), found.rows.offset.tolist(), strict=True)) == [(0, 0), (1, 1), (2, 2)]


def test_one_message_may_hold_many(index: Index, name: str) -> None:
    """Rows of one offset, of several agents, episodes, steps and times."""
    batch = decisions(name, line(*range(8)))
    put(index, replace(batch, rows=replace(batch.rows, offset=np.full(8, 5))))
    put(index, decisions(name, line(8, 9), first=8, partition=3))
    assert len(similar(index, name, line(0)[0]).rows) == 10


def test_decisions_and_chunks_are_flushed_together(open_index: OpenIndex, name: str) -> None:
    index = open_index()
    index.put([chunk(name)], [])
    index.decisions.put([decisions(name, line(1))])
    index.flush()
    reader = open_index()
    assert len(list(reader.scan(name))) == 1
    assert len(similar(reader, name, line(0)[0]).rows) == 1
    index.decisions.put([])
    index.flush()


@pytest.mark.parametrize(("width", "recall"), [(4, 0.9), (32, 0.9), (64, 0.9), (256, 0.5)])
def test_most_of_the_nearest_are_found(index: Index, name: str, width: int, recall: float) -> None:
    """Recall of the ten nearest among 2,000, in clusters as real states lie: 1 where the answer is exact.

    Vectors wider than 64 are sketched in Cassandra, and lose more.
    """
    random = np.random.default_rng(width)
    centres = random.normal(size=(20, width))
    vectors = (centres[random.integers(20, size=2_000)] + 0.3 * random.normal(size=(2_000, width))).astype(np.float32)
    vectors /= np.sqrt(np.float32(width))
    for start in range(0, 2_000, 250):
        put(index, decisions(name, vectors[start : start + 250], first=start))
    found, wanted = 0, 0
    for asked in vectors[::100] + np.float32(0.01):
        distances = np.linalg.norm(vectors.astype(np.float64) - asked, axis=1)
        nearest = np.argsort(distances)[:10]
        answer = similar(index, name, asked, 10)
        np.testing.assert_allclose(answer.distances, distances[answer.rows.step], rtol=1e-4)
        assert (np.diff(answer.distances) >= 0).all()
        found += len(set(answer.rows.step.tolist()) & set(nearest.tolist()))
        wanted += 10
    print(f"recall at 10, width {width}: {found / wanted:.3f}")
    assert found / wanted >= (1.0 if isinstance(index, SqliteIndex) else recall)


def test_an_index_of_before_gets_the_table(tmp_path_factory: pytest.TempPathFactory) -> None:
    """SQLite: a file that was made when there were no decisions takes some."""
    path = tmp_path_factory.mktemp("old") / "index.db"
    with closing(SqliteIndex(path)) as index, index._writer.transaction("go back") as connection:
        connection.execute("DROP TABLE decisions")
    with closing(SqliteIndex(path)) as index:
        put(index, decisions("t", line(1)))
        assert len(similar(index, "t", line(0)[0]).rows) == 1


def test_decisions_before_a_time_are_forgotten(index: Index, name: str) -> None:
    vectors = np.eye(6, 4, dtype=np.float32)
    put(index, decisions(name, vectors), decisions(f"{name}-b", vectors))
    for remove in (False, True):
        assert index.forget(name, START_MS + 4_000, remove=remove).decisions == 4
    assert sorted(similar(index, name, vectors[0]).rows.step.tolist()) == [4, 5]
    assert len(similar(index, f"{name}-b", vectors[0]).rows) == 6
