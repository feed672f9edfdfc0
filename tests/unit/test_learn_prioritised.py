"""Prioritised replay: the tree's sums, what is drawn and how often, and weights that undo the bias."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.learners.dqn.prioritised import PrioritisedReplay, SumTree
from headrace.learners.dqn.replay import Batch


def transitions(start, stop):
    number = np.arange(start, stop)
    obs = np.stack([number, number + 0.5], axis=1).astype(np.float32)
    return Batch(obs, number % 5, number.astype(np.float32), obs + 1, number % 2 == 0)


@given(
    st.integers(1, 5_000),
    st.lists(st.tuples(st.integers(0, 10**6), st.floats(0.0, 10.0)), min_size=1, max_size=60),
    st.integers(0, 2**32 - 1),
)
def test_the_tree_finds_what_a_running_sum_finds(capacity, writes, seed):
    """Whatever was written, and where: the place at which the plain running sum passes the target."""
    tree, plain = SumTree(capacity), np.zeros(capacity)
    for place, weight in writes:
        tree.set(np.array([place % capacity]), np.array([weight]))
        plain[place % capacity] = weight
    np.testing.assert_allclose(tree.total, plain.sum(), atol=1e-9)
    if plain.sum() > 1e-6:
        targets = np.random.default_rng(seed).random(50) * plain.sum() * (1 - 1e-9)
        found = tree.find(targets)
        sums = plain.cumsum()
        assert (found < capacity).all()
        assert (sums[found] >= targets - 1e-6).all()
        assert (sums[found] - plain[found] <= targets + 1e-6).all()


def test_many_places_at_once_equal_one_by_one():
    """Also where a place comes twice: the last weight stands."""
    rng = np.random.default_rng(0)
    places, weights = rng.integers(3_000, size=500), rng.random(500)
    at_once, one_by_one = SumTree(3_000), SumTree(3_000)
    at_once.set(places, weights)
    for place, weight in zip(places, weights, strict=True):
        one_by_one.set(np.array([place]), np.array([weight]))
    np.testing.assert_allclose(at_once.nodes, one_by_one.nodes, rtol=1e-12)


def test_rows_are_drawn_in_proportion_to_their_priority():
    """100,000 draws of 40 rows, by chi-square against (error + floor) ** alpha."""
    memory = PrioritisedReplay(64, 2, exponent=0.7, floor=0.01)
    memory.add(transitions(0, 40))
    errors = np.random.default_rng(1).exponential(size=40)
    memory.reprioritise(np.arange(40), errors)
    rng = np.random.default_rng(2)
    counts = np.zeros(40)
    for _ in range(100):
        counts += np.bincount(memory.sample(rng, 1_000, 1.0).places, minlength=40)
    expected = (errors + 0.01) ** 0.7
    expected *= 100_000 / expected.sum()
    # Draws are one from each share, so their counts vary less than independent ones would.
    assert (np.square(counts - expected) / expected).sum() < 72.1  # p = .001 at 39 degrees of freedom
    assert counts.max() > 3 * counts.min()


def test_weights_undo_the_bias():
    """With beta 1 the weighted mean of any column is its plain mean over the buffer."""
    memory = PrioritisedReplay(64, 2)
    memory.add(transitions(0, 64))
    memory.reprioritise(np.arange(64), np.random.default_rng(1).exponential(size=64))
    rng, total, weights = np.random.default_rng(2), 0.0, 0.0
    for _ in range(300):
        drawn = memory.sample(rng, 256, 1.0)
        scale = 1.0 / drawn.weight.min()  # weights are relative to each draw's greatest
        del scale
        chances = (memory._tree.nodes[64 + drawn.places]) / memory._tree.total
        np.testing.assert_allclose(drawn.weight, (chances.min() / chances).astype(np.float32), rtol=1e-5)
        total += (drawn.batch.reward / chances).sum()
        weights += (1.0 / chances).sum()
    assert total / weights == pytest.approx(31.5, abs=0.5)


def test_new_rows_come_first_and_overwritten_ones_never():
    """A new row has the greatest priority so far; a place taken over has its new row's."""
    memory = PrioritisedReplay(4, 2)
    memory.add(transitions(0, 4))
    memory.reprioritise(np.arange(4), np.array([0.0, 5.0, 0.0, 0.0]))
    memory.add(transitions(4, 5))
    drawn = memory.sample(np.random.default_rng(0), 1_000, 0.5)
    shares = np.bincount(drawn.places, minlength=4) / 1_000
    assert shares[0] == pytest.approx(shares[1], abs=0.02)
    assert set(drawn.batch.reward.tolist()) <= {4.0, 1.0, 2.0, 3.0}


def test_equal_generators_draw_equal_rows_and_an_empty_one_none():
    memory = PrioritisedReplay(50, 2)
    with pytest.raises(ValueError, match="empty"):
        memory.sample(np.random.default_rng(0), 1, 1.0)
    memory.add(transitions(0, 70))
    first, second = (memory.sample(np.random.default_rng(5), 8, 0.4) for _ in range(2))
    np.testing.assert_array_equal(first.places, second.places)
    assert first.weight.max() == 1.0
