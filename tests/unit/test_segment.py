"""Segments are grouped into chunks as a plain loop groups them, however their rows came in."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from chunk_examples import plain_stats, random_rows
from codec_examples import row_values
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.pipelines.ingest.segment import encode_parts, group_rows
from headrace.schemas.chunk import PART_ROWS, agent_stats, decode_chunk, decode_stats, encode_chunk
from headrace.schemas.partition import group_of
from headrace.schemas.records import Bounds, ChunkKey, TaskSpec
from headrace.schemas.transition import concat

SPEC = TaskSpec(
    task="valve", observations=("a", "b"), actions=("a", "b", "c"), window_ms=700, groups=3, reward_terms=("s", "t")
)
seeds = st.integers(0, 2**32 - 1)


def segment_rows(rng, count, agents=4, steps=6, windows=3):
    """Rows in log order, with late ones and duplicates."""
    rows = random_rows(rng, count, agents=agents)
    return replace(
        rows,
        step=rng.integers(0, steps, count),
        ts=1_000_000 + rng.integers(0, windows * SPEC.window_ms, count),
        offset=np.sort(rng.integers(64, 128, count)),
    )


def plain_parts(rows, spec, part_rows=PART_ROWS):
    """The oracle: (key, positions of the rows kept, rows received), by a loop over the rows."""
    chunks = {}
    for i in range(len(rows)):
        group = group_of(rows.agents[rows.agent[i]], spec.groups)
        chunks.setdefault((group, int(rows.ts[i]) // spec.window_ms * spec.window_ms), []).append(i)
    out = []
    for (group, start_ms), positions in sorted(chunks.items()):
        seen, parts = set(), []
        for i in positions:
            identity = (int(rows.agent[i]), int(rows.episode[i]), int(rows.step[i]))
            fresh = identity not in seen
            seen.add(identity)
            if fresh and (not parts or len(parts[-1][0]) == part_rows):
                parts.append(([], 0))
            kept, received = parts[-1]
            parts[-1] = (kept + [i] * fresh, received + 1)
        for number, (kept, received) in enumerate(parts):
            out.append((ChunkKey(spec.task, group, start_ms, 5, 64, number), kept, received))
    return out


def parts_of(rows, spec=SPEC, before=None):
    return encode_parts(group_rows(rows, spec, 5, 64), spec, before or {})


def assert_as_the_oracle(rows, spec=SPEC):
    parts, expected = parts_of(rows, spec), plain_parts(rows, spec)
    assert [part.row.key for part in parts] == [key for key, _, _ in expected]
    actions = len(spec.actions) if spec.discrete else 0
    for part, (_, kept, received) in zip(parts, expected, strict=True):
        own = rows.take(np.array(kept))
        assert (part.row.rows, part.row.received) == (len(kept), received)
        assert (part.row.payload, part.row.checksum) == encode_chunk(own)
        assert row_values(decode_chunk(part.row.payload, part.row.checksum, "part")) == row_values(own)
        stats = agent_stats(decode_stats(part.row.stats))
        assert stats == agent_stats(part.stats) == plain_stats(own, actions)


@settings(max_examples=80, deadline=None)
@given(seeds)
def test_groups_as_a_loop_groups(seed):
    """Groups, windows, duplicates, received counts, payloads, checksums and stats are those of a plain loop."""
    rng = np.random.default_rng(seed)
    assert_as_the_oracle(segment_rows(rng, int(rng.integers(1, 120))))


def test_rising_steps():
    """The common case, where each episode's steps rise: nothing is dropped."""
    rng = np.random.default_rng(0)
    rows = replace(segment_rows(rng, 200), step=np.arange(200))
    assert_as_the_oracle(rows)
    assert sum(part.row.rows for part in parts_of(rows)) == 200


def test_continuous_actions():
    rng = np.random.default_rng(0)
    spec = TaskSpec(
        task="valve",
        observations=("a", "b"),
        actions=Bounds((-9.0, -9.0), (9.0, 9.0)),
        window_ms=700,
        groups=3,
        reward_terms=("s", "t"),
    )
    rows = segment_rows(rng, 60)
    assert_as_the_oracle(replace(rows, action=rng.normal(size=(60, 2)).astype(np.float32)), spec)


