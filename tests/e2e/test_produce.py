"""What produce puts on the log: the bytes as they are, or an agent's rows together."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import re
import tarfile
import zipfile

import fastavro
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shell import T0, VALVE, transitions

from headrace.pipelines.produce import lines as lines_module
from headrace.pipelines.produce import producer as produce_module
from headrace.pipelines.produce.lines import Block
from headrace.pipelines.produce.producer import Producer, key_of, produce
from headrace.pipelines.settings import read_settings
from headrace.pipelines.tasks import TaskTable, add_task
from headrace.pipelines.topics import messages
from headrace.pipelines.wiring import open_services
from headrace.schemas import codec
from headrace.schemas.errors import RejectedDataError, SettingsError
from headrace.schemas.records import Bounds, TaskSpec, decode_task


@pytest.fixture
def services(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_services(read_settings(), create=True) as opened:
        opened.initialise(partitions=2)
        add_task(opened.log, decode_task(json.dumps(VALVE).encode()))
        yield opened


def done(services, text: bytes, *, close: bool = False, **options):
    """Produce the text; give what is told of it."""
    producer = Producer(services.log, services.clock, services.layout, **options)
    return produce(io.BytesIO(text), "text", producer, close=close)


def sent(services, text: bytes, *, close: bool = False, **options):
    """Produce the text; give what then lies on the log."""
    done(services, text, close=close, **options)
    return list(messages(services.log, "transitions"))


def rows(services, batches) -> list[tuple[str, int]]:
    """(agent, step) of all rows accepted, in log order by partition."""
    table = TaskTable(services.log, services.layout)
    table.refresh()
    found = []
    for messages_batch in batches:
        for batch in codec.check(messages_batch, table, services.layout).batches:
            order = np.argsort(batch.offset, kind="stable")
            found += [(batch.agents[batch.agent[i]], int(batch.step[i])) for i in order]
    return found


def lines(count: int, agents: int = 3) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in transitions(count, agents))


def test_bytes_are_sent_as_they_are(services):
    odd = [b'  {"agent_id" : "a", "x": 1e400 } ', b"\xff\xfe", b'{"agent_id": 3}', b'[{"agent_id": "b"}, 1]', b"last"]
    batches = sent(services, b"\n".join([odd[0] + b"\r", b"", *odd[1:4], b" \t", odd[4]]), anyway=True)
    found = {value: key for batch in batches for key, value in zip(batch.keys, batch.values, strict=True)}
    assert set(found) == set(odd)
    assert found[odd[0]] == b"a"
    assert [found[value] for value in odd[1:]] == [None] * 4


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b'{"agent_id": "a"}', b"a"),
        (b'{"agent_id": "\\u00fc", "obs": "wrong"}', "ü".encode()),
        (b'[{"agent_id": "a"}, {"agent_id": "b"}]', b"a"),
        (b"[]", None),
        (b"[" * 100_000, None),
        (b'{"agent_id": "\\ud800"}', None),
        (b'"agent_id"', None),
    ],
)
def test_the_key_is_the_agent_where_it_can_be_read(line, key):
    assert key_of(line) == key


def test_packing_keeps_each_agents_order(services, monkeypatch):
    monkeypatch.setattr(lines_module, "BLOCK_LINES", 7)
    batches = sent(services, lines(100), pack=8)
    found = rows(services, batches)
    for agent, count in (("agent-0", 34), ("agent-1", 33), ("agent-2", 33)):
        assert [step for name, step in found if name == agent] == list(range(count))
    assert sum(map(len, batches)) == 3 * 5, "four full messages and a rest of each agent"
    assert all(key for batch in batches for key in batch.keys)


def test_rows_that_wait_are_bounded(services, monkeypatch):
    monkeypatch.setattr(lines_module, "BLOCK_LINES", 10)
    monkeypatch.setattr(produce_module, "MAX_PENDING_ROWS", 20)
    assert sorted(rows(services, sent(services, lines(100), pack=1000))) == sorted(
        (f"agent-{i % 3}", i // 3) for i in range(100)
    )


def test_a_heartbeat_comes_after_the_rows_before_it(services):
    beat = codec.heartbeat("valve", "agent-0", T0)
    batches = sent(services, lines(9, 1) + beat + b"\n" + lines(18, 1)[len(lines(9, 1)) :], pack=100)
    values = [value for batch in batches for value in batch.values]
    assert len(values) == 3
    assert values[1] == beat


def test_a_message_that_would_be_too_large_is_split(services):
    wide = TaskSpec("wide", tuple(f"x{i}" for i in range(1000)), Bounds((-1.0,), (1.0,)), 1000)
    add_task(services.log, wide)
    row = {**transitions(1)[0], "task": "wide", "action": [0.5], "obs": [0.0] * 1000, "next_obs": [0.0] * 1000}
    text = b"".join(json.dumps({**row, "step": i}).encode() + b"\n" for i in range(300))
    batches = sent(services, text, pack=300)
    sizes = [len(value) for batch in batches for value in batch.values]
    assert len(sizes) > 1
    assert max(sizes) <= services.layout.max_message_bytes
    assert [step for _, step in rows(services, batches)] == list(range(300))


def test_closing_heartbeats_go_to_each_partition(services):
    batches = sent(services, lines(41), close=True)
    beats = {batch.partition: json.loads(batch.values[-1]) for batch in batches}
    assert set(beats) == {0, 1}
    assert {beat["ts"] for beat in beats.values()} == {T0 + 20_000 + 5_000}, "the end of the last window, and grace"


def test_a_bad_line_does_not_close_windows_that_are_open(services):
    late = json.dumps({**transitions(1)[0], "obs": [1.0], "ts": T0 + 10**9}).encode()
    batches = sent(services, lines(4) + late, close=True)
    assert json.loads(batches[0].values[-1])["ts"] == T0 + 15_000


def test_a_line_without_end_is_refused(services, monkeypatch):
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 1000)
    with pytest.raises(SettingsError, match="line 2 has more than 1000 bytes"):
        sent(services, b"{}\n" + b"x" * 2000)


ROWS = transitions(200)
TEXT = "\n".join(map(json.dumps, ROWS))


def arrow(writer):
    sink = pa.BufferOutputStream()
    table = pa.table({"agent_id": ["a"] * 9, "step": range(9)})
    with writer(sink, table.schema) as opened:
        opened.write_table(table)
    return sink.getvalue().to_pybytes()


def written(write, *what):
    """What a function writes into a file."""
    sink = io.BytesIO()
    write(sink, *what)
    return sink.getvalue()


def tar(sink):
    with tarfile.open(fileobj=sink, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("rows.jsonl"))


def zipped(sink):
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.jsonl", TEXT)


AVRO = {"type": "record", "name": "row", "fields": [{"name": "step", "type": "int"}]}
FOREIGN = {
    "a Parquet file": written(lambda sink: pq.write_table(pa.table({"step": [1]}), sink)),
    "an Arrow file": arrow(pa.ipc.new_file),
    "an Arrow stream": arrow(pa.ipc.new_stream),
    "an Avro file": written(fastavro.writer, AVRO, [{"step": 1}]),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(range(256)),
    "a NumPy array": written(np.save, np.zeros(3)),
    "a Python pickle": pickle.dumps(ROWS),
    "a zip archive": written(zipped),
    "a zip archive (or a NumPy .npz": written(lambda sink: np.savez(sink, obs=np.zeros(3))),
    "a tar archive": written(tar),
    "compressed by gzip": gzip.compress(TEXT.encode()),
    "compressed by bzip2": bz2.compress(TEXT.encode()),
    "compressed by xz": lzma.compress(TEXT.encode()),
    "compressed by zstd": b"(\xb5/\xfd...",
    "a SQLite database": b"SQLite format 3\0",
    "UTF-16 text": TEXT.encode("utf-16"),
    "UTF-32 text": TEXT.encode("utf-32"),
    "binary, or UTF-16": TEXT.encode("utf-16-be"),
    "binary": b"".join(map(msgspec.msgpack.encode, ROWS)),
}


@pytest.mark.parametrize(("what", "content"), FOREIGN.items(), ids=FOREIGN)
def test_files_that_are_no_text_are_refused(services, what, content):
    with pytest.raises(SettingsError, match=rf"text is {re.escape(what)}.*: give lines of JSON in UTF-8"):
        sent(services, content)
    assert not list(messages(services.log, "transitions"))


UNREADABLE = {
    "an indented array": (json.dumps(ROWS, indent=1).encode(), "jq -c"),
    "an array of several agents": (json.dumps(ROWS).encode(), "one_agent: 1 line, first line 1: an array holds"),
    "CSV": (b"agent_id,step\n" + b"a,0\n" * 9, "each line must be a JSON object"),
    "a pickle of the oldest protocol": (pickle.dumps(ROWS, 0), "would be rejected"),
    "YAML": (b"- agent_id: a\n  step: 0\n" * 9, "each line must be a JSON object"),
    "a task that is not known": (
        TEXT.replace("valve", "vlave").encode(),
        "unknown_task: 200 lines, first line 1: task",
    ),
    "times in seconds": (TEXT.replace(f"{T0}"[:6], f"{T0}"[:3]).encode(), "ts: 200 lines.*looks like seconds"),
    "NaN": (TEXT.replace('"reward": ', '"reward": NaN, "x": ').encode(), "reward_finite: 200 lines.*reward is NaN"),
}


@pytest.mark.parametrize(("text", "reason"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("options", [{}, {"pack": 8, "close": True}])
def test_where_every_line_is_bad_nothing_is_sent(services, text, reason, options):
    with pytest.raises(RejectedDataError, match=r"(?s)nothing was sent: each of the \d+ lines.*" + reason):
        sent(services, text, **options)
    assert not list(messages(services.log, "transitions"))
    assert sent(services, text, anyway=True), "unless it is asked for"


def test_lines_are_held_back_until_one_is_good(services, monkeypatch):
    """A good line among the first sends them all, in order; after so many bad ones the file is given up."""
    monkeypatch.setattr(lines_module, "BLOCK_LINES", 2)
    monkeypatch.setattr(produce_module, "HELD_LINES", 6)
    bad = b"bad\n"
    assert sum(map(len, sent(services, bad * 5 + lines(1) + bad * 20))) == 26
    with pytest.raises(RejectedDataError, match="each of the 6 lines read"):
        done(services, bad * 7 + lines(1))


def test_what_is_bad_in_an_optional_value_alone_is_sent(services):
    """Such a line is a transition but for that: the quarantine is the place for it."""
    odd = b"".join(json.dumps({**row, "log_prob": 0.7}).encode() + b"\n" for row in transitions(3))
    told = done(services, odd)
    assert (told.messages, told.rejected["log_prob"].lines) == (3, 3)


@pytest.mark.parametrize("options", [{}, {"pack": 4}, {"check": True}])
def test_what_will_be_rejected_is_told_by_rule(services, options):
    """As ingest judges, with the number of the first line and its reason."""
    good = lines(4).splitlines()
    short = json.dumps({**transitions(1)[0], "obs": [1.0]}).encode()
    told = done(services, b"\n".join([good[0], b"", b"{bad", *good[1:], short, b"bad", b""]), **options)
    assert (told.lines, told.rejected.lines) == (7, 3)
    found = [(fault.rule, fault.lines, fault.first_line) for fault in told.rejected.values()]
    assert found == [("syntax", 2, 3), ("width", 1, 7)]
    assert told.rejected.told()[1] == "width: 1 line, first line 7: obs has 1 values; the task has 3"
    on_log = sum(map(len, messages(services.log, "transitions")))
    assert told.messages == on_log == (0 if "check" in options else 6 if "pack" in options else 7)


def test_a_byte_order_mark_is_passed_over(services):
    """At the file's beginning, and where files were joined."""
    mark = b"\xef\xbb\xbf"
    told = done(services, mark + lines(3) + mark + lines(2) + mark + b"\r\n")
    assert (told.lines, told.rejected.lines) == (5, 0)
    batches = list(messages(services.log, "transitions"))
    assert all(batch.keys.count(None) == 0 for batch in batches)
    assert len(rows(services, batches)) == 5


