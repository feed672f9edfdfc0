import numpy as np
import pytest
from codec_examples import check, message, row_values

from headrace.schemas.transition import COLUMNS, concat


@pytest.fixture
def batch():
    return check([message(agent_id=f"a{i % 3}", episode_id=f"e{i % 2}", step=i) for i in range(10)]).batches[0]


def test_columns_have_a_row_each(batch):
    assert len(batch) == 10
    assert {len(getattr(batch, name)) for name in COLUMNS} == {10}


@pytest.mark.parametrize("rows", [[], [3], [9, 0, 0, 4]])
def test_take_positions(batch, rows):
    taken = batch.take(np.array(rows, np.int64))
    assert row_values(taken) == [row_values(batch)[i] for i in rows]


def test_take_mask(batch):
    taken = batch.take(batch.step % 4 == 1)
    assert row_values(taken) == [row_values(batch)[i] for i in (1, 5, 9)]


def test_slice_is_a_view(batch):
    part = batch.slice(2, 5)
    assert row_values(part) == row_values(batch)[2:5]
    assert part.obs.base is not None


def test_concat(batch):
    """Rows follow each other; names that differ in order and number find one dictionary."""
    other = check([message(agent_id=n, episode_id="e9") for n in ("z", "a2", "a0")]).batches[0]
    joined = concat([batch, other, batch])
    assert row_values(joined) == row_values(batch) + row_values(other) + row_values(batch)
    assert joined.agents == ("a0", "a1", "a2", "z")
    assert concat([batch]) is batch


def test_concat_of_two_tasks_is_refused(batch):
    other = check([message("dial")]).batches[0]
    with pytest.raises(AssertionError):
        concat([batch, other])
