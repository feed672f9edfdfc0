import threading
import zlib
from contextlib import suppress
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import zstandard
from chunk_examples import random_rows, renamed
from codec_examples import row_values
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.chunk import (
    MAX_PAYLOAD_BYTES,
    ChunkRow,
    decode_chunk,
    decode_reference,
    encode_chunk,
    uncompress,
)
from headrace.schemas.errors import CorruptDataError
from headrace.schemas.payload import payload_bytes
from headrace.schemas.records import ChunkKey, ChunkReference
from headrace.schemas.transition import TransitionBatch, concat

seeds = st.integers(0, 2**32 - 1)


def rows_of(seed, most=60, **options):
    rng = np.random.default_rng(seed)
    shape = {"agents": int(rng.integers(1, 5)), "terms": int(rng.integers(3)), "actions": int(rng.integers(4))}
    return random_rows(rng, int(rng.integers(1, most)), **(shape | options)), rng


def reference(rows, checksum):
    return ChunkReference("valve", 3, 60_000, 1, 16_384, 0, rows, checksum)


@settings(max_examples=100, deadline=None)
@given(seeds, st.booleans())
def test_round_trip(seed, odd):
    """Rows come back to the bit, and encode to the same bytes again."""
    rows, _ = rows_of(seed, odd=odd)
    payload, checksum = encode_chunk(rows)
    again = decode_chunk(payload, checksum, "a chunk")
    assert row_values(again) == row_values(rows)
    assert {name: getattr(again, name).dtype for name in ("agent", "step", "action", "terminated")} == {
        name: getattr(rows, name).dtype for name in ("agent", "step", "action", "terminated")
    }
    assert payload_bytes(again) == payload_bytes(rows)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_rows_alone_decide_the_bytes(seed):
    """The names' order of appearance, names that do not occur, and the kind of a NaN leave no trace."""
    rows, rng = rows_of(seed)
    other = renamed(rows, rng)
    negative_nan = np.array(0xFFC00001, np.uint32).view(np.float32)
    other = replace(other, log_prob=np.where(np.isnan(other.log_prob), negative_nan, other.log_prob))
    assert payload_bytes(other) == payload_bytes(rows)
    cut = int(rng.integers(len(rows) + 1))
    pieces = [p for p in (rows.slice(0, cut), other.slice(cut, len(rows))) if len(p)]
    assert payload_bytes(concat(pieces)) == payload_bytes(rows)


def test_other_rows_give_other_bytes():
    """Each column counts, and so does the order of the rows."""
    rows = random_rows(np.random.default_rng(0), 10)
    seen = {payload_bytes(rows), payload_bytes(rows.take(np.arange(10)[::-1]))}
    for name in TransitionBatch.__slots__:
        value = getattr(rows, name)
        if name == "task":
            changed = "other"
        elif isinstance(value, tuple):
            changed = tuple(f"{n}x" for n in value)
        else:
            changed = value.copy()
            changed[4] = (value[4] + 1) % 2 if value.dtype.kind in "ib" else 7.25
        seen.add(payload_bytes(replace(rows, **{name: changed})))
    assert len(seen) == 2 + len(TransitionBatch.__slots__)


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_a_reference_is_a_prefix(seed):
    """Whatever a chunk has grown to, a reference reads just the rows it was made of."""
    rows, rng = rows_of(seed)
    count = int(rng.integers(1, len(rows) + 1))
    wanted = reference(count, encode_chunk(rows.slice(0, count))[1])
    payload, checksum = encode_chunk(rows)
    found = decode_reference(payload, reference(len(rows), checksum), wanted)
    assert row_values(found) == row_values(rows)[:count]


def test_a_reference_that_the_index_does_not_bear_out():
    """Fewer rows, other rows, or another checksum are errors that name the reference."""
    rows = random_rows(np.random.default_rng(0), 10)
    payload, checksum = encode_chunk(rows)
    row = reference(10, checksum)
    for count, known in ((11, checksum), (5, checksum), (10, 7), (0, 0), (-1, 0)):
        with pytest.raises(CorruptDataError, match="valve/3/60000/1/16384/0"):
            decode_reference(payload, row, reference(count, known))


def test_the_name_of_a_damaged_chunk():
    rows = random_rows(np.random.default_rng(0), 10)
    payload, checksum = encode_chunk(rows)
    with pytest.raises(CorruptDataError, match=r"valve/3/60000/1/16384/0\[:10\].*expected .*from-start"):
        uncompress(payload, checksum ^ 1, reference(10, checksum ^ 1))


