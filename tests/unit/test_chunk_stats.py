import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from chunk_examples import plain_stats, random_rows, renamed
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.chunk import agent_stats, decode_stats, encode_stats, fold_stats, stats_by, total_stats
from headrace.schemas.errors import CorruptDataError

seeds = st.integers(0, 2**32 - 1)


def stats_of(rows, actions):
    """The rows' stats by agent, as a part of one chunk has them."""
    present = sorted({rows.agents[i] for i in rows.agent.tolist()})
    place = {name: i for i, name in enumerate(present)}
    code = np.array([place[rows.agents[i]] for i in rows.agent.tolist()])
    return stats_by(rows, code, len(present), actions).slice(0, len(present), tuple(present))


def bits(records):
    """Records with their floats as bits, so that -0 and 0 differ."""
    out = []
    for s in records:
        floats = (s.reward_sum, s.reward_min, s.reward_max, *s.reward_terms)
        counts = (s.rows, s.actions, s.episode_ends, s.policy_versions, s.first_offset, s.last_offset)
        out.append((s.agent_id, *counts, struct.pack(f"<{len(floats)}d", *floats)))
    return out


def random_parts(seed):
    """Parts of a chunk in log order, each with agents of its own."""
    rng = np.random.default_rng(seed)
    actions, terms = int(rng.integers(4)), int(rng.integers(3))
    parts = [
        random_rows(rng, int(rng.integers(1, 30)), agents=int(rng.integers(1, 6)), actions=actions, terms=terms)
        for _ in range(int(rng.integers(1, 6)))
    ]
    return parts, actions, rng


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_stats_are_summed_row_by_row(seed):
    """Equal, to the bit, to a plain loop over the rows."""
    parts, actions, _ = random_parts(seed)
    for rows in parts:
        assert bits(agent_stats(stats_of(rows, actions))) == bits(plain_stats(rows, actions))


def test_by_hand():
    """Three rows of two agents."""
    rows = random_rows(np.random.default_rng(0), 3, agents=2, terms=1)
    rows.agent[:] = [rows.agents.index("agent-1"), rows.agents.index("agent-0"), rows.agents.index("agent-1")]
    rows.reward[:] = [0.5, -2, 0.25]
    rows.reward_terms[:] = [[np.nan], [1.5], [-1]]
    rows.action[:] = [2, 0, 2]
    rows.terminated[:] = [True, False, False]
    rows.truncated[:] = [True, False, False]
    rows.policy_version[:] = [3, -1, 4]
    rows.offset[:] = [10, 11, 12]
    zero, one = agent_stats(stats_of(rows, 3))
    assert (zero.agent_id, zero.rows, zero.reward_sum, zero.reward_terms) == ("agent-0", 1, -2.0, (1.5,))
    assert (zero.actions, zero.episode_ends, zero.policy_versions) == ((1, 0, 0), 0, {})
    assert (one.agent_id, one.rows, one.reward_sum, one.reward_terms) == ("agent-1", 2, 0.75, (-1.0,))
    assert (one.reward_min, one.reward_max, one.actions) == (0.25, 0.5, (0, 0, 2))
    assert (one.episode_ends, one.policy_versions, one.first_offset, one.last_offset) == (1, {3: 1, 4: 1}, 10, 12)
    total = total_stats(stats_of(rows, 3))
    assert (total.agent_id, total.rows, total.reward_sum, total.reward_terms) == ("", 3, -1.25, (0.5,))
    assert (total.reward_min, total.reward_max, total.actions) == (-2.0, 0.5, (1, 0, 2))
    assert (total.first_offset, total.last_offset, total.policy_versions) == (10, 12, {3: 1, 4: 1})


def test_zeros_have_no_order():
    """The least of 0 and -0 is 0, whichever comes first and however the processor compares."""
    for rewards in ([0.0, -0.0], [-0.0, 0.0], [-0.0, -0.0], [-0.0] * 40):
        rows = random_rows(np.random.default_rng(0), len(rewards), agents=1)
        rows.reward[:] = rewards
        (found,) = agent_stats(stats_of(rows, 3))
        assert struct.pack("<ddd", found.reward_min, found.reward_max, found.reward_sum) == bytes(24)


