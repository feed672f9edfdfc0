"""Hostile messages, checked in this process: python tests/faults/fuzz.py COUNT SEED. One JSON object on stdout.

The caller limits its memory and looks at how it ends: bytes of Arrow must not crash it. Mutations of good messages in
both codecs (flipped bits, cuts, splices, insertions, huge lengths), random bytes, and good messages among them.
"""

import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from headrace.pipelines.ingest.segment import encode_parts, group_rows
from headrace.schemas import codec, codec_arrow
from headrace.schemas.checker import known_task
from headrace.schemas.chunk import decode_chunk
from headrace.schemas.ports import MessageBatch
from headrace.schemas.records import Bounds, Layout, TaskSpec
from headrace.schemas.rules import MESSAGE_RULES, first_broken

T0 = 1_700_000_000_000
LAYOUT = Layout(log="fuzz", max_message_rows=200, max_message_bytes=100_000)
SPECS = (
    TaskSpec(task="valve", observations=("x0", "x1"), actions=("a", "b", "c"), window_ms=1_000, groups=4),
    TaskSpec(
        task="arm",
        observations=("p", "q", "r"),
        actions=Bounds((-1.0,), (1.0,)),
        window_ms=500,
        groups=2,
        reward_terms=("speed", "cost"),
        bounds=Bounds((-9.0, -9.0, -9.0), (9.0, 9.0, 9.0)),
    ),
)
TASKS = {spec.task: known_task(spec, 0, LAYOUT) for spec in SPECS}
KNOWN_RULES = MESSAGE_RULES.keys() | {rule.name for task in TASKS.values() for rule in task.rules}
HUGE = [0, 1, 2**7, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1]
VIEWS = {
    "task": pa.string_view(),
    "episode_id": pa.dictionary(pa.uint32(), pa.string_view()),
    "obs": pa.list_view(pa.float64()),
    "next_obs": pa.large_list_view(pa.float64()),
}
TEXTS = (VIEWS["task"], VIEWS["episode_id"])
TOKENS = [
    *(bytes([c]) for c in b'[]{},":\\-\xff\0'),
    b"\\u",
    b"1e999",
    b"NaN",
    b"-Infinity",
    b"\xef\xbb\xbf",
    b"9" * 400,
    b"[" * 900,
]


def transition(rng, spec, step):
    obs = [round(rng.uniform(-5, 5), 3) for _ in spec.observations]
    row = {
        "schema_version": 1,
        "task": spec.task,
        "agent_id": f"agent-{rng.randrange(6)}",
        "episode_id": f"e{rng.randrange(3)}",
        "step": step,
        "ts": T0 + rng.randrange(5_000),
        "obs": obs,
        "action": rng.randrange(3) if spec.discrete else [rng.uniform(-1, 1)],
        "reward": round(rng.gauss(0, 1), 4),
        "next_obs": obs,
        "terminated": rng.random() < 0.1,
        "truncated": rng.random() < 0.1,
    }
    if rng.random() < 0.5:
        row["policy_version"] = rng.randrange(3)
    if spec.reward_terms and rng.random() < 0.7:
        row["reward_terms"] = {"speed": 0.5, "cost": None}
    if rng.random() < 0.3:
        row["log_prob"] = -0.7
    return row


def good_messages(rng, count):
    """(value, headers) of messages that are accepted."""
    out = []
    for i in range(count):
        spec = rng.choice(SPECS)
        rows = [transition(rng, spec, i * 5 + k) for k in range(rng.randint(1, 5))]
        rows = [{**row, "agent_id": rows[0]["agent_id"]} for row in rows]
        kind = rng.random()
        if kind < 0.4:
            out.append((json.dumps(rows[0]).encode(), ()))
        elif kind < 0.55:
            out.append((json.dumps(rows).encode(), ()))
        elif kind < 0.6:
            out.append((codec.heartbeat(spec.task, "a", T0 + i), ()))
        else:
            out.append((arrow_message(rng, rows, spec), codec.ARROW_HEADERS))
    return out


def arrow_message(rng, rows, spec):
    """headrace's own form, or what another producer may write: plain columns, packed, in several batches."""
    if rng.random() < 0.5:
        batch = run([(json.dumps(rows).encode(), ())]).batches[0]
        return codec_arrow.encode(batch, spec)
    names = {name for row in rows for name in row}
    table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in sorted(names)})
    if rng.random() < 0.3:
        place = table.column_names.index("agent_id")
        table = table.set_column(place, "agent_id", table.column(place).dictionary_encode())
    for name, kind in VIEWS.items():
        if rng.random() < 0.2:
            place = table.column_names.index(name)
            values = pa.array(table.column(place).to_pylist(), None if kind in TEXTS else kind)
            table = table.set_column(place, name, values.cast(kind))
    options = pa.ipc.IpcWriteOptions(compression=rng.choice([None, None, "zstd", "lz4"]))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rng.choice([1, 2, 100]))
    return sink.getvalue().to_pybytes()


