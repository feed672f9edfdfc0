"""The flow that a user of stock Bytewax would write: a Python callback per transition.

Decode (msgspec, the fastest there is), validate, key by agent, fold each window row by row, write a summary. It does
less than headrace's ingest: no chunks, no payload, no duplicates dropped, no rejected log, no commit.

`add_up` is the floor: what any Python program must do at least. `run` takes Bytewax's own windows (fold_window with
EventClock and TumblingWindower). `run_stateful` takes a hand-written state instead, which knows that each agent's rows
come in order: faster, and wrong as soon as a row is late.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import msgspec
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, Source, StatefulSourcePartition
from bytewax.operators import StatefulLogic
from bytewax.testing import TestingSink, run_main

from headrace.pipelines.bench.rows import ACTIONS, SPEC, WIDTH

MAX_SKEW_MS = 300_000
_id = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch


class Transition(msgspec.Struct, gc=False):
    schema_version: int
    task: str
    agent_id: str
    episode_id: str
    step: int
    ts: int
    obs: list[float]
    action: int
    reward: float
    next_obs: list[float]
    terminated: bool
    truncated: bool


class _Messages(StatefulSourcePartition):
    """Hands on as many messages at once as is good for Bytewax."""

    def __init__(self, values: list[bytes]) -> None:
        self._batches = iter([values[i : i + 1_000] for i in range(0, len(values), 1_000)])

    def next_batch(self) -> Iterable[bytes]:
        return next(self._batches)

    def snapshot(self) -> None:
        return None


class Messages(FixedPartitionedSource):
    def __init__(self, values: list[bytes]) -> None:
        self._values = values

    def list_parts(self) -> list[str]:
        return ["0"]

    def build_part(self, step_id, for_part, resume_state) -> _Messages:
        return _Messages(self._values)


@dataclass
class Window:
    start_ms: int = 0
    rows: int = 0
    reward_sum: float = 0.0
    reward_min: float = math.inf
    reward_max: float = -math.inf
    actions: dict[int, int] = field(default_factory=dict)
    ends: int = 0

    def add(self, row: Transition) -> "Window":
        self.rows += 1
        self.reward_sum += row.reward
        self.reward_min = min(self.reward_min, row.reward)
        self.reward_max = max(self.reward_max, row.reward)
        self.actions[row.action] = self.actions.get(row.action, 0) + 1
        self.ends += row.terminated or row.truncated
        return self


class WindowLogic(StatefulLogic):
    """An agent's open window; a row of a later one closes it."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._window: Window | None = None

    def on_item(self, row: Transition) -> tuple[list[bytes], bool]:
        start_ms = row.ts // self._window_ms * self._window_ms
        closed = []
        if self._window is None or start_ms > self._window.start_ms:
            closed = [msgspec.json.encode(self._window)] if self._window else []
            self._window = Window(start_ms)
        self._window.add(row)
        return closed, StatefulLogic.RETAIN

    def on_notify(self) -> tuple[list[bytes], bool]:
        return [], StatefulLogic.RETAIN

    def on_eof(self) -> tuple[list[bytes], bool]:
        return [msgspec.json.encode(self._window)] if self._window else [], StatefulLogic.DISCARD

    def notify_at(self) -> None:
        return None

    def snapshot(self) -> Window | None:
        return self._window


def add_up(values: Iterable[bytes], windows: dict[tuple[str, int], list[float]]) -> None:
    """Decode each message, and add up rows and rewards by agent and window."""
    decode, window_ms = msgspec.json.Decoder(Transition).decode, SPEC.window_ms
    for value in values:
        row = decode(value)
        key = row.agent_id, row.ts // window_ms
        window = windows.get(key)
        if window is None:
            windows[key] = [1, row.reward]
        else:
            window[0] += 1
            window[1] += row.reward


def valid(row: Transition, append_ms: int) -> bool:
    """The rules that ingest applies to such a row."""
    return bool(
        row.schema_version == 1
        and _id(row.agent_id)
        and _id(row.episode_id)
        and 0 <= row.step < 2**40
        and 0 <= row.ts <= append_ms + MAX_SKEW_MS
        and len(row.obs) == len(row.next_obs) == WIDTH
        and all(map(math.isfinite, row.obs))
        and all(map(math.isfinite, row.next_obs))
        and math.isfinite(row.reward)
        and 0 <= row.action < len(ACTIONS)
    )


def parser(append_ms: int) -> Callable[[bytes], Transition | None]:
    """A message's valid transition, or None."""
    decode = msgspec.json.Decoder(Transition).decode

    def parse(value: bytes) -> Transition | None:
        try:
            row = decode(value)
        except msgspec.MsgspecError:
            return None
        return row if valid(row, append_ms) else None

    return parse


def by_agent(messages: op.Stream, parse: Callable[[Any], Transition | None]) -> op.KeyedStream:
    """Messages -> (agent, valid transition)."""
    return op.key_on("key", op.filter_map("parse", messages, parse), lambda row: row.agent_id)


def run(values: list[bytes], append_ms: int) -> list[bytes]:
    """Return the windows' summaries, by Bytewax's own windows."""
    out: list[bytes] = []
    flow = Dataflow("naive")
    rows = by_agent(op.input("in", flow, Messages(values)), parser(append_ms))
    clock = win.EventClock(lambda row: datetime.fromtimestamp(row.ts / 1_000, UTC), timedelta(seconds=5))
    windower = win.TumblingWindower(timedelta(milliseconds=SPEC.window_ms), datetime(2020, 1, 1, tzinfo=UTC))
    windows = win.fold_window("window", rows, clock, windower, Window, Window.add, merge)
    op.output("out", op.map("tell", windows.down, lambda item: msgspec.json.encode(item[1][1])), TestingSink(out))
    run_main(flow)
    return out


def merge(one: Window, other: Window) -> Window:
    raise NotImplementedError("tumbling windows never merge")


def run_source(source: Source, parse: Callable[[Any], Transition | None]) -> list[bytes]:
    """Return the summaries of a source's windows, by a hand-written state."""
    out: list[tuple[str, bytes]] = []
    flow = Dataflow("naive_stateful")
    rows = by_agent(op.input("in", flow, source), parse)
    op.output("out", op.stateful("window", rows, lambda _: WindowLogic(SPEC.window_ms)), TestingSink(out))
    run_main(flow)
    return [summary for _, summary in out]


def run_stateful(values: list[bytes], append_ms: int) -> list[bytes]:
    """Return the windows' summaries, by a hand-written state."""
    return run_source(Messages(values), parser(append_ms))
