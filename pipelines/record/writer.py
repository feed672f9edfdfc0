"""Steps of recorded environments onto the log: sent in batches, a message each, and the windows closed in the end."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.pipelines.runtime.heartbeat import close_ms, heartbeats
from headrace.pipelines.topics import TRANSITIONS
from headrace.schemas import codec
from headrace.schemas.ports import Clock, Log, Record
from headrace.schemas.records import TaskSpec
from headrace.schemas.transition import TransitionBatch

logger = logging.getLogger(__name__)

FLUSH_S: Final = 1.0
_KINDS: Final = {
    "agent": np.int32,
    **dict.fromkeys(("step", "ts", "policy_version"), np.int64),
    **dict.fromkeys(("obs", "reward", "next_obs", "reward_terms", "log_prob"), np.float32),
    **dict.fromkeys(("terminated", "truncated"), np.bool_),
}
"""Columns of transitions that are a step's fields."""


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One agent's step. reward_terms: the reward's named parts. None: what was not said."""

    agent: int
    episode: str
    step: int
    ts: int
    obs: NDArray[np.float32]
    action: Any
    reward: float
    next_obs: NDArray[np.float32]
    terminated: bool
    truncated: bool
    reward_terms: tuple[float | None, ...]
    policy_version: int
    log_prob: float | None


@dataclass(slots=True)
class Writer:
    """Sends steps in batches, a message each, and closes the windows in the end."""

    log: Log
    spec: TaskSpec
    agents: tuple[str, ...]
    clock: Clock
    batch: int
    grace_ms: int
    _steps: list[RecordedStep] = field(default_factory=list)
    _last_ms: int = -1
    _sent_s: float = field(default_factory=time.monotonic)

    def add(self, step: RecordedStep) -> None:
        """Take a step; send when enough have gathered, or wait for long enough."""
        self._steps.append(step)
        self._last_ms = max(self._last_ms, step.ts)
        if len(self._steps) >= self.batch or time.monotonic() - self._sent_s >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Send what has gathered."""
        if self._steps:
            records = codec.to_records(_columns(self._steps, self.spec, self.agents), self.spec)
            values = [_encoded(record, step, self.spec) for record, step in zip(records, self._steps, strict=True)]
            keys = (self.agents[step.agent].encode() for step in self._steps)
            self.log.send([Record(TRANSITIONS, key, value) for key, value in zip(keys, values, strict=True)])
            self._steps.clear()
        self._sent_s = time.monotonic()

    def close(self) -> None:
        """Send what has gathered, and a heartbeat to each partition that closes the last window if time allows."""
        self.flush()
        if self._last_ms < 0:
            return
        closes_ms = close_ms(self._last_ms, self.spec.window_ms, self.grace_ms)
        now_ms = max(self.clock(), self._append_ms())
        if closes_ms > now_ms:
            self._warn(closes_ms, (closes_ms - now_ms) / 1000)
        self.log.send(heartbeats(self.log, self.spec.task, self.agents[0], min(closes_ms, now_ms)))
        self._last_ms = -1

    def _warn(self, closes_ms: int, wait_s: float) -> None:
        """Say what closes the last windows. Nothing can before the log's own clock has come so far."""
        text = "task %s: the last windows stay open until what is recorded %.1f s from now or later closes them"
        if len(self.agents) == 1:
            heartbeat = codec.heartbeat(self.spec.task, self.agents[0], closes_ms).decode()
            text += f"; so does this, sent then: echo '{heartbeat}' | headrace produce -"
        logger.warning(text, self.spec.task, wait_s)

    def _append_ms(self) -> int:
        """Return the log's own time, as the newest messages have it: it need not be this clock's."""
        newest = 0
        for partition in range(self.log.topic(TRANSITIONS).partitions):
            begin, end = self.log.bounds(TRANSITIONS, partition)
            found = self.log.read(TRANSITIONS, partition, max(begin, end - 1), 1)
            newest = max(newest, int(found.append_ts.max(initial=0)))
        return newest


def _encoded(record: dict[str, Any], step: RecordedStep, spec: TaskSpec) -> bytes:
    """Write a step's record. NaN stands for absent in columns; what was said to be NaN is sent so, and rejected."""
    for name, value in zip(spec.reward_terms, step.reward_terms, strict=True):
        if value is not None and math.isnan(value):
            record.setdefault("reward_terms", {})[name] = value
    if step.log_prob is not None and math.isnan(step.log_prob):
        record["log_prob"] = step.log_prob
    return codec.encode_record(record)


def _columns(steps: Sequence[RecordedStep], spec: TaskSpec, agents: tuple[str, ...]) -> TransitionBatch:
    count = len(steps)
    episodes = {name: code for code, name in enumerate(dict.fromkeys(step.episode for step in steps))}
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is rejected
        columns: dict[str, NDArray[Any]] = {
            name: np.array([getattr(step, name) for step in steps], kind) for name, kind in _KINDS.items()
        }
    return TransitionBatch(
        task=spec.task,
        agents=agents,
        episodes=tuple(episodes),
        episode=np.array([episodes[step.episode] for step in steps], np.int32),
        offset=np.zeros(count, np.int64),
        action=np.array([step.action for step in steps], np.int32 if spec.discrete else np.float32),
        **columns | {"reward_terms": columns["reward_terms"].reshape(count, len(spec.reward_terms))},
    )
