import gc
import gzip
import json
import re

import msgspec
import numpy as np
import pytest
from codec_examples import ARM, LAYOUT, SPECS, T0, TASKS, VALVE, accepted, check, message, raw_message, rejected, row

from headrace.schemas import codec, codec_json
from headrace.schemas.checker import known_task
from headrace.schemas.rules import MESSAGE_RULES


def test_a_transition_becomes_a_row():
    """Every field of the message stands in its column."""
    batch = accepted(message("arm", reward_terms={"cost": -2.5}, policy_version=3, log_prob=-0.5))
    assert (batch.task, batch.agents, batch.episodes) == ("arm", ("agent-1",), ("e1",))
    assert (batch.step.tolist(), batch.ts.tolist(), batch.offset.tolist()) == ([7], [T0 + 7], [100])
    assert batch.obs.tolist() == [[1.0, 2.5, 0.875]]
    assert batch.action.tolist() == [[0.5, 0.875]]
    assert (batch.terminated.tolist(), batch.truncated.tolist()) == ([False], [True])
    assert np.isnan(batch.reward_terms[0, 0])
    assert (batch.reward_terms[0, 1], batch.policy_version[0], batch.log_prob[0]) == (-2.5, 3, -0.5)
    assert (batch.obs.dtype, batch.action.dtype, batch.reward.dtype) == (np.float32, np.float32, np.float32)


def test_absent_optional_fields():
    """Absent and null are the same."""
    for value in (message("arm"), message("arm", reward_terms=None, policy_version=None, log_prob=None)):
        batch = accepted(value)
        assert np.isnan(batch.reward_terms).all()
        assert np.isnan(batch.log_prob).all()
        assert batch.policy_version.tolist() == [-1]


def test_unknown_fields_are_ignored():
    assert len(accepted(message(note={"deep": [1, {"x": None}]}, heartbeat=True))) == 1


def test_a_byte_order_mark_is_passed_over():
    """Before one transition, an array or a heartbeat, whatever stands beside it."""
    mark = b"\xef\xbb\xbf"
    values = [message(step=1), mark + message(step=2), mark + json.dumps([row(step=3)]).encode(), message(step=4)]
    checked = check([*values, mark + codec.heartbeat("valve", "a", T0 + 9)])
    assert not checked.rejected
    assert checked.batches[0].step.tolist() == [1, 2, 3, 4]
    assert checked.stream_ts.tolist() == [*[T0 + 7] * 4, T0 + 9]


def test_actions_by_name():
    """A text is the name of an action, a number its place, also in one message."""
    rows = [row(action=action) for action in ("c", 1, "a", "b")]
    assert accepted(json.dumps(rows).encode()).action.tolist() == [2, 1, 0, 1]
    checked = check([message(action="b"), message(action="x"), message(action="c")])
    assert checked.batches[0].action.tolist() == [1, 2]
    assert [(r.position, r.rule) for r in checked.rejected] == [(1, "action")]


def test_a_term_of_null_is_absent_though_it_is_not_known():
    assert len(accepted(message(reward_terms={"x": None}))) == 1


def test_an_array_is_one_message():
    """Its rows have the message's offset, in order."""
    batch = accepted(json.dumps([row(step=s) for s in (3, 1, 2)]).encode())
    assert batch.step.tolist() == [3, 1, 2]
    assert batch.offset.tolist() == [100] * 3


def test_the_last_of_duplicate_keys_counts():
    batch = accepted(message()[:-1] + b', "step": 9, "obs": [8, 9]}')
    assert (batch.step.tolist(), batch.obs.tolist()) == ([9], [[8.0, 9.0]])


@pytest.mark.parametrize("content", [b"application/json", b"application/json; charset=utf-8", b" Application/JSON "])
def test_json_content_type(content):
    assert len(accepted(message(), (("content-type", content),))) == 1


NUMBERS = {  # text -> the float32 that it becomes
    "-0": 0.0,
    "-0.0": -0.0,
    "1e-400": 0.0,
    "4.9e-324": 0.0,
    "1e-45": 1.401298464324817e-45,
    "16777217": 16777216.0,
    "9007199791611905": 9007199254740992.0,  # as a double first: 9007199791611904, halfway, then to even
    "18446744073709551615": 2.0**64,
    "18446744073709551616": 2.0**64,
    "1" + "0" * 30: 1e30,
    "3.4028235e38": 3.4028234663852886e38,
    "0.1": 0.10000000149011612,
    "1E2": 100.0,
}


