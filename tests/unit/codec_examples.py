"""Tasks, messages and ways to compare what became of them, for the tests of schemas and of segments."""

import json

import numpy as np

from headrace.schemas import codec
from headrace.schemas.checker import known_task
from headrace.schemas.ports import MessageBatch
from headrace.schemas.records import Bounds, Layout, TaskSpec

T0 = 1_700_000_000_000
LAYOUT = Layout(log="test", max_message_bytes=200_000, max_message_rows=50)
VALVE = TaskSpec(task="valve", observations=("x0", "x1"), actions=("a", "b", "c"), window_ms=1_000, groups=4)
ARM = TaskSpec(
    task="arm",
    observations=("p", "q", "r"),
    actions=Bounds((-1.0, 0.7), (1.0, 1.1)),
    window_ms=500,
    groups=2,
    reward_terms=("speed", "cost"),
    bounds=Bounds((-10.0, -10.0, 0.7), (10.0, 10.0, 1.1)),
)
DIAL = TaskSpec(task="dial", observations=("x",), actions=("a",), window_ms=1_000)
SPECS = {spec.task: spec for spec in (VALVE, ARM, DIAL)}
TASKS = {spec.task: known_task(spec, T0, LAYOUT) for spec in SPECS.values()}


def row(kind="valve", /, **changes):
    """A good transition; a field that is changed to ... is left out."""
    obs = {"valve": [0.5, -1.25], "arm": [1, 2.5, 0.875], "dial": [3.0]}[kind]
    fields = {
        "schema_version": 1,
        "task": kind,
        "agent_id": "agent-1",
        "episode_id": "e1",
        "step": 7,
        "ts": T0 + 7,
        "obs": obs,
        "action": [0.5, 0.875] if kind == "arm" else 0,
        "reward": -0.5,
        "next_obs": obs,
        "terminated": False,
        "truncated": True,
    }
    return {name: value for name, value in (fields | changes).items() if value is not ...}


def message(kind="valve", /, **changes):
    return json.dumps(row(kind, **changes)).encode()


def raw_message(kind="valve", /, **changes):
    """A message whose changed fields are the given text, not JSON made of it."""
    text = json.dumps(row(kind, **{name: f"@{name}@" for name in changes}))
    for name, value in changes.items():
        text = text.replace(f'"@{name}@"', value)
    return text.encode("utf-8", "surrogatepass")


def batch_of(values, headers=None, append_ts=None, first=100):
    count = len(values)
    times = np.full(count, T0 + 1_000) if append_ts is None else np.array(append_ts)
    return MessageBatch(
        "transitions", 0, np.arange(first, first + count), times, [None] * count, list(values), headers or [()] * count
    )


def check(values, headers=None, append_ts=None, tasks=TASKS, layout=LAYOUT):
    return codec.check(batch_of(values, headers, append_ts), tasks, layout)


def rejected(value, headers=(), **options):
    """The rule and reason for which a message is rejected, alone; asserts that it is, whole."""
    checked = check([value], [headers], **options)
    assert not checked.batches, "rows of a rejected message were accepted"
    assert checked.stream_ts.tolist() == [-1]
    (rejection,) = checked.rejected
    assert rejection.position == 0
    return rejection.rule, rejection.reason


def accepted(value, headers=(), **options):
    """The rows of a message that is accepted, alone."""
    checked = check([value], [headers], **options)
    assert not checked.rejected, checked.rejected
    (batch,) = checked.batches
    return batch


def row_values(batch):
    """Each row as a tuple of its names and its values' bits; rows are equal if and only if these are."""
    out = []
    for i in range(len(batch)):
        numbers = (
            getattr(batch, name)[i].tobytes()
            for name in ("step", "ts", "offset", "obs", "action", "reward", "next_obs", "terminated", "truncated")
        )
        optional = (getattr(batch, name)[i].tobytes() for name in ("reward_terms", "policy_version", "log_prob"))
        names = (batch.task, batch.agents[batch.agent[i]], batch.episodes[batch.episode[i]])
        out.append((*names, *numbers, *optional))
    return out


def outcomes(messages, checked):
    """What became of each message: its rejection, its stream time and its rows."""
    rejections = {r.position: (r.rule, r.reason) for r in checked.rejected}
    assert len(rejections) == len(checked.rejected), "a message was rejected twice"
    rows = {}
    for batch in checked.batches:
        for values, offset in zip(row_values(batch), batch.offset.tolist(), strict=True):
            rows.setdefault(offset, []).append(values)
    for position, offset in enumerate(messages.offsets.tolist()):
        assert not (position in rejections and offset in rows), "a message was accepted and rejected"
    return [
        (rejections.get(position), stream_ts, rows.get(offset, []))
        for position, (offset, stream_ts) in enumerate(
            zip(messages.offsets.tolist(), checked.stream_ts.tolist(), strict=True)
        )
    ]
