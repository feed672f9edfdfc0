"""What produce puts on the log: the bytes as they are, or an agent's rows together."""

import io
import json

import numpy as np
import pytest
from shell import T0, VALVE, transitions

from headrace.pipelines.produce import producer as produce_module
from headrace.pipelines.produce.producer import Producer, key_of, produce
from headrace.pipelines.settings import read_settings
from headrace.pipelines.tasks import TaskTable, add_task
from headrace.pipelines.topics import messages
from headrace.pipelines.wiring import open_services
from headrace.schemas import codec
from headrace.schemas.errors import SettingsError
from headrace.schemas.records import Bounds, TaskSpec, decode_task


@pytest.fixture
def services(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_services(read_settings(), create=True) as opened:
        opened.initialise(partitions=2)
        add_task(opened.log, decode_task(json.dumps(VALVE).encode()))
        yield opened


def sent(services, text: bytes, *, pack: int = 0, close: bool = False):
    """Produce the text; give what then lies on the log."""
    producer = Producer(services.log, services.clock, services.layout, pack=pack, watch=close)
    produce(io.BytesIO(text), "text", producer, close=close)
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
    batches = sent(services, b"\n".join([odd[0] + b"\r", b"", *odd[1:4], b" \t", odd[4]]))
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
    monkeypatch.setattr(produce_module, "BLOCK_LINES", 7)
    batches = sent(services, lines(100), pack=8)
    found = rows(services, batches)
    for agent, count in (("agent-0", 34), ("agent-1", 33), ("agent-2", 33)):
        assert [step for name, step in found if name == agent] == list(range(count))
    assert sum(map(len, batches)) == 3 * 5, "four full messages and a rest of each agent"
    assert all(key for batch in batches for key in batch.keys)


def test_rows_that_wait_are_bounded(services, monkeypatch):
    monkeypatch.setattr(produce_module, "BLOCK_LINES", 10)
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
    monkeypatch.setattr(produce_module, "MAX_LINE_BYTES", 1000)
    with pytest.raises(SettingsError, match="line 2 has more than 1000 bytes"):
        sent(services, b"{}\n" + b"x" * 2000)


@pytest.mark.parametrize("magic", [b"PAR1", b"ARROW1\0\0", b"\x1f\x8b\x08", b"(\xb5/\xfd"])
def test_files_that_are_no_text_are_refused(services, magic):
    with pytest.raises(SettingsError, match="give lines of JSON"):
        sent(services, magic + b"...")


@pytest.mark.parametrize(
    ("close", "count", "doubt"), [(False, 2, "agent_id can't be read"), (True, 3, "Expected `str`, got `int`")]
)
def test_lines_that_will_be_rejected_are_told_of(services, close, count, doubt):
    """Without a check only those whose agent can't be read are seen."""
    bad = [b'{"agent_id": 3', b'{"agent_id": "a", "task": "valve"}', b"[]"]
    producer = Producer(services.log, services.clock, services.layout, watch=close)
    done = produce(io.BytesIO(lines(5) + b"\n".join(bad)), "text", producer, close=close)
    assert (done.lines, done.doubtful) == (8, count)
    assert doubt in done.doubt


@pytest.mark.parametrize("options", [{}, {"pack": 2}])
def test_a_task_that_is_not_known_and_times_in_seconds_are_warned_of(services, options, monkeypatch):
    """The first block is looked at, whatever is sent."""
    monkeypatch.setattr(produce_module, "BLOCK_LINES", 5)
    good, odd = transitions(1)[0], [{**transitions(1)[0], "task": "vlave"}, {**transitions(1)[0], "ts": T0 // 1000}]
    first = [*map(json.dumps, (good, [odd[0]], odd[1])), "[]", "{bad"]
    producer = Producer(services.log, services.clock, services.layout, **options)
    later = json.dumps({**good, "task": "never"})
    done = produce(io.BytesIO("\n".join([*first, later]).encode()), "text", producer, close=False)
    unknown, seconds = done.warnings
    assert unknown.startswith("task 'vlave' is not known")
    assert seconds == "ts 1700000000 looks like seconds; milliseconds are expected, as which it lies in 1970"


def test_good_lines_are_not_warned_of(services):
    producer = Producer(services.log, services.clock)
    assert produce(io.BytesIO(lines(50)), "text", producer, close=False).warnings == []