@pytest.mark.parametrize(("text", "value"), NUMBERS.items())
def test_numbers(text, value):
    """A number becomes the nearest double and then the nearest float32, in every field and beside any other."""
    batch = accepted(raw_message(obs=f"[{text}, 1]", next_obs=f"[{text},{'9' * 25}]", reward=text))
    assert batch.obs[0, 0].tobytes() == np.float32(value).tobytes()
    assert batch.next_obs[0, 0].tobytes() == np.float32(value).tobytes()
    assert float(batch.reward[0]) == float(np.float32(value))


REJECTED = {
    "nothing": (b"", "empty", "no value"),
    "spaces": (b"  ", "syntax", "malformed|truncated"),
    "half": (message()[:50], "syntax", "truncated"),
    "two values": (message() + message(), "syntax", "trailing"),
    "utf-16": (message().decode().encode("utf-16"), "syntax", "it is UTF-16 text"),
    "utf-16 without a mark": (message().decode().encode("utf-16-le"), "syntax", "UTF-16 or UTF-32 text"),
    "gzip": (gzip.compress(message()), "syntax", "compressed by gzip"),
    "two byte order marks": (b"\xef\xbb\xbf" * 2 + message(), "syntax", "malformed"),
    "invalid UTF-8": (message(agent_id="X").replace(b"X", b"\xff"), "syntax", "utf-8"),
    "a lone surrogate": (raw_message(agent_id=r'"\ud800"'), "syntax", "surrogate"),
    "an encoded surrogate": (raw_message(agent_id='"\ud800"'), "syntax", "utf-8"),
    "NaN in a field that is not known": (raw_message(note='[1, {"x": NaN}]'), "syntax", r"note\[1\].x is NaN: a"),
    "NaN for a step": (raw_message(step="NaN"), "syntax", "step is NaN"),
    "NaN in bad JSON": (raw_message(obs="[NaN, 1,]"), "syntax", "malformed"),
    "NaN without a transition": (b"NaN", "syntax", "malformed"),
    "an ISO time": (
        message(ts="2024-11-22T10:00:00+01:00"),
        "type",
        r"ts is the text '2024-11-22T10:00:00\+01:00': milliseconds .*, here 1732266000000; convert with",
    ),
    "an ISO time without zone": (
        message(ts="2024-11-22 10:00"),
        "type",
        r"here 1732269600000 if it is UTC; convert with .*replace\(tzinfo=UTC\)",
    ),
    "digits as a text": (message(ts="1732269600000"), "type", "text '1732269600000': .*whole number, without quotes$"),
    "a date of another form": (message(ts="22.11.2024"), "type", "text '22.11.2024': .* as a whole number$"),
    "a fraction of seconds": (
        message(ts=1732269600.25),
        "type",
        r"ts is 1732269600.25: milliseconds .*int\(ts \* 1000",
    ),
    "a time of null": (message(ts=None), "type", "ts is None: milliseconds since 1970"),
    "an ISO time in an array": (json.dumps([row(), row(ts="2024-11-22")]).encode(), "type", "the text '2024-11-22'"),
    "a time too long": (message(ts=2**64), "type", "ts"),
    "an ISO time in a heartbeat": (
        json.dumps({"schema_version": 1, "task": "valve", "agent_id": "a", "ts": "now", "heartbeat": True}).encode(),
        "type",
        "heartbeat: ts is the text 'now': milliseconds",
    ),
    "a raw newline in a string": (raw_message(agent_id='"a\nb"'), "syntax", "malformed"),
    "a comma too much": (raw_message(obs="[1,2,]"), "syntax", "trailing comma"),
    "deep": (raw_message(note="[" * 501 + "]" * 501), "syntax", "deeper than 500"),
    "very deep": (raw_message(obs="[" * 90_000), "syntax", "deeper than 500"),
    "deep and unclosed": (b"[" * 150_000, "syntax", "deeper than 500"),
    "a number": (b"7", "type", "object"),
    "a string": (b'"transition"', "type", "object"),
    "null": (b"null", "type", "object"),
    "an array of numbers": (b"[1]", "type", "object"),
    "an empty array": (b"[]", "empty", "no transitions"),
    "an empty object": (b"{}", "type", "schema_version"),
    "a missing field": (message(reward=...), "type", "reward"),
    "a null": (message(reward=None), "type", "reward"),
    "a string for a number": (message(reward="1"), "type", '^Expected .*reward`: it is "1"$'),
    "a boolean for a number": (message(reward=True), "type", "reward"),
    "a number for a boolean": (message(terminated=0), "type", "terminated"),
    "a number for a name": (message(agent_id=7), "type", "agent_id"),
    "a float for a step": (message(step=1.5), "type", "step"),
    "a step beyond 64 bits": (message(step=2**63), "type", "step"),
    "1e400": (raw_message(reward="1e400"), "type", "out of range"),
    "an integer of 400 digits": (raw_message(reward="9" * 400), "type", "out of range"),
    "1e400 in obs": (raw_message(obs="[1, 1e400]"), "type", "obs: .*out of range"),
    "a string in obs": (message(obs=[1, "2"]), "type", "obs: .*`str`"),
    "a null in obs": (message(next_obs=[None, 1]), "type", "next_obs: .*`null`"),
    "a boolean in obs": (message(obs=[True, 1]), "type", "obs: .*`bool`"),
    "an object in obs": (message(obs=[{"x": 1}, 1]), "type", "obs: .*`object`"),
    "nested obs": (message(obs=[[1, 2]]), "type", "obs: .*`array`"),
    "ragged obs": (message(obs=[1, [2]]), "type", "obs: .*`array`"),
    "an empty array in obs": (message(obs=[1, 2, []]), "type", "obs: .*`array`"),
    "obs is a number": (message("dial", obs=3), "type", "obs: .*`int`"),
    "obs is a string": (message(obs="[1,2]"), "type", "obs: .*`str`"),
    "obs is an object": (message(obs={"x0": 1, "x1": 2}), "type", "obs: .*`object`"),
    "obs is null": (message(obs=None), "type", "obs: .*`null`"),
    "obs is empty": (message(obs=[]), "width", "obs has 0 values; the task has 2"),
    "obs is short": (message(obs=[1]), "width", "obs has 1 values; the task has 2"),
    "next_obs is long": (message(next_obs=[1, 2, 3]), "width", "next_obs has 3 values; the task has 2"),
    "action is a vector": (message(action=[1]), "type", "action is not an integer or a name"),
    "action is a number": (message("arm", action=1), "type", "action is not an array of 2 numbers"),
    "action is a name": (message("arm", action="up"), "type", "action is not an array of 2 numbers"),
    "action is a float": (message(action=1.0), "type", "action"),
    "action is short": (message("arm", action=[0.5]), "width", "action has 1 values; the task has 2"),
    "action is empty": (message("arm", action=[]), "width", "action has 0 values"),
    "action beyond 32 bits": (message(action=2**31), "type", "action 2147483648 is not a 32-bit integer"),
    "action of 300 digits": (raw_message(action="1" * 300), "type", "action 1+ is not a 32-bit integer"),
    "a reward term that is not known": (
        message("arm", reward_terms={"speed": 1, "cots": 9}),
        "reward_terms",
        "reward_terms has 'cots'; the task's are cost, speed",
    ),
    "a reward term where none is": (message(reward_terms={"x": 1}), "reward_terms", "'x'; the task names none"),
    "reward term of text": (message("arm", reward_terms={"speed": "fast"}), "type", "reward_terms"),
    "a negative version": (message(policy_version=-1), "type", "policy_version"),
    "schema_version 2": (message(schema_version=2), "schema_version", "schema_version 2; 1 is known"),
    "schema_version of 50 digits": (raw_message(schema_version="9" * 50), "schema_version", "schema_version 9+; 1"),
    "an unknown task": (message(task="pump"), "unknown_task", "task 'pump' was not added before"),
    "two agents": (json.dumps([row(), row(agent_id="agent-2")]).encode(), "one_agent", "several tasks or agents"),
    "two tasks": (json.dumps([row(), row("arm")]).encode(), "one_agent", "several tasks or agents"),
    "two schema versions": (
        json.dumps([row(), row(schema_version=2)]).encode(),
        "schema_version",
        "several schema_versions",
    ),
    "one bad row of three": (json.dumps([row(), row(obs=[1]), row()]).encode(), "width", "obs has 1 values"),
    "too many rows": (json.dumps([row()] * 51).encode(), "size", "51 transitions in one message; 50 are allowed"),
    "too many bytes": (message(note="x" * 200_000), "size", "bytes; 200000 are allowed"),
}