def test_every_flipped_byte():
    """A damaged payload is found out, or it reads as the same rows; nothing else is ever raised."""
    rows = random_rows(np.random.default_rng(0), 40)
    payload, checksum = encode_chunk(rows)
    raw = payload_bytes(rows)
    caught = 0
    for place in range(len(payload)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(payload)
            damaged[place] ^= flip
            with suppress(CorruptDataError):
                assert uncompress(bytes(damaged), checksum, "chunk-7") == raw
                continue
            caught += 1
    assert caught >= 3 * len(payload) - 9, "nearly every flip changes the rows"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.data())
def test_any_bytes(data, draw):
    """Random bytes, cut and spliced payloads, and raw bytes under a right checksum: rows, or CorruptDataError."""
    payload, checksum = encode_chunk(random_rows(np.random.default_rng(1), 20))
    at = draw.draw(st.integers(0, len(payload)))
    for candidate in (data, payload[:at], payload[:at] + data + payload[at:], payload + data):
        try:
            decode_chunk(candidate, checksum, "c")
        except CorruptDataError:
            continue
        assert candidate == payload


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_raw_bytes_under_a_right_checksum(data):
    """What a writer with a bug, or an enemy, stores is rows that fit together or CorruptDataError."""
    raw = msgspec.msgpack.decode(payload_bytes(random_rows(np.random.default_rng(1), 5)))
    odd = st.sampled_from([0, -1, 1, 2**31, 2**63, b"", b"\xff" * 8, b"\xff" * 16, [], ["x"], None, True, "x", 1.5])
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(odd)
    encoded = msgspec.msgpack.encode(raw)
    with suppress(CorruptDataError):
        row_values(decode_chunk(zstandard.compress(encoded), zlib.crc32(encoded), "c"))


@pytest.mark.parametrize("size", [MAX_PAYLOAD_BYTES + 1, 1 << 40])
def test_a_bomb_is_not_unpacked(size):
    """A frame that claims too much is refused by its header."""
    frame = b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"
    assert zstandard.frame_content_size(frame) == size
    with pytest.raises(CorruptDataError, match="claims"):
        uncompress(frame, 0, "bomb")


def test_a_bomb_that_hides_its_size():
    """A frame without a size is refused; one that says less than it holds is, too."""
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(b"\0" * 10_000_000)
    with pytest.raises(CorruptDataError, match="claims -1 bytes"):
        uncompress(hidden, 0, "bomb")
    honest = bytearray(zstandard.compress(b"\0" * 10_000_000))
    place = honest.index((10_000_000).to_bytes(4, "little"))
    honest[place : place + 4] = (1_000).to_bytes(4, "little")
    with pytest.raises(CorruptDataError):
        uncompress(bytes(honest), 0, "bomb")


def test_names_beyond_a_byte():
    """A chunk holds up to 4,096 agents."""
    rows = random_rows(np.random.default_rng(0), 4_096, agents=5_000)
    payload, checksum = encode_chunk(rows)
    again = decode_chunk(payload, checksum, "wide")
    assert row_values(again) == row_values(rows)
    assert list(again.agents) == sorted(again.agents)
    assert len(again.agents) == len(set(rows.agent.tolist()))


def test_threads():
    """Chunks are written and read by many threads at once."""
    rows = [random_rows(np.random.default_rng(i), 500) for i in range(4)]
    expected = [payload_bytes(r) for r in rows]
    wrong = []

    def work(i):
        for _ in range(40):
            payload, checksum = encode_chunk(rows[i])
            if payload_bytes(decode_chunk(payload, checksum, i)) != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_chunk_row():
    """The write time is the window's start in µs plus the rows received; the references name all rows."""
    row = ChunkRow(ChunkKey("valve", 3, 60_000, 1, 16_384, 2), 9, 11, 77, b"p", b"s")
    assert row.write_time == 60_000_011
    assert row.reference == ChunkReference("valve", 3, 60_000, 1, 16_384, 2, 9, 77)
    assert (row.summary.segment, row.summary.part, row.summary.rows, row.summary.checksum) == (16_384, 2, 9, 77)
    assert str(row.reference) == "valve/3/60000/1/16384/2[:9]#0000004d"


def test_bytes_a_row():
    """Random 8-float observations whose next_obs is the next row's obs take at most 40 bytes a row."""
    rows = random_rows(np.random.default_rng(0), 4_096, agents=1, width=8, odd=False, terms=0)
    obs = np.random.default_rng(0).normal(size=(4_097, 8)).round(4).astype(np.float32)
    step = np.arange(4_096)
    rows = replace(
        rows,
        obs=obs[:-1],
        next_obs=obs[1:],
        step=step,
        ts=step * 100,
        offset=step,
        episode=rows.agent,
        reward=obs[:-1, 0] + obs[1:, 3],
        terminated=step < 0,
        truncated=step < 0,
        log_prob=np.full(4_096, np.nan, np.float32),
    )
    assert len(encode_chunk(rows)[0]) / 4_096 <= 40