@settings(max_examples=150, deadline=None)
@given(seeds)
def test_folding_in_steps_is_folding_at_once(seed):
    """fold(fold(a, b), c) == fold(a, b, c), to the bit, wherever the steps are."""
    parts, actions, rng = random_parts(seed)
    stats = [stats_of(rows, actions) for rows in parts]
    at_once = fold_stats(stats)
    folded = stats[:1]
    for part in stats[1:]:
        folded.append(part)
        if rng.random() < 0.6:
            folded = [fold_stats(folded)]
    in_steps = fold_stats(folded)
    assert bits(agent_stats(in_steps)) == bits(agent_stats(at_once))
    assert encode_stats(in_steps) == encode_stats(at_once)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_a_fold_adds_part_after_part(seed):
    """Equal to adding the parts' own stats in Python, in their order."""
    parts, actions, _ = random_parts(seed)
    found = {s.agent_id: s for s in agent_stats(fold_stats([stats_of(rows, actions) for rows in parts]))}
    sums, lows, versions = {}, {}, {}
    for rows in parts:
        for s in plain_stats(rows, actions):
            sums[s.agent_id] = sums[s.agent_id] + s.reward_sum if s.agent_id in sums else s.reward_sum
            lows[s.agent_id] = min(lows.get(s.agent_id, np.inf), s.reward_min)
            mine = versions.setdefault(s.agent_id, {})
            for version, count in s.policy_versions.items():
                mine[version] = mine.get(version, 0) + count
    assert sorted(found) == sorted(sums)
    for name, s in found.items():
        assert (s.reward_sum, s.reward_min, s.policy_versions) == (sums[name], lows[name], versions[name])
        assert list(s.policy_versions) == sorted(s.policy_versions)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_totals(seed):
    """Agents' stats, added in the order of their names."""
    parts, actions, _ = random_parts(seed)
    for rows in parts:
        agents = plain_stats(rows, actions)
        total = total_stats(stats_of(rows, actions))
        sums, terms = agents[0].reward_sum, list(agents[0].reward_terms)
        for s in agents[1:]:
            sums += s.reward_sum
            terms = [a + b for a, b in zip(terms, s.reward_terms, strict=True)]
        whole = plain_stats(rows, actions, name_of=lambda _: "")[0]
        assert (total.reward_sum, list(total.reward_terms)) == (sums, terms)
        assert (total.rows, total.actions, total.policy_versions) == (whole.rows, whole.actions, whole.policy_versions)
        assert (total.reward_min, total.reward_max) == (whole.reward_min, whole.reward_max)
        assert (total.first_offset, total.last_offset) == (whole.first_offset, whole.last_offset)
        assert total.episode_ends == whole.episode_ends


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_encode_and_back(seed):
    """Stats read back to the bit; the names' order of appearance leaves no trace in their bytes."""
    parts, actions, rng = random_parts(seed)
    for rows in parts:
        data = encode_stats(stats_of(rows, actions))
        again = decode_stats(data)
        assert bits(agent_stats(again)) == bits(plain_stats(rows, actions))
        assert encode_stats(again) == data
        assert encode_stats(stats_of(renamed(rows, rng), actions)) == data


def test_every_flipped_byte_of_stats():
    """Damaged stats are found out and named."""
    data = encode_stats(stats_of(random_rows(np.random.default_rng(0), 10), 3))
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        with pytest.raises(CorruptDataError, match="chunk-7"):
            decode_stats(bytes(damaged), "chunk-7")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_of_stats(data):
    for candidate in (data, zlib.crc32(data).to_bytes(4, "little") + data):
        with pytest.raises(CorruptDataError):
            decode_stats(candidate)


def test_many_versions_take_little_memory():
    """Each row of a policy version of its own: memory grows with the rows, not with rows times versions."""
    rng = np.random.default_rng(0)
    rows = random_rows(rng, 20_000, agents=5_000, terms=0)
    rows.policy_version[:] = rng.permutation(20_000)
    tracemalloc.start()
    stats = stats_of(rows, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(stats.versions) == 20_000
    assert peak < 50e6