@pytest.mark.parametrize(("value", "rule", "reason"), REJECTED.values(), ids=REJECTED)
def test_rejected(value, rule, reason):
    """A bad message is rejected whole by a rule that has a name, with a reason that says what is wrong."""
    assert rule in MESSAGE_RULES
    found, why = rejected(value)
    assert found == rule

    assert re.search(reason, why), why
    assert len(why) <= 250


def test_a_missing_value():
    assert rejected(None)[0] == "empty"


@pytest.mark.parametrize("content", [b"text/plain", b"", b"\xff", b"application/vnd.apache.arrow.file"])
def test_content_types_that_are_not_known(content):
    rule, reason = rejected(message(), (("content-type", content),))
    assert rule == "content_type"
    assert "content-type" in reason
    assert "accepted are application/json, application/vnd.apache.arrow.stream" in reason


def test_nesting_does_not_depend_on_the_stack():
    """500 levels are read and 501 are not, however deep the caller stands."""

    def at(depth, value):
        return at(depth - 1, value) if depth else check([value])

    for depth in (0, 300):
        assert not at(depth, raw_message(note="[" * 499 + "]" * 499)).rejected
        assert at(depth, raw_message(note="[" * 500 + "]" * 500)).rejected[0].rule == "syntax"


def test_brackets_that_do_not_nest():
    """Thousands of brackets beside each other are fine."""
    assert len(accepted(raw_message(note="[" + ",".join(["[{}]"] * 2_000) + "]"))) == 1


