"""Content types: a new one is a function beside the table's others, and one line of the table."""

import pytest
from codec_examples import T0, accepted, check, message

from headrace.schemas import codec


def check_times(checker, positions):
    """A type of messages that hold nothing but a time: each is taken as seen, or rejected where it is no number."""
    for position in positions.tolist():
        value = checker.messages.values[position]
        if value.isdigit():
            checker.checked.stream_ts[position] = int(value)
        else:
            checker.reject(position, "syntax", f"{value!r} is no time")


def test_a_third_content_type_is_one_line(monkeypatch: pytest.MonkeyPatch):
    """Its messages reach it whatever stands beside them, and nobody else's do."""
    third = (("content-type", b"text/x-time; charset=ascii"),)
    values = [b"%d" % (T0 + 3), message(), b"soon"]
    headers = [third, (), third]
    before = check(values, headers)
    assert [one.rule for one in before.rejected] == ["content_type", "content_type"]
    monkeypatch.setitem(codec.CONTENT_TYPES, "text/x-time", check_times)
    after = check(values, headers)
    assert [(one.position, one.rule) for one in after.rejected] == [(2, "syntax")]
    assert after.stream_ts.tolist() == [T0 + 3, T0 + 7, -1]
    (batch,) = after.batches
    assert batch.obs.tolist() == accepted(message()).obs.tolist()