def test_a_task_that_comes_later_is_seen(services):
    """A stream that goes on judges by the tasks that are there by then."""
    producer = Producer(services.log, services.clock, services.layout)
    producer.send(Block(lines(1).splitlines(), [1], 1))
    add_task(services.log, decode_task(json.dumps(VALVE | {"task": "pump"}).encode()))
    producer.send(Block([json.dumps({**transitions(1)[0], "task": "pump"}).encode()], [2], 1))
    assert producer.produced.rejected == {}


def test_the_command_checks(shell):
    """--check sends nothing and its exit status says whether anything is bad; so does a file that is all bad."""
    shell.prepare()
    good, bad = shell.write("good.jsonl", transitions(3)), shell.write("bad.jsonl", [b"{}", b"bad"])
    mixed = shell.write("mixed.jsonl", [*transitions(3), b"bad"])
    assert shell.json("produce", good, "--check")["rejected"] == {}
    told = shell.json("produce", mixed, "--check", code=1)
    assert (told["messages"], told["rejected"]["syntax"]["first_line"]) == (0, 4)
    assert b"  syntax: 1 line, first line 2: JSON is malformed" in shell("produce", bad, code=1).stderr
    shell("produce", "-", code=1, stdin=gzip.compress(b"{}"))
    assert b"there is no line in it" in shell("produce", "-").stderr
    assert shell.json("run", "ingest", "--until-caught-up")["transitions"] == 0
    sent = shell("produce", mixed)
    assert b"1 of 4 lines will be rejected, into the quarantine (headrace rejected list):" in sent.stderr
    assert sent.stdout == b"4 lines sent as 4 messages\n"


def test_a_producer_without_the_index(shell):
    """Only the log is needed where no option asks for more: headrace's default limits hold."""
    shell.prepare()
    good = shell.write("good.jsonl", transitions(3))
    sent = shell("produce", good, "--index", "sqlite:none.db")
    assert b"judged by headrace's default limits" in sent.stderr
    assert sent.stdout == b"3 lines sent as 3 messages\n"
    shell("produce", good, "--index", "sqlite:none.db", "--close", code=1)
