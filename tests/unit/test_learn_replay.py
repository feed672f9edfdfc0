"""The replay ring: what it keeps, in which places, and what it draws."""

import numpy as np
import pytest

from headrace.learners.dqn.replay import Batch, ReplayBuffer


def transitions(start, stop):
    """Rows whose every column tells their number."""
    number = np.arange(start, stop)
    obs = np.stack([number, number + 0.5], axis=1).astype(np.float32)
    return Batch(obs, number % 5, number.astype(np.float32), obs + 1, number % 2 == 0)


def kept(buffer):
    """The numbers of the rows in the buffer, by place."""
    return buffer._columns.reward[: len(buffer)].astype(int).tolist()


def test_rows_wrap_around_and_overwrite_the_oldest():
    """Capacity 5: rows 0-3, then 4-6 put 5 and 6 in the places of 0 and 1."""
    buffer = ReplayBuffer(5, 2)
    buffer.add(transitions(0, 4))
    assert (len(buffer), kept(buffer)) == (4, [0, 1, 2, 3])
    buffer.add(transitions(4, 7))
    assert (len(buffer), buffer.added, kept(buffer)) == (5, 7, [5, 6, 2, 3, 4])


@pytest.mark.parametrize("sizes", [[23], [1] * 23, [3, 5, 7, 8], [7, 0, 16], [20, 3]])
def test_contents_do_not_depend_on_how_rows_were_batched(sizes):
    """However 23 rows arrive, row n lies in place n mod 7; more than 7 at once included."""
    buffer, start = ReplayBuffer(7, 2), 0
    for size in sizes:
        buffer.add(transitions(start, start + size))
        start += size
    assert kept(buffer) == [21, 22, 16, 17, 18, 19, 20]
    assert buffer.added == 23


def test_columns_of_a_drawn_row_belong_together():
    """Every column of a sampled row is that of one transition, in its dtype."""
    buffer = ReplayBuffer(50, 2)
    buffer.add(transitions(0, 80))
    batch = buffer.sample(np.random.default_rng(0), 500)
    number = batch.reward.astype(int)
    expected = [column[number] for column in transitions(0, 80)[:5]]
    assert batch.steps is None
    for column, values in zip(batch[:5], expected, strict=True):
        np.testing.assert_array_equal(column, values)
        assert column.flags.c_contiguous
    assert set(number) == set(range(30, 80))
    assert [str(column.dtype) for column in batch[:5]] == ["float32", "int64", "float32", "float32", "bool"]


def test_equal_generators_draw_equal_rows():
    """The draw depends on the generator and the contents alone."""
    buffer = ReplayBuffer(50, 2)
    buffer.add(transitions(0, 20))
    first, second = (buffer.sample(np.random.default_rng(5), 8).reward.tolist() for _ in range(2))
    assert first == second
    assert first != buffer.sample(np.random.default_rng(6), 8).reward.tolist()


def test_a_sample_is_a_copy():
    """Writing into a sample leaves the buffer as it was."""
    buffer = ReplayBuffer(4, 2)
    buffer.add(transitions(0, 4))
    buffer.sample(np.random.default_rng(0), 4).reward[:] = -1
    assert kept(buffer) == [0, 1, 2, 3]


def test_misuse_is_refused():
    """An empty buffer, columns of unequal length, another width, no room."""
    buffer = ReplayBuffer(4, 2)
    with pytest.raises(ValueError, match="empty"):
        buffer.sample(np.random.default_rng(0), 1)
    rows = transitions(0, 3)
    with pytest.raises(ValueError, match=r"reward: expected shape \(3,\), got \(2,\)"):
        buffer.add(rows._replace(reward=rows.reward[:2]))
    with pytest.raises(ValueError, match=r"obs: expected shape \(3, 2\), got \(3, 1\)"):
        buffer.add(rows._replace(obs=rows.obs[:, :1]))
    with pytest.raises(ValueError, match="positive"):
        ReplayBuffer(0, 2)
    assert len(buffer) == 0
