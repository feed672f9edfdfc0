"""What becomes of a message depends on its own bytes, its append time and the tasks before it: on nothing else."""

import json
import math
from itertools import pairwise

import numpy as np
import pyarrow as pa
from codec_examples import LAYOUT, SPECS, T0, TASKS, batch_of, check, outcomes, raw_message, row, row_values
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas import codec, codec_arrow
from headrace.schemas.rules import MESSAGE_RULES

NUMBERS = (
    *("0", "1", "-1", "-0", "-0.0", "0.5", "0.1", "1.0", "1e2", "16777217", "1e39", "-1e39", "1e308", "1e400"),
    *("1e-400", "4.9e-324", "1e-45", "3.4028235e38", "3.4028236e38", "2147483647", "2147483648"),
    *("9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", "9" * 30),
    *("01", "+1", ".5", "1.", "NaN", "Infinity", "true", "null"),
)
TEXTS = ['"x"', '""', '"[1,2"', "[]", "{}", "[[1]]", "[1,[2]]", '{"x":1}', "[1,2,]", '"\\ud800"', '"a b"', '"a"']

number = st.sampled_from(NUMBERS)
odd = number | st.sampled_from(TEXTS)
good_vector = st.lists(st.floats(-5, 5, width=32).map(repr), min_size=1, max_size=3)
odd_vector = st.lists(number | st.sampled_from(TEXTS), max_size=4)
vector = (good_vector | odd_vector).map(lambda values: f"[{','.join(values)}]") | st.sampled_from(TEXTS)
FIELDS = {
    "obs": vector,
    "next_obs": vector,
    "action": odd | vector,
    "reward": odd,
    "step": odd,
    "ts": odd | st.integers(T0 - 5, T0 + 400_000).map(str),
    "schema_version": st.sampled_from(["1", "2", "1.0", "true", "9" * 40]),
    "task": st.sampled_from(['"valve"', '"arm"', '"dial"', '"pump"', "7"]),
    "agent_id": odd,
    "terminated": odd,
    "reward_terms": st.sampled_from(["null", "{}", '{"speed":1}', '{"speed":null,"x":2}', '{"cost":1e39}', "[]"]),
    "policy_version": odd,
    "log_prob": odd,
    "episode_id": st.sampled_from(['"e1"', '"e 1"', "NaN"]),
}
changes = st.lists(st.sampled_from(sorted(FIELDS)), max_size=2, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names})
)
tasks = st.sampled_from(sorted(SPECS))
one = st.builds(lambda task, fields: raw_message(task, **fields), tasks, changes)
# A row of a task among others that differ in one field only: what would pass by borrowing from a neighbour.
array = st.builds(
    lambda task, parts: b"[" + b",".join(raw_message(task, **fields) for fields in parts) + b"]",
    tasks,
    st.lists(changes, min_size=1, max_size=3),
)
cut = st.builds(lambda value, at: value[: at % (len(value) + 1)], one, st.integers(0, 400))
beat = st.builds(codec.heartbeat, st.sampled_from(["valve", "pump"]), st.just("a"), st.integers(T0 - 1, T0 + 400_000))
plain = (one | one | one | array | beat | cut | st.just(b"")).map(lambda value: (value, ()))


def to_arrow(task, steps, how):
    """An Arrow message of good rows, damaged at a byte where asked."""
    batch = check([json.dumps([row(task, step=s) for s in steps]).encode()]).batches[0]
    value = bytearray(codec_arrow.encode(batch, SPECS[task]))
    if how is not None:
        value[how[0] % len(value)] ^= how[1]
    return bytes(value), codec.ARROW_HEADERS


damage = st.none() | st.none() | st.tuples(st.integers(0, 4_000), st.integers(1, 255))
arrow = st.builds(to_arrow, tasks, st.lists(st.integers(0, 5), min_size=1, max_size=3), damage)
messages = st.lists(st.tuples(plain | arrow, st.sampled_from([T0 - 1, T0, T0 + 1_000])), min_size=1, max_size=8)


def together(items):
    batch = batch_of([v for (v, _), _ in items], [h for (_, h), _ in items], [t for _, t in items])
    return outcomes(batch, codec.check(batch, TASKS, LAYOUT))


def alone(items):
    out = []
    for place, ((value, headers), append_ts) in enumerate(items):
        batch = batch_of([value], [headers], [append_ts], first=100 + place)
        out += outcomes(batch, codec.check(batch, TASKS, LAYOUT))
    return out


@settings(max_examples=400, deadline=None)
@given(messages)
def test_neighbours_change_nothing(items):
    """check(batch) is the union of check(single): rows to the bit, rules, reasons and stream times."""
    assert together(items) == alone(items)


