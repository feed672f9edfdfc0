"""The quarantine as people ask for it: the newest first, counted by rule, task and producer, one message whole."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from headrace.pipelines.query.quarantine import find, origin, rejected, summary, whole
from headrace.pipelines.topics import KEPT_BYTES, REJECTED, TRANSITIONS
from headrace.schemas.codec import ARROW_HEADERS
from headrace.schemas.errors import UnknownRecordError
from headrace.schemas.ports import Record
from headrace.sinks.sqlite.log import SqliteLog

CLOCK = [0]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    with closing(SqliteLog(tmp_path / "log.db", lambda: CLOCK[0])) as log:
        for topic in (REJECTED, TRANSITIONS):
            log.create(topic, 3)
        yield log


def refuse(
    log: SqliteLog, ts: int, value: bytes | None, rule: str = "type", key: bytes | None = b"k", **more: bytes
) -> None:
    """One message refused at a time; it lies at partition 1, offset ts."""
    CLOCK[0] = ts
    headers = {"rule": rule.encode(), "reason": f"reason {ts}".encode(), "topic": b"transitions", "partition": b"1"}
    headers |= {"offset": str(ts).encode()} | {name.replace("_", "-"): data for name, data in more.items()}
    log.send([Record(REJECTED, key, value, tuple(headers.items()), ts % 3)])


def message(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_the_newest_come_first_whatever_the_partition_and_the_page(log: SqliteLog) -> None:
    for ts in range(1_700):
        refuse(log, ts, b"x", "type" if ts % 5 else "width")
    assert [one.ts for one in rejected(log)] == [*range(1_700)][::-1]
    assert [one.ts for one in rejected(log, ["width"], 600, 621)] == [620, 615, 610, 605, 600]
    assert [one.place for one in rejected(log, start_ms=1_699)] == ["1:1699"]


def test_a_summary_counts_by_rule_task_and_producer(log: SqliteLog) -> None:
    for ts in (10, 20, 30):
        refuse(log, ts, message(task="valve", agent_id="a1"))
    refuse(log, 40, message(task="valve", agent_id="a2"))
    refuse(log, 50, message(task="valve", agent_id="a1"), "width")
    refuse(log, 60, b"\xff\x00", "syntax", b"box")
    first, *others = summary(rejected(log))
    assert (first.messages, first.rule, first.task, first.producer) == (3, "type", "valve", "a1")
    assert (first.first_ts, first.last_ts, first.example, first.reason) == (10, 30, "1:30", "reason 30")
    assert [(one.rule, one.task, one.producer) for one in others] == [
        ("syntax", "", "box"),
        ("type", "valve", "a2"),
        ("width", "valve", "a1"),
    ]


def arrow(**columns: object) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table(columns)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("value", "headers", "said"),
    [
        (b'{"agent_id" : "a1", "obs": [1, NaN], "task":"valve"}', {}, ("valve", "a1")),
        (b'[{"task":"valve","agent_id":"a1"},{"task":"other"}]', {}, ("valve", "a1")),
        (b'{"task":"valve","obs":[1,2', {}, ("valve", "k")),  # cut
        (b'{"task":7}', {}, ("", "k")),
        (b'{"task":"\xc3\xa4\xff","agent_id":"a"}', {}, ("\u00e4\ufffd", "a")),
        (b"", {}, ("", "k")),
        (None, {}, ("", "k")),
        (arrow(task=["valve"], agent_id=["a1"], x=[np.inf]), {"content_type": ARROW_HEADERS[0][1]}, ("valve", "a1")),
        (arrow(x=[1]), {"content_type": ARROW_HEADERS[0][1]}, ("", "k")),
        (b"no arrow", {"content_type": ARROW_HEADERS[0][1]}, ("", "k")),
    ],
)
def test_what_a_message_says_of_its_origin(
    log: SqliteLog, value: bytes | None, headers: dict[str, bytes], said: tuple[str, str]
) -> None:
    refuse(log, 1, value, **headers)
    (found,) = rejected(log)
    assert origin(found) == said


def test_a_message_is_shown_whole(log: SqliteLog) -> None:
    long = message(task="valve", agent_id="a1", note="x" * 2 * KEPT_BYTES)
    log.send([Record(TRANSITIONS, b"k", long, partition=1)])
    refuse(log, 0, long[:KEPT_BYTES])
    shown = whole(log, find(rejected(log), 1, 0))
    assert shown["value"] == json.loads(long)
    assert (shown["complete"], shown["bytes"], shown["task"], shown["place"]) == (True, len(long), "valve", "1:0")
    refuse(log, 9, long[:KEPT_BYTES])  # its source is gone
    shown = whole(log, find(rejected(log), 1, 9))
    assert (shown["complete"], shown["value"]) == (False, long[:KEPT_BYTES].decode())
    refuse(log, 12, b"\x1b[31m\xff")
    assert whole(log, find(rejected(log), 1, 12))["value"] == "\\x1b[31m\\xff"
    refuse(log, 15, arrow(task=["valve", "valve"], x=[1, 2]), content_type=ARROW_HEADERS[0][1])
    assert whole(log, find(rejected(log), 1, 15))["value"] == [{"task": "valve", "x": 1}, {"task": "valve", "x": 2}]
    with pytest.raises(UnknownRecordError, match="no message 2:9 was rejected: `headrace rejected list`"):
        find(rejected(log), 2, 9)
