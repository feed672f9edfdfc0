"""Sampled decisions: which rows are chosen, their vectors, and their bytes."""

import struct
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from headrace.pipelines.ingest.sample import chosen, sample
from headrace.schemas.decisions import DecisionBatch, nearest, neighbours, pack, unpack, vectors_of
from headrace.schemas.errors import CorruptDataError
from headrace.schemas.records import Bounds, TaskSpec
from headrace.schemas.transition import TransitionBatch, concat
from headrace.sinks.cassandra.decisions import VECTOR, sketch

SPEC = TaskSpec(task="valve", observations=("x0", "x1"), actions=("a", "b"), window_ms=1_000)
T0 = 1_700_000_000_000


def fleet(count: int, agents: int = 7, seed: int = 0) -> TransitionBatch:
    """Rows of agents that take turns, in lock-step; without a seed nothing but agent, step and time differs."""
    number = np.arange(count)
    values = np.random.default_rng(seed).normal(scale=bool(seed), size=(count, 4)).astype(np.float32) + 0
    return TransitionBatch(
        task=SPEC.task,
        agents=tuple(f"agent-{i}" for i in range(agents)),
        episodes=("e0", "e1"),
        agent=(number % agents).astype(np.int32),
        episode=(number // agents // 100 % 2).astype(np.int32),
        step=number // agents % 100,
        ts=T0 + number // agents * 1_000,
        offset=number,
        obs=values[:, :2],
        action=(number % 2).astype(np.int32),
        reward=values[:, 2],
        next_obs=values[:, 2:],
        terminated=np.zeros(count, np.bool_),
        truncated=np.zeros(count, np.bool_),
        reward_terms=np.zeros((count, 0), np.float32),
        policy_version=np.full(count, -1),
        log_prob=values[:, 3],
    )


def keys(batches: list[TransitionBatch], every: int) -> set[tuple[object, ...]]:
    """What is sampled of batches, by key and bytes; no key comes twice."""
    sampled = [found for rows in batches if (found := sample(rows, SPEC, 0, every))]
    found = [(*key, packed) for batch in sampled for key, packed in zip(batch.keys(), pack(batch), strict=True)]
    assert len({key[:-1] for key in found}) == len(found)
    return set(found)


def plainly_chosen(rows: TransitionBatch, every: int) -> list[int]:
    """The rule row by row, in Python's own integers."""
    mask, mix, mix_again = (1 << 32) - 1, 0x85EBCA6B, 0xC2B2AE35
    found = []
    for i in range(len(rows)):
        number = int(rows.step[i]) * mix + int(rows.ts[i])
        for value in (rows.reward[i], rows.obs[i, 0], rows.obs[i, -1]):
            number = (number * mix_again & mask) ^ bits(value)
        number = (number ^ number >> 16) * mix & mask
        number = (number ^ number >> 13) * mix_again & mask
        if number < (1 << 32) // every:
            found.append(i)
    return found


def bits(value: float) -> int:
    (found,) = struct.unpack("<I", struct.pack("<f", value))
    return int(found)


@pytest.mark.parametrize(("every", "count"), [(1, 100), (7, 3_000), (64, 3_000), (300, 9_000)])
def test_the_sample_follows_the_rule(every: int, count: int) -> None:
    for seed in (0, 1):
        rows = fleet(count, seed=seed)
        assert chosen(rows, every).tolist() == plainly_chosen(rows, every)


def test_the_sample_is_the_same_for_ever() -> None:
    """An index holds what was sampled by this rule: another one is another `codec_version`."""
    assert chosen(fleet(200, seed=1), 16).tolist() == [5, 33, 41, 79, 81, 113, 149, 174, 175]


@pytest.mark.parametrize("every", [1, 2, 100, 256, 5_000])
def test_one_in_so_many_is_chosen_of_every_agent(every: int) -> None:
    """Within five standard deviations."""
    count, agents = 140_000, 7
    places = chosen(fleet(count, agents, seed=3), every)
    expected = count / every
    assert abs(len(places) - expected) <= 5 * np.sqrt(expected * (1 - 1 / every))
    by_agent = np.bincount(places % agents, minlength=agents)
    assert (abs(by_agent - expected / agents) <= 5 * np.sqrt(expected / agents * (1 - 1 / every))).all()


def test_agents_that_are_all_alike_are_chosen_together() -> None:
    """And still one row in so many: 20,000 moments are drawn."""
    places = chosen(fleet(140_000, 7), 100)
    assert (places.reshape(-1, 7) % 7 == np.arange(7)).all()
    assert abs(len(places) / 7 - 200) <= 5 * np.sqrt(200)


def test_every_row_or_none() -> None:
    rows = fleet(50)
    batch = sample(rows, SPEC, 3, 1)
    assert batch is not None
    assert batch.partition == 3
    assert batch.rows.offset.tolist() == list(range(50))
    assert batch.vectors.shape == (50, 2)
    assert sample(rows, SPEC, 3, 0) is None
    assert sample(rows.slice(0, 0), SPEC, 3, 1) is None


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(1, 599), max_size=12), every=st.sampled_from([1, 4, 100]), data=st.data())
def test_no_split_into_batches_shows(cuts: list[int], every: int, data: st.DataObject) -> None:
    """Also where a batch's agents have other codes: names are given codes as they appear."""
    whole = fleet(600, seed=1)
    parts = [whole.slice(a, b) for a, b in pairwise([0, *sorted(set(cuts)), 600])]
    parts = [renamed(part, data.draw(st.permutations(range(7)))) for part in parts]
    expected = keys([whole], every)
    assert keys(parts, every) == expected
    assert keys([concat(parts)], every) == expected