def mutate(rng, value, other):
    """One of many ways to break a message."""
    data = bytearray(value)
    kind = rng.choice([0, 0, 0, 0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 8])  # small damage goes deeper
    at = rng.randrange(len(data) + 1)
    if kind == 0:
        for _ in range(rng.choice([1, 1, 1, 1, 2, 8])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        data[at:] = other[rng.randrange(len(other) + 1) :]
    elif kind == 3:
        data[at:at] = rng.choice([rng.randbytes(rng.randrange(1, 20)), rng.choice(TOKENS)])
    elif kind == 4:
        del data[at : at + rng.choice([1, 4, 8, 40])]
    elif kind == 5:
        size = rng.choice([4, 8])
        at = at // size * size
        data[at : at + size] = (rng.choice(HUGE) & (256**size - 1)).to_bytes(size, "little")
    elif kind == 6:
        data[at : at + 1] = bytes([rng.randrange(256)])
    elif kind == 7:
        end = min(len(data), at + rng.randrange(1, 200))
        data[at:at] = data[at:end]
    else:
        data = bytearray(rng.randbytes(rng.randrange(300)))
    return bytes(data)


def hostile(rng, good):
    """A message and its headers: mostly broken, sometimes under the other codec's header."""
    value, headers = rng.choice(good)
    kind = rng.random()
    if kind < 0.1:
        return value, headers
    if kind < 0.15:
        return value, rng.choice([(), codec.ARROW_HEADERS, (("content-type", rng.randbytes(5)),)])
    for _ in range(rng.choice([1, 1, 1, 1, 1, 2, 3])):
        value = mutate(rng, value or b"\0", rng.choice(good)[0])
    return value, headers


def run(items, first=0):
    count = len(items)
    offsets, append_ts = np.arange(first, first + count), np.full(count, T0 + 10_000)
    values, headers = [value for value, _ in items], [headers for _, headers in items]
    return codec.check(MessageBatch("t", 0, offsets, append_ts, [None] * count, values, headers), TASKS, LAYOUT)


def verify(items, checked, counts):
    """Every message is accepted or rejected, once, by a known rule, with a reason; accepted rows keep the rules."""
    fates = ["lost"] * len(items)
    for place in np.flatnonzero(checked.stream_ts >= 0).tolist():
        fates[place] = "accepted"
    for rejection in checked.rejected:
        assert fates[rejection.position] == "lost", "accepted and rejected, or rejected twice"
        assert rejection.rule in KNOWN_RULES, rejection
        assert rejection.reason, rejection
        fates[rejection.position] = "rejected"
        counts[rejection.rule] += 1
    assert "lost" not in fates
    for batch in checked.batches:
        append_ts = np.full(len(batch), T0 + 10_000)
        assert not first_broken(TASKS[batch.task].rules, batch, append_ts)
        assert all(fates[offset] == "accepted" for offset in set(batch.offset.tolist()))
        counts["rows"] += len(batch)
    counts["accepted"] += fates.count("accepted")
    counts["rejected"] += fates.count("rejected")


def index(checked):
    """Group, encode and read back what was accepted."""
    rows = 0
    for batch in checked.batches:
        spec, in_order = TASKS[batch.task].spec, batch.take(np.argsort(batch.offset, kind="stable"))
        for part in encode_parts(group_rows(in_order, spec, 0, 0), spec, {}):
            assert len(decode_chunk(part.row.payload, part.row.checksum, part.row.reference)) == part.row.rows
            rows += part.row.received
    assert rows == sum(map(len, checked.batches))


def main(count, seed):
    rng = random.Random(seed)
    counts = Counter()
    good = good_messages(rng, 400)
    assert not run(good).rejected
    done = 0
    while done < count:
        items = [hostile(rng, good) for _ in range(min(rng.choice([1, 20, 300, 2_000]), count - done))]
        checked = run(items)
        verify(items, checked, counts)
        index(checked)
        place = rng.randrange(len(items))
        alone = run([items[place]])
        found = [(r.rule, r.reason) for r in checked.rejected if r.position == place]
        assert found == [(r.rule, r.reason) for r in alone.rejected], "its neighbours changed a message's fate"
        done += len(items)
    # Not ru_maxrss: that counts what the process that forked this one held.
    (peak_kb,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    peak_mb = int(peak_kb) // 1024
    print(json.dumps({"messages": done, "peak_mb": peak_mb, **dict(counts.most_common())}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