@pytest.mark.parametrize("count", [PART_ROWS - 1, PART_ROWS, PART_ROWS + 1, 2 * PART_ROWS + 7])
def test_parts(count):
    """A chunk is cut after each 4,096 rows kept; a dropped row counts to the part of the row kept before it."""
    rng = np.random.default_rng(0)
    rows = segment_rows(rng, count, agents=1, windows=1)
    rows = replace(rows, step=np.arange(count), ts=np.full(count, 1_000_000), episode=np.zeros(count, np.int32))
    again = rows.take(np.r_[np.arange(count), [0, count - 1], np.full(3, count // 2)])
    again = replace(again, offset=np.arange(len(again)))
    found = [(p.row.key.part, p.row.rows, p.row.received) for p in parts_of(again)]
    whole, rest = divmod(count, PART_ROWS)
    sizes = [PART_ROWS] * whole + ([rest] if rest else [])
    expected = [(i, size, size) for i, size in enumerate(sizes)]
    expected[-1] = (len(sizes) - 1, sizes[-1], sizes[-1] + 5)
    assert found == expected
    assert_as_the_oracle(again)


def test_parts_are_counted_within_a_chunk():
    """Chunks of a segment of more than 4,096 rows are cut by their own rows, not by the segment's."""
    rng = np.random.default_rng(0)
    rows = replace(segment_rows(rng, 9_000, agents=1, windows=4), step=np.arange(9_000))
    assert {part.row.key.part for part in parts_of(rows)} == {0}
    assert_as_the_oracle(rows)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_batch_boundaries_leave_no_trace(seed):
    """Rows that came in batches, each with dictionaries of its own, give the chunks of one batch."""
    rng = np.random.default_rng(seed)
    rows = segment_rows(rng, 80)
    edges = [0, *sorted(rng.integers(1, 80, int(rng.integers(6))).tolist()), 80]
    pieces = []
    for start, stop in pairwise(edges):
        if start < stop:
            piece = rows.slice(start, stop)
            present = list(dict.fromkeys(piece.agent.tolist()))
            agent = np.array([present.index(code) for code in piece.agent.tolist()], np.int32)
            pieces.append(replace(piece, agents=tuple(rows.agents[code] for code in present), agent=agent))
    for one, other in zip(parts_of(rows), parts_of(concat(pieces)), strict=True):
        assert (one.row.key, one.row.received, one.row.payload, one.row.stats) == (
            other.row.key,
            other.row.received,
            other.row.payload,
            other.row.stats,
        )


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_a_chunk_only_grows_at_its_end(seed):
    """Of fewer rows of the log come prefixes of the same chunks; only parts that received rows are encoded anew."""
    rng = np.random.default_rng(seed)
    rows = segment_rows(rng, 100)
    cut = int(rng.integers(1, 100))
    early = parts_of(rows.slice(0, cut))
    received = {part.row.key: part.row.received for part in early}
    grown = {part.row.key: part for part in parts_of(rows, before=received)}
    whole = {part.row.key: part for part in parts_of(rows)}
    assert {k for k, p in whole.items() if p.row.received != received.get(k)} == grown.keys()
    for part in early:
        later = whole[part.row.key].row
        assert later.write_time >= part.row.write_time
        prefix = row_values(decode_chunk(later.payload, later.checksum, "later"))[: part.row.rows]
        assert prefix == row_values(decode_chunk(part.row.payload, part.row.checksum, "early"))
        if part.row.key not in grown:
            assert (later.payload, later.stats, later.received) == (
                part.row.payload,
                part.row.stats,
                part.row.received,
            )


def test_far_apart_windows():
    """Event times from 1970 to the year 9999, tiny windows and many groups do not overflow."""
    rng = np.random.default_rng(0)
    spec = TaskSpec(
        task="valve",
        observations=("a", "b"),
        actions=("a", "b", "c"),
        window_ms=1,
        groups=65_536,
        reward_terms=("s", "t"),
    )
    rows = segment_rows(rng, 50, agents=20)
    assert_as_the_oracle(replace(rows, ts=rng.choice([0, 1, 253_402_300_799_999, 1_700_000_000_000], 50)), spec)