def renamed(rows: TransitionBatch, order: list[int]) -> TransitionBatch:
    """The same rows, whose agents have other codes."""
    agents = tuple(rows.agents[i] for i in order)
    return replace(rows, agents=agents, agent=np.argsort(order).astype(np.int32)[rows.agent])


def test_a_copy_is_sampled_if_the_row_is() -> None:
    """A producer that sends again sends the same, at another offset."""
    rows = fleet(1_000, seed=1)
    again = replace(rows, offset=rows.offset + 5_000, episodes=("e0", "e1"))
    assert chosen(rows, 100).tolist() == chosen(again, 100).tolist()


def test_copies_within_a_message_are_one_decision() -> None:
    """The first, in the order of the message."""
    rows = fleet(6)
    twice = concat([rows, replace(rows, reward=rows.reward + 1)])
    batch = sample(replace(twice, offset=np.full(12, 9)), SPEC, 0, 1)
    assert batch is not None
    assert batch.rows.agent.tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.rows.reward.tolist() == [0] * 6


def spec(width: int, bounds: Bounds | None = None) -> TaskSpec:
    names = tuple(f"x{i}" for i in range(width))
    return TaskSpec(task="t", observations=names, actions=("a",), window_ms=1, bounds=bounds)


def vectors(values: list[list[float]], task: TaskSpec) -> NDArray[np.float32]:
    return vectors_of(np.array(values, np.float32), task)


def test_bounded_features_become_their_place_between_the_bounds() -> None:
    """0 to 1, over the root of the width; a feature that cannot vary is no distance."""
    task = spec(4, Bounds((0, -10, 5, 0), (2, 10, 5, 1)))
    found = vectors([[0, -10, 5, 1], [1, 0, 5, 0], [2, 10, 5, 0.25]], task)
    assert found.dtype == np.float32
    assert (found * 2).tolist() == [[0, 0, 0, 1], [0.5, 0.5, 0, 0], [1, 1, 0, 0.25]]


def test_other_features_stay_within_one_and_count_doublings_beyond() -> None:
    """1 + |x| = 2^e (1 + f) becomes e + f, with the sign of x: by hand 3 -> 2, 7 -> 3, 5 -> 2.5, .5 -> .5."""
    found = vectors([[0], [0.5], [-0.5], [1], [3], [-7], [5], [1_048_575]], spec(1))
    assert found[:, 0].tolist() == [0, 0.5, -0.5, 1, 2, -3, 2.5, 20]
    assert np.isfinite(vectors([[3.4e38], [-3.4e38]], spec(1))).all()


def test_bounds_that_say_nothing_are_no_scale() -> None:
    """Gymnasium's velocities lie between the greatest floats, say."""
    task = spec(1, Bounds((-3.4e38,), (3.4e38,)))
    assert vectors([[-3], [0.25]], task)[:, 0].tolist() == [-2, 0.25]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=30))
def test_the_scale_keeps_order(values: list[float]) -> None:
    ordered = sorted(values)
    found = vectors([[x] for x in ordered], spec(1))[:, 0]
    assert (np.diff(found) >= 0).all()


def test_packed_decisions_are_read_back() -> None:
    rows = fleet(9, seed=2)
    batch = DecisionBatch(1, rows, vectors_of(rows.obs, SPEC))
    found = unpack(batch.keys(), pack(batch))
    for name in ("step", "ts", "offset", "obs", "action", "reward", "next_obs", "policy_version", "log_prob"):
        np.testing.assert_array_equal(getattr(found, name), getattr(rows, name))
    assert pack(DecisionBatch(2, found, batch.vectors)) == pack(batch)


@pytest.mark.parametrize("damaged", [b"", b"\x02\x00", b"\x07\x00\x00\x00\x00\x00" + bytes(50)])
def test_damaged_decisions_are_named(damaged: bytes) -> None:
    rows = fleet(2, seed=2)
    batch = DecisionBatch(0, rows, vectors_of(rows.obs, SPEC))
    for packed in ([pack(batch)[0], damaged], [damaged, pack(batch)[0]]):
        with pytest.raises(CorruptDataError, match="--from-start"):
            neighbours(batch.keys(), packed, batch.vectors[0], 5)


def test_equally_near_ones_come_in_log_order() -> None:
    rows = fleet(4)  # all vectors are 0
    batch = DecisionBatch(0, rows, vectors_of(rows.obs, SPEC))
    order = [2, 0, 3, 1]
    shuffled, packed = [batch.keys()[i] for i in order], [pack(batch)[i] for i in order]
    assert nearest(shuffled, packed, batch.vectors[0], 3) == [1, 3, 0]
    assert nearest([], [], batch.vectors[0], 3) == []


@pytest.mark.parametrize("width", [1, 5, 64])
def test_a_sketch_of_few_features_keeps_all(width: int) -> None:
    values = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)
    found = sketch(values)
    assert found.shape == (3, VECTOR)
    assert (found[:, :width] == values).all()
    assert not found[:, width:].any()


@pytest.mark.parametrize("width", [65, 200, 4_096])
def test_a_sketch_of_many_keeps_distances_nearly(width: int) -> None:
    """Right on average (within 3 %), each to within a half: 64 numbers give a standard deviation of an eighth."""
    values = np.random.default_rng(1).normal(size=(400, width)).astype(np.float32)
    found = sketch(values)
    kept = np.linalg.norm(found[1:] - found[:-1], axis=1) / np.linalg.norm(values[1:] - values[:-1], axis=1)
    assert 0.5 < kept.min() < kept.max() < 1.5
    assert abs(kept.mean() - 1) < 0.03