def test_messages_before_their_task():
    """A message counts only if its task was added before: append time against append time, whatever comes around."""
    early, late = T0 - 1, T0
    checked = check([message(), message(), message()], append_ts=[late, early, late])
    assert [(r.position, r.rule) for r in checked.rejected] == [(1, "unknown_task")]
    assert checked.batches[0].offset.tolist() == [100, 102]
    assert not checked.unknown, "a task that came later need not be looked for"


def test_tasks_to_look_for():
    """Tasks without a spec are named once, so that the caller can read the log of tasks again."""
    checked = check([message(), message(task="pump"), message(task="pump"), codec.heartbeat("fan", "a", T0)])
    assert checked.unknown == {"pump", "fan"}


class TestHeartbeat:
    def test_moves_stream_time(self):
        """Stream time is the event time, but never beyond the append time; there are no rows."""
        checked = check([codec.heartbeat("valve", "a", T0 + 5), codec.heartbeat("valve", "a", T0 + 5_000)])
        assert checked.stream_ts.tolist() == [T0 + 5, T0 + 1_000]
        assert not checked.batches
        assert not checked.rejected

    def test_among_transitions(self):
        checked = check([message(), codec.heartbeat("valve", "a", T0 + 9), message()])
        assert checked.stream_ts.tolist() == [T0 + 7, T0 + 9, T0 + 7]
        assert checked.batches[0].offset.tolist() == [100, 102]

    @pytest.mark.parametrize(
        ("changes", "rule"),
        [
            ({"task": "pump"}, "unknown_task"),
            ({"schema_version": 2}, "schema_version"),
            ({"ts": -1}, "ts"),
            ({"ts": 253_402_300_800_000}, "ts"),
            ({"ts": T0 + 301_001}, "clock"),
            ({"ts": T0 // 1000}, "ts"),
            ({"ts": "now"}, "type"),
            ({"ts": 1.5}, "type"),
            ({"heartbeat": False}, "type"),
            ({"heartbeat": 1}, "type"),
            ({"agent_id": None}, "type"),
        ],
    )
    def test_rejected(self, changes, rule):
        beat = {"schema_version": 1, "task": "valve", "agent_id": "a", "ts": T0, "heartbeat": True}
        found, reason = rejected(json.dumps(beat | changes).encode())
        assert found == rule
        assert reason

    def test_at_the_edge_of_the_clock(self):
        assert not check([codec.heartbeat("valve", "a", T0 + 301_000)]).rejected


def test_stream_time_of_a_message():
    """The greatest of min(event time, append time) over its rows; nothing where it was rejected."""
    values = [json.dumps([row(ts=T0 + t) for t in (4, 900, 3)]).encode(), message(ts=T0 + 3_000), message(reward=None)]
    assert check(values).stream_ts.tolist() == [T0 + 900, T0 + 1_000, -1]


def test_no_messages():
    checked = check([])
    assert (checked.batches, checked.rejected, len(checked.stream_ts)) == ([], [], 0)


def test_several_tasks_in_one_batch():
    """One batch of rows per task, each of its own width."""
    checked = check([message(), message("arm"), message("dial"), message()])
    assert {batch.task: batch.offset.tolist() for batch in checked.batches} == {
        "valve": [100, 103],
        "arm": [101],
        "dial": [102],
    }


def test_poison_in_a_large_batch():
    """Bad messages are found one by one; all others are accepted, in order."""
    values = [message(step=i) for i in range(3_000)]
    bad = {0: b"{", 1_023: message(obs=[1]), 1_024: message(action=9), 2_999: message(next_obs=["x", 1])}
    for position, value in bad.items():
        values[position] = value
    checked = check(values)
    assert [r.position for r in checked.rejected] == sorted(bad)
    assert [r.rule for r in checked.rejected] == ["syntax", "width", "action", "type"]
    assert checked.batches[0].step.tolist() == [i for i in range(3_000) if i not in bad]


def test_poison_leaves_the_fast_way_open():
    """No error of a bad message keeps simdjson's parser from being used again, until garbage is collected or ever."""
    gc.disable()
    try:
        checked = [check([raw_message(obs=text)]) for text in ("[1]", '["x",1]', "[[1],2]", "{}", f"[1,{'9' * 30}]")]
        raws = [msgspec.Raw(b"[1,2]")] * 3
        assert codec_json._joined(raws, 2).tolist() == [[1, 2]] * 3
    finally:
        gc.enable()
    assert sum(len(c.rejected) for c in checked) == 4


@pytest.mark.parametrize("task", ["valve", "arm"])
def test_encode_json_and_back(task):
    """What is printed reads back as the same floats, in their shortest form."""
    rng = np.random.default_rng(0)
    optional = {"reward_terms": {"speed": 0.1}, "policy_version": 4, "log_prob": -0.3} if task == "arm" else {}
    rows = [
        row(
            task,
            step=i,
            reward=float(np.float32(rng.normal())),
            next_obs=row(task)["obs"] if task == "arm" else rng.normal(size=2).tolist(),
            **(optional if i % 2 else {}),
        )
        for i in range(30)
    ]
    batch = accepted(json.dumps(rows).encode())
    values = codec.encode_json(batch, SPECS[task])
    again = accepted(b"[" + b",".join(values) + b"]")
    assert again.reward.tobytes() == batch.reward.tobytes()
    assert again.next_obs.tobytes() == batch.next_obs.tobytes()
    assert again.log_prob.tobytes() == batch.log_prob.tobytes()
    assert [msgspec.json.decode(v) for v in values] == codec.to_records(batch, SPECS[task])
    if task == "arm":
        assert codec.to_records(batch, ARM)[1]["reward_terms"] == {"speed": 0.1}
        assert b"0.10000000149" not in values[1]
        assert "reward_terms" not in codec.to_records(batch, ARM)[0]


def test_the_fast_and_the_slow_way_are_one():
    """A message alone, in a block of good ones, and in one that a bad one sends the slow way gives equal rows."""
    odd = raw_message(obs="[-0, 16777217]", next_obs="[4.9e-324, 0.1]", reward="9007199791611905")
    alone = check([odd]).batches[0]
    fast = check([message(), odd, message()]).batches[0]
    slow = check([message(obs=[]), odd, raw_message(obs=f"[{'9' * 25}, 1]")]).batches[0]
    for name in ("obs", "next_obs", "reward"):
        assert getattr(fast, name)[1].tobytes() == getattr(slow, name)[0].tobytes() == getattr(alone, name)[0].tobytes()


def test_arrays_do_not_borrow_from_each_other():
    """Texts which, joined, would have as many brackets, commas and numbers as two good vectors are both rejected."""
    pairs = [
        ("dial", "5", "[[6]]"),
        ("dial", "1", "[2,[]]"),
        ("dial", "[]", "[1,2]"),
        ("valve", "1", "[2,3,[],4]"),
        ("valve", "[1]", "[1e39,2,3]"),
        ("valve", "[1,2,3]", "[1]"),
        ("valve", "[[1,2]]", "[]"),
        ("valve", "[1,1e39]", "[1e39,2]"),
        ("dial", '"[1"', "[2]"),
    ]
    for task, one, other in pairs:
        for texts in ((one, other), (other, one)):
            checked = check([raw_message(task, obs=text, step=str(i)) for i, text in enumerate(texts)])
            alone = [check([raw_message(task, obs=text)]) for text in texts]
            assert [r.position for r in checked.rejected] == [i for i, c in enumerate(alone) if c.rejected], texts
            assert len(checked.rejected) >= 1


def test_known_task():
    assert TASKS["valve"].spec is VALVE
    assert known_task(VALVE, 5, LAYOUT).added_ms == 5


def test_a_producers_own_time_is_no_append_time():
    """Such a message (the log has no time of its own for it) is rejected by itself, whatever it holds."""
    rule, reason = rejected(message(), append_ts=[-1])
    assert rule == "clock"
    assert "LogAppendTime" in reason
    assert "headrace rejected replay" in reason
    checked = check([message(step=1), b"{", message(step=2)], append_ts=[T0, -1, T0 + 9])
    assert [(r.position, r.rule) for r in checked.rejected] == [(1, "clock")]
    assert checked.batches[0].step.tolist() == [1, 2]