@settings(max_examples=150, deadline=None)
@given(messages)
def test_whole_and_accounted_for(items):
    """Every message is accepted whole (its rows, or a heartbeat) or rejected by a known rule with a reason."""
    known = MESSAGE_RULES.keys() | {rule.name for task in TASKS.values() for rule in task.rules}
    for rejection, stream_ts, rows in together(items):
        if rejection:
            assert rejection[0] in known
            assert rejection[1]
            assert not rows
            assert stream_ts == -1
        else:
            assert stream_ts >= 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.data())
def test_sub_batches_change_nothing(steps, data):
    """However a run of messages is cut into batches, its rows are the same, in the same order."""
    values = [raw_message("dial", step=str(step), agent_id=f'"a{step % 3}"') for step in steps]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    edges = [0, *cuts, len(values)]
    pieces = []
    for start, stop in pairwise(edges):
        batch = batch_of(values[start:stop], first=100 + start)
        pieces += [values for b in codec.check(batch, TASKS, LAYOUT).batches for values in row_values(b)]
    assert pieces == row_values(check(values).batches[0])


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def good_rows(draw):
    """Rows of one agent of a task, with all that may be in them."""
    task = draw(tasks)
    spec = SPECS[task]
    rows = []
    for _ in range(draw(st.integers(1, 5))):
        changes = {"step": draw(st.integers(0, 2**40 - 1)), "reward": draw(floats)}
        if task == "arm":
            changes["reward_terms"] = draw(st.none() | st.dictionaries(st.sampled_from(["speed", "cost"]), floats))
        else:
            changes["obs"] = draw(st.lists(floats, min_size=spec.width, max_size=spec.width))
        changes["policy_version"] = draw(st.none() | st.integers(0, 2**63 - 1))
        changes["log_prob"] = draw(st.none() | (floats if task == "arm" else floats.map(lambda x: -abs(x))))
        changes["action"] = draw(st.sampled_from(range(spec.action_count))) if spec.discrete else row(task)["action"]
        if draw(st.booleans()) and spec.discrete:
            changes["action"] = spec.actions[changes["action"]]
        changes["episode_id"] = draw(st.from_regex(r"\A[A-Za-z0-9._-]{1,64}\Z"))
        rows.append(row(task, **changes))
    return task, rows


@settings(max_examples=150, deadline=None)
@given(good_rows())
def test_all_ways_give_equal_rows(item):
    """One array, JSON printed anew, and Arrow: the same rows to the bit."""
    task, rows = item
    first = check([json.dumps(rows).encode()])
    assert not first.rejected
    batch = first.batches[0]
    printed = check([b"[" + b",".join(codec.encode_json(batch, SPECS[task])) + b"]"])
    arrow_value = codec_arrow.encode(batch, SPECS[task])
    as_arrow = check([arrow_value], [codec.ARROW_HEADERS])
    singles = check([json.dumps(r).encode() for r in rows]).batches[0]
    expected = row_values(batch)
    assert row_values(printed.batches[0]) == expected
    assert row_values(as_arrow.batches[0]) == expected
    same = {**{name: getattr(singles, name) for name in singles.__slots__}, "offset": np.full(len(rows), 100)}
    assert row_values(type(singles)(**same)) == expected


odd_numbers = st.sampled_from([math.nan, math.inf, -math.inf, 1e39, 0.5, -0.5, 0.0, 1e-5])
odd_fields = st.one_of(
    st.tuples(st.just("reward"), odd_numbers),
    st.tuples(st.just("log_prob"), odd_numbers.filter(lambda number: number == number)),  # noqa: PLR0124 NaN is absent
    st.tuples(st.sampled_from(["obs", "next_obs"]), odd_numbers.map(lambda number: [0.5, number])),
    st.tuples(st.just("action"), st.sampled_from(["a", "b", "d", "", -1, 2, 3])),
    st.tuples(st.just("ts"), st.sampled_from([0, T0 // 1000, T0 * 1000, T0, T0 + 10**9, 10**11, "2024-11-22", 1.5])),
    st.tuples(st.just("reward_terms"), st.sampled_from([{"x": 1.0}, {"x": None}])),
    st.tuples(st.sampled_from(["agent_id", "episode_id"]), st.sampled_from(["a b", "", "a"])),
)


@settings(max_examples=150, deadline=None)
@given(odd_fields)
def test_json_and_arrow_judge_alike(change):
    """The same row is accepted by both, or rejected by the same rule, for the same reason."""
    name, value = change
    rows = [row(step=0), row(step=1, **{name: value})]
    if name in {"agent_id", "log_prob"}:
        rows = rows[1:]  # one agent a message
    if name in {"action", "ts"} and not isinstance(value, int):
        rows = rows[1:]  # one type a column
    table = pa.table({name: [one.get(name) for one in rows] for name in rows[-1]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    as_json, as_arrow = json.dumps(rows).encode(), sink.getvalue().to_pybytes()
    plain = batch_of([as_json])
    packed = batch_of([as_arrow], [codec.ARROW_HEADERS])
    assert outcomes(plain, codec.check(plain, TASKS, LAYOUT)) == outcomes(packed, codec.check(packed, TASKS, LAYOUT))
