import json
import re
import struct

import numpy as np
import pyarrow as pa
import pytest
from codec_examples import ARM, SPECS, T0, TASKS, VALVE, accepted, batch_of, check, message, outcomes, rejected, row

from headrace.schemas import arrow_frames, codec, codec_arrow

ARROW = codec.ARROW_HEADERS


def table(rows=3, of="valve", **changes):
    """The columns of a good message; one that is changed to ... is left out."""
    good = [row(of, step=i) for i in range(rows)]
    columns = {name: pa.array([r[name] for r in good]) for name in good[0]} if rows else {}
    columns |= changes
    return pa.table({name: column for name, column in columns.items() if column is not ...})


def stream(data, batches=1, options=None):
    """An IPC stream of a table in so many record batches."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, data.schema, options=options) as writer:
        size = max(1, -(-data.num_rows // batches))
        for start in range(0, max(1, data.num_rows), size):
            writer.write_table(data.slice(start, size))
    return sink.getvalue().to_pybytes()


def arrow(**changes):
    return stream(table(**changes))


def names(*values):
    return pa.DictionaryArray.from_arrays(pa.array([0] * 3), pa.array(values))


def same_rows(one, other):
    assert outcomes(batch_of([b""] * 1), one)[0][1:] == outcomes(batch_of([b""] * 1), other)[0][1:]


FORMS = {
    "plain lists": {},
    "fixed-size lists": {"obs": pa.array([[0.5, -1.25]] * 3, pa.list_(pa.float32(), 2))},
    "large lists": {"obs": pa.array([[0.5, -1.25]] * 3, pa.large_list(pa.float64()))},
    "half floats": {"obs": pa.array([[np.float16(0.5), np.float16(-1.25)]] * 3, pa.list_(pa.float16()))},
    "dictionaries": {
        "task": names("valve"),
        "agent_id": names("agent-1", "never used!"),
        "episode_id": names("e1"),
    },
    "a dictionary with a name twice": {
        "agent_id": pa.DictionaryArray.from_arrays(pa.array([0, 1, 1]), pa.array(["agent-1", "agent-1"]))
    },
    "large strings": {"agent_id": pa.array(["agent-1"] * 3, pa.large_string())},
    "small integers": {"step": pa.array([0, 1, 2], pa.uint8()), "action": pa.array([0] * 3, pa.int8())},
    "unsigned": {"ts": pa.array([T0 + 7] * 3, pa.uint64()), "schema_version": pa.array([1] * 3, pa.uint16())},
    "float64 reward": {"reward": pa.array([-0.5] * 3, pa.float64())},
    "optional columns of nulls": {
        "policy_version": pa.nulls(3),
        "log_prob": pa.nulls(3, pa.float32()),
        "reward_terms": pa.nulls(3),
    },
    "views, as Polars writes them": {
        "task": pa.array(["valve"] * 3).cast(pa.string_view()),
        "agent_id": names("agent-1").cast(pa.dictionary(pa.uint32(), pa.string_view())),
        "episode_id": pa.array(["e1"] * 3).cast(pa.string_view()),
        "obs": pa.array([[0.5, -1.25]] * 3, pa.list_view(pa.float64())),
        "next_obs": pa.array([[0.5, -1.25]] * 3, pa.large_list_view(pa.float32())),
    },
    "a task of views in a dictionary": {"task": names("valve").cast(pa.dictionary(pa.int8(), pa.string_view()))},
    "numbers in a dictionary": {
        "reward": pa.array([-0.5] * 3).dictionary_encode(),
        "action": pa.array([0] * 3).dictionary_encode(),
    },
    "extensions": {
        "obs": pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(pa.float32(), (2,)), pa.array([[0.5, -1.25]] * 3, pa.list_(pa.float32(), 2))
        ),
        "terminated": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0] * 3, pa.int8())),
    },
    "actions by name": {"action": pa.array(["a"] * 3)},
    "actions by name in a dictionary": {"action": names("a", "never used!")},
    "actions by name in views": {"action": pa.array(["a"] * 3).cast(pa.string_view())},
    "a term of nulls that is not known": {"reward_terms": pa.array([{"x": None}] * 3, pa.struct({"x": pa.float32()}))},
    "columns that are not known": {"note": pa.array([[{"x": 1}]] * 3), "heartbeat": pa.array([True] * 3)},
}


@pytest.mark.parametrize("changes", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("batches", [1, 3])
def test_forms(changes, batches):
    """However its columns are typed, and in how many batches, a message becomes the rows that JSON would give."""
    found = check([stream(table(**changes), batches)], [ARROW])
    expected = check([json.dumps([row(step=i) for i in range(3)]).encode()])
    same_rows(found, expected)


def test_optional_columns():
    """Terms, versions and log-probabilities are taken row by row; null, NaN and absent are the same."""
    odd_nan = np.array([0x7FC00001, 0xFFC00000], np.uint32).view(np.float32)
    terms = pa.array([{"speed": 0.5, "other": float("nan")}, {"speed": None, "other": None}, None])
    data = table(
        of="arm",
        reward_terms=terms,
        policy_version=pa.array([3, None, 0]),
        log_prob=pa.array([odd_nan[0], -0.5, odd_nan[1]], pa.float32()),
    )
    found = check([stream(data)], [ARROW])
    rows = [
        row("arm", step=0, reward_terms={"speed": 0.5}, policy_version=3),
        row("arm", step=1, log_prob=-0.5),
        row("arm", step=2, policy_version=0),
    ]
    same_rows(found, check([json.dumps(rows).encode()]))


def test_a_null_struct_hides_its_fields():
    """Values under a null struct are not there, whatever bytes stand for them."""
    hidden = pa.StructArray.from_arrays([pa.array([1.0, 2.0, 3.0])], ["speed"], mask=pa.array([False, True, False]))
    batch = accepted(arrow(of="arm", reward_terms=hidden), ARROW)
    assert batch.reward_terms[:, 0].tolist()[::2] == [1.0, 3.0]
    assert np.isnan(batch.reward_terms[1, 0])


@pytest.mark.parametrize("number", [2**53 + 1, 9007199791611905, 2**63 - 1, -(2**63), 16777217])
def test_integers_become_the_same_floats_as_in_json(number):
    found = check([arrow(reward=pa.array([number] * 3), obs=pa.array([[number, 1]] * 3))], [ARROW])
    rows = [row(step=i, reward=number, obs=[number, 1]) for i in range(3)]
    same_rows(found, check([json.dumps(rows).encode()]))


def test_minus_zero():
    assert np.signbit(accepted(arrow(reward=pa.array([-0.0] * 3)), ARROW).reward).all()


REJECTED = {
    "not Arrow": (message(), "syntax", "Arrow"),
    "nothing but the end": (b"\xff\xff\xff\xff\x00\x00\x00\x00", "syntax", "Arrow"),
    "half": (arrow()[:1_000], "syntax", "Arrow"),
    "no rows": (stream(table().slice(0, 0)), "empty", "no rows"),
    "a missing column": (arrow(obs=...), "type", "columns missing: obs"),
    "a missing task": (arrow(task=...), "type", "0 columns are named task"),
    "a column twice": (
        stream(pa.Table.from_arrays([*table().columns, pa.array([1, 2, 3])], [*table().column_names, "step"])),
        "type",
        "same name",
    ),
    "task twice": (
        stream(pa.Table.from_arrays([*table().columns, pa.array(["a"] * 3)], [*table().column_names, "task"])),
        "type",
        "2 columns are named task",
    ),
    "task is null": (arrow(task=pa.nulls(3)), "type", "task is null, not a string"),
    "task is a number": (arrow(task=pa.array([1] * 3)), "type", "task is int64, not a string"),
    "some tasks are null": (arrow(task=pa.array(["valve", None, "valve"])), "one_agent", "task takes several values"),
    "all tasks are null": (arrow(task=pa.nulls(3, pa.string())), "type", "task holds nulls"),
    "task is a struct": (arrow(task=pa.array([{"x": 1}] * 3)), "type", "task is struct<x: int64>, not a string"),
    "task is a dictionary of structs": (
        arrow(task=pa.DictionaryArray.from_arrays(pa.array([0] * 3), pa.array([{"x": 1}]))),
        "type",
        "task is dictionary.*not a string",
    ),
    "task is a list": (arrow(task=pa.array([["valve"]] * 3)), "type", "task"),
    "two tasks": (arrow(task=pa.array(["valve", "arm", "arm"])), "one_agent", "task takes several values"),
    "an unknown task": (arrow(task=pa.array(["pump"] * 3)), "unknown_task", "task 'pump' was not added"),
    "two agents": (arrow(agent_id=pa.array(["a", "b", "a"])), "one_agent", "agent_id takes several values"),
    "agent is null": (arrow(agent_id=pa.array(["a", None, "a"])), "type", "agent_id holds nulls"),
    "agent is null in the dictionary": (arrow(agent_id=names(None, "a")), "type", "agent_id"),
    "agent is a number": (arrow(agent_id=pa.array([1] * 3)), "type", "agent_id is int64, not a string"),
    "agent is bytes": (arrow(agent_id=pa.array([b"a"] * 3)), "type", "agent_id is binary, not a string"),
    "schema_version 2": (arrow(schema_version=pa.array([2] * 3)), "schema_version", "schema_version"),
    "two versions": (arrow(schema_version=pa.array([1, 2, 1])), "schema_version", "schema_version"),
    "version is text": (arrow(schema_version=pa.array(["1"] * 3)), "type", "schema_version is string, not an integer"),
    "step is a float": (arrow(step=pa.array([0.0, 1.0, 2.0])), "type", "step is double, not an integer"),
    "step is null": (arrow(step=pa.array([0, None, 2])), "type", "step holds nulls"),
    "step beyond 63 bits": (arrow(step=pa.array([2**63] * 3, pa.uint64())), "type", "9223372036854775808"),
    "ts is a timestamp": (arrow(ts=pa.array([T0] * 3, pa.timestamp("ms"))), "type", "ts is timestamp"),
    "action beyond 32 bits": (arrow(action=pa.array([2**31] * 3)), "type", "2147483648"),
    "action is a vector": (arrow(action=pa.array([[1.0]] * 3)), "type", "action is list"),
    "reward is text": (arrow(reward=pa.array(["1"] * 3)), "type", "reward is string, not a number"),
    "reward is a decimal": (arrow(reward=pa.array([1] * 3, pa.decimal128(5))), "type", "reward is decimal128"),
    "obs is a number": (arrow(obs=pa.array([1.0] * 3)), "type", "obs is double, not a list of floats"),
    "obs of text": (arrow(obs=pa.array([["a", "b"]] * 3)), "type", "obs is string, not a number"),
    "obs is nested": (arrow(obs=pa.array([[[1.0], [2.0]]] * 3)), "type", "obs is list"),
    "obs is null": (arrow(obs=pa.array([[1.0, 2.0], None, [1.0, 2.0]])), "type", "obs holds nulls"),
    "obs holds a null": (arrow(obs=pa.array([[1.0, None]] * 3)), "type", "obs holds nulls"),
    "obs is short": (arrow(obs=pa.array([[1.0]] * 3)), "width", "obs has 1 values a row; the task has 2"),
    "obs is empty": (arrow(obs=pa.array([[]] * 3, pa.list_(pa.float32()))), "width", "obs has 0 values"),
    "obs is ragged": (arrow(next_obs=pa.array([[1.0], [1.0, 2.0, 3.0], [1.0, 2.0]])), "width", "several widths"),
    "terminated is a number": (arrow(terminated=pa.array([0] * 3)), "type", "terminated is int64, not a boolean"),
    "a negative policy_version": (arrow(policy_version=pa.array([-1] * 3)), "type", "policy_version is negative"),
    "policy_version is a float": (arrow(policy_version=pa.array([1.0] * 3)), "type", "policy_version is double"),
    "log_prob is text": (arrow(log_prob=pa.array(["a"] * 3)), "type", "log_prob is string"),
    "reward_terms is a number": (arrow(of="arm", reward_terms=pa.array([1.0] * 3)), "type", "not a struct"),
    "a reward term that is not known": (
        arrow(of="arm", reward_terms=pa.array([None, None, {"sped": 1.0}])),
        "reward_terms",
        "reward_terms has 'sped'; the task's are speed, cost",
    ),
    "a reward term where none is": (arrow(reward_terms=pa.array([{"x": 1.0}] * 3)), "reward_terms", "names none"),
    "an action that is not known": (
        arrow(action=pa.array(["a", "d", "e"])),
        "action",
        "action is 'd'; the task's are a",
    ),
    "an action in a dictionary that is not known": (
        arrow(action=pa.array(["a", "d", "e"]).dictionary_encode()),
        "action",
        "action is 'd'",
    ),
    "an action of null": (arrow(action=pa.array(["a", None, "a"])), "type", "action holds nulls"),
    "seconds": (arrow(ts=pa.array([T0 // 1000] * 3)), "ts", "it looks like seconds"),
    "ts is a text": (arrow(ts=pa.array(["2024-11-22T10:00Z"] * 3)), "type", "text '2024-11-22T10:00Z': milliseconds"),
    "ts is a float": (arrow(ts=pa.array([1.5] * 3)), "type", "ts is 1.5: milliseconds .* whole number"),
    "a probability": (arrow(log_prob=pa.array([0.7] * 3)), "log_prob", "log_prob is 0.7"),
    "another stream behind it": (arrow() + arrow(), "syntax", "after the end of the Arrow stream: send one stream"),
    "another stream, the first without end": (arrow()[:-8] + arrow(), "syntax", "not a valid Arrow stream"),
    "bytes behind it": (arrow() + b"garbage!", "syntax", "8 bytes after the end of the Arrow stream"),
    "a byte behind it": (arrow() + b"\0", "syntax", "1 bytes after the end"),
    "two ends": (arrow() + b"\xff\xff\xff\xff\0\0\0\0", "syntax", "8 bytes after the end"),
    "bytes behind it, without end": (arrow()[:-8] + b"abc", "syntax", "3 bytes after the end"),
    "a reward term of text": (
        arrow(of="arm", reward_terms=pa.array([{"speed": "a"}] * 3)),
        "type",
        "speed is string",
    ),
    "a reward term twice": (
        arrow(
            of="arm",
            reward_terms=pa.StructArray.from_arrays([pa.array([1.0] * 3)] * 2, ["speed", "speed"]),
        ),
        "type",
        "two fields speed",
    ),
    "NaN": (arrow(reward=pa.array([1.0, float("nan"), 1.0])), "reward_finite", "reward is NaN: a finite"),
    "an infinite obs": (arrow(obs=pa.array([[1.0, float("-inf")]] * 3)), "obs_finite", r"obs\[1\] is -Infinity"),
    "too large for float32": (
        arrow(next_obs=pa.array([[1.0, 1e39]] * 3)),
        "next_obs_finite",
        r"next_obs\[1\] is Infinity",
    ),
    "too many rows": (arrow(rows=51), "size", "more than 50 rows"),
    "too many rows in batches": (stream(table(51), 51), "size", "more than 50 rows"),
}


@pytest.mark.parametrize(("value", "rule", "reason"), REJECTED.values(), ids=REJECTED)
def test_rejected(value, rule, reason):
    """A bad message is rejected by a rule that has a name, with a reason that says what is wrong."""
    found, why = rejected(value, ARROW)
    assert found == rule, why
    assert re.search(reason, why), why


def test_bad_messages_among_good_ones():
    """The ones to blame are found; the others are accepted in order, each as if it were alone."""
    values = [arrow(step=pa.array([i, i + 1, i + 2])) for i in range(40)]
    bad = {3: "a negative policy_version", 4: "obs is ragged", 17: "two versions", 20: "half", 39: "two agents"}
    for position, name in bad.items():
        values[position] = REJECTED[name][0]
    checked = check(values, [ARROW] * 40)
    assert {r.position: r.rule for r in checked.rejected} == {p: REJECTED[n][1] for p, n in bad.items()}
    messages = batch_of(values, [ARROW] * 40)
    alone = [check([value], [ARROW]) for value in values]
    for position, found in enumerate(outcomes(messages, checked)):
        if position not in bad:
            steps = [values[3] for values in found[2]]
            assert steps == [np.int64(position + k).tobytes() for k in range(3)]
            assert found[1] == alone[position].stream_ts[0]


def test_shapes_and_dictionaries_that_differ():
    """Messages of other column types and other names stand side by side."""
    values = [arrow(agent_id=names(f"agent-{i % 7}"), episode_id=names(f"e{i}")) for i in range(20)]
    values += [arrow(**form) for form in FORMS.values()]
    checked = check(values, [ARROW] * len(values))
    assert not checked.rejected
    assert sum(map(len, checked.batches)) == 3 * len(values)
    batch = checked.batches[0]
    assert [batch.agents[i] for i in batch.agent[::3]] == [f"agent-{i % 7}" for i in range(20)]
    assert [batch.episodes[i] for i in batch.episode[::3]] == [f"e{i}" for i in range(20)]


@pytest.mark.parametrize("task", ["valve", "arm"])
@pytest.mark.parametrize("optional", [False, True])
def test_encode_and_back(task, optional):
    """An encoded batch reads back to the bit."""
    more = {"policy_version": 5, "log_prob": -0.25} if optional else {}
    if optional and task == "arm":
        more["reward_terms"] = {"speed": 0.5}
    rows = [row(task, step=i, episode_id=f"e{i}", **(more if i else {})) for i in range(5)]
    expected = check([json.dumps(rows).encode()])
    value = codec_arrow.encode(expected.batches[0], SPECS[task])
    assert isinstance(value, bytes)
    same_rows(check([value], [ARROW]), expected)


def test_encode_keeps_only_names_that_occur():
    """A message of one agent's rows does not carry the fleet's names."""
    fleet = check([message(agent_id=f"agent-{i}", episode_id=f"episode-{i}") for i in range(50)]).batches[0]
    value = codec_arrow.encode(fleet.take(np.array([7])), VALVE)
    assert b"agent-7" in value
    assert b"agent-8" not in value
    assert accepted(value, ARROW).agents == ("agent-7",)


class TestFrames:
    """What a stream would unpack to is bounded before Arrow unpacks it."""

    def packed(self, codec_name="zstd", rows=40):
        rng = np.random.default_rng(0)
        obs = pa.array(rng.normal(size=(rows, 2)).tolist())
        return stream(table(rows, obs=obs), options=pa.ipc.IpcWriteOptions(compression=codec_name))

    @pytest.mark.parametrize("name", ["zstd", "lz4"])
    def test_packed_messages_are_read(self, name):
        assert len(accepted(self.packed(name), ARROW)) == 40

    @pytest.mark.parametrize("claim", [1 << 40, 1 << 62, (1 << 63) - 1, arrow_frames.MAX_UNPACKED_BYTES + 1])
    def test_a_bomb(self, claim):
        """A buffer that claims to unpack to too much is rejected without being given the memory."""
        value = self.packed()
        length = struct.pack("<q", 40 * 8)  # of the columns step and ts
        assert value.count(length + b"\x28\xb5\x2f\xfd")
        bomb = value.replace(length + b"\x28\xb5\x2f\xfd", struct.pack("<q", claim) + b"\x28\xb5\x2f\xfd", 1)
        rule, reason = rejected(bomb, ARROW)
        assert rule == "size"
        assert "would unpack to" in reason

    def test_packed_zeros(self):
        """A small message may hold a large column, but not a huge one."""
        data = table(3, note=pa.array([b"\0" * 30_000_000] * 3, pa.large_binary()))
        value = stream(data, options=pa.ipc.IpcWriteOptions(compression="zstd"))
        assert len(value) < 200_000
        rule, reason = rejected(value, ARROW)
        assert rule == "size"
        assert "would unpack to 900" in reason

    def test_frames_before_arrow_0_15(self):
        """Streams without the marker before each length are read too."""
        old = stream(table(), options=pa.ipc.IpcWriteOptions(use_legacy_format=True))
        assert old[:4] != b"\xff\xff\xff\xff"
        assert len(accepted(old, ARROW)) == 3

    def test_rows_without_buffers(self):
        """Columns of nulls take no bytes, so that a few could claim any number of rows."""
        value = stream(pa.table({name: pa.nulls(3) for name in table().column_names}))
        huge = value.replace(struct.pack("<q", 3), struct.pack("<q", 1 << 40))
        assert rejected(huge, ARROW) == ("size", "more than 50 rows in one message")


class TestViews:
    """Many views may show the same bytes: what they would become is bounded before it is made."""

    @pytest.mark.parametrize("coded", [False, True])
    def test_texts(self, coded):
        long = pa.array(["x" * 3_000_000]).cast(pa.string_view())
        many = pa.StringViewArray.from_buffers(
            pa.string_view(), 50, [None, pa.py_buffer(long.buffers()[1].to_pybytes() * 50), long.buffers()[2]]
        )
        column = pa.DictionaryArray.from_arrays(pa.array([0] * 50), many) if coded else many
        with pytest.raises(codec_arrow.BadMessageError, match="would unpack to 150000000 bytes") as caught:
            codec_arrow.read(stream(table(50, agent_id=column)), 50)
        assert caught.value.rule == "size"

    def test_lists(self):
        many = pa.ListViewArray.from_arrays([0] * 50, [200_000] * 50, pa.array(np.zeros(200_000, np.float32)))
        with pytest.raises(codec_arrow.BadMessageError, match="would unpack to 80000000 bytes"):
            codec_arrow.read(stream(table(50, obs=many)), 50)

    def test_lists_out_of_order(self):
        """A list view may begin anywhere: the rows are those that it shows."""
        views = pa.ListViewArray.from_arrays([4, 0, 2], [2, 2, 2], pa.array([1.0, 2, 3, 4, 5, 6]))
        batch = accepted(stream(table(obs=views), 2), ARROW)
        assert batch.obs.tolist() == [[5, 6], [1, 2], [3, 4]]


def test_reading_is_bounded_by_message_rows():
    with pytest.raises(codec_arrow.BadMessageError) as caught:
        codec_arrow.read(arrow(rows=4), 3)
    assert caught.value.rule == "size"


def test_continuous_actions():
    batch = accepted(arrow(of="arm", action=pa.array([[0.5, 0.875]] * 3, pa.list_(pa.float32(), 2))), ARROW)
    assert batch.action.tolist() == [[0.5, 0.875]] * 3
    rule, reason = rejected(arrow(of="arm", action=pa.array([[0.5]] * 3)), ARROW)
    assert (rule, reason) == ("width", "action has 1 values a row; the task has 2")
    assert TASKS["arm"].spec is ARM
