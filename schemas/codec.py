"""Messages -> checked transitions, and back: decode and validate return (ok, rejected), never raise.

A message is accepted or rejected whole. What becomes of it depends on its own bytes, its append time and the tasks
added before it, never on its neighbours.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.schemas import codec_arrow, codec_json
from headrace.schemas.codec_json import BadMessageError, HeartbeatRow, Row
from headrace.schemas.ports import Headers, MessageBatch
from headrace.schemas.records import Layout, TaskSpec
from headrace.schemas.rules import MAX_TS_MS, Rule, explain, first_broken, rules_for
from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch

BLOCK_MESSAGES = 1024
"""JSON messages decoded at once: their objects fit in a core's cache (measured: a fifth less time a row)."""

ARROW_HEADERS: Headers = (("content-type", codec_arrow.CONTENT_TYPE.encode()),)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the message at a position in its batch was not accepted."""

    position: int
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Task:
    """A task, its rules, and the append time of its spec: messages before it don't know the task."""

    spec: TaskSpec
    rules: tuple[Rule, ...]
    added_ms: int


Tasks = Mapping[str, Task]


def known_task(spec: TaskSpec, added_ms: int, layout: Layout) -> Task:
    """Make a Task of a spec."""
    return Task(spec, rules_for(spec, layout), added_ms)


@dataclass(slots=True)
class Checked:
    """What a batch of messages holds: a batch of transitions per task, heartbeats, and what was rejected.

    stream_ts: int64[messages], min(event time, append time), the greatest of the message's rows; -1 where it was
    rejected. unknown: tasks that no spec was found for.
    """

    batches: list[TransitionBatch]
    rejected: list[Rejection]
    stream_ts: NDArray[np.int64]
    unknown: set[str] = field(default_factory=set)


def check(messages: MessageBatch, tasks: Tasks, layout: Layout) -> Checked:
    """Decode and validate one partition's messages."""
    checked = Checked([], [], np.full(len(messages), -1, np.int64))
    checker = _Checker(messages, tasks, layout, checked)
    plain, arrow = checker.by_content()
    checker.check_json(plain)
    checker.check_arrow(arrow)
    checked.rejected.sort(key=lambda rejection: rejection.position)
    return checked


@dataclass(slots=True, eq=False)
class _Checker:
    """The state of one `check`; positions are those of messages in the batch."""

    messages: MessageBatch
    tasks: Tasks
    layout: Layout
    checked: Checked

    def by_content(self) -> tuple[NDArray[np.int64], list[int]]:
        """Return the positions of JSON and of Arrow messages; reject what is empty, too large or something else."""
        values, limit = self.messages.values, self.layout.max_message_bytes
        if not any(self.messages.headers) and all(values) and max(map(len, values), default=0) <= limit:  # type: ignore[arg-type]
            return np.arange(len(values)), []
        kinds: dict[str, list[int]] = {codec_json.CONTENT_TYPE: [], codec_arrow.CONTENT_TYPE: []}
        plain = kinds[codec_json.CONTENT_TYPE]
        for position, (value, headers) in enumerate(zip(values, self.messages.headers, strict=True)):
            if not value:
                self._reject(position, "empty", "the message has no value")
            elif len(value) > limit:
                self._reject(position, "size", f"{len(value)} bytes; {limit} are allowed")
            elif not headers:
                plain.append(position)
            elif (content := _content_type(headers)) in kinds:
                kinds[content].append(position)
            else:
                self._reject(position, "content_type", f"content-type {content[:80]!r}")
        return np.array(plain, np.int64), kinds[codec_arrow.CONTENT_TYPE]

    def _reject(self, position: int, rule: str, reason: str) -> None:
        self.checked.rejected.append(Rejection(position, rule, reason))

    def check_json(self, plain: NDArray[np.int64]) -> None:
        """Check JSON messages, block by block."""
        columns: dict[str, codec_json.Columns] = {}
        errors: dict[str, dict[int, BadMessageError]] = {}
        for start in range(0, len(plain), BLOCK_MESSAGES):
            rows, positions = self._decode(plain[start : start + BLOCK_MESSAGES])
            for name, found, where in self._by_task(rows, positions):
                column = columns.setdefault(name, codec_json.Columns(self.tasks[name].spec))
                bad = column.add(found, self.messages.offsets[where])
                errors.setdefault(name, {}).update((int(where[i]), error) for i, error in bad.items())
        for name, column in columns.items():
            self._accept(self.tasks[name], column.batch(), errors[name])

    def _decode(self, block: NDArray[np.int64]) -> tuple[list[Row], NDArray[np.int64]]:
        """Return a block's rows and, int64[rows], the position of each one's message."""
        messages = self.messages.values
        values = [messages[i] or b"" for i in block.tolist()]
        rows = codec_json.decode_plain(values)
        if rows is not None:
            return rows, block
        rows, positions = [], []
        for position, value in zip(block.tolist(), values, strict=True):
            try:
                found = codec_json.decode_one(value, self.layout.max_message_rows)
            except BadMessageError as error:
                self._reject(position, error.rule, error.reason)
                continue
            if isinstance(found, HeartbeatRow):
                self._heartbeat(found, position)
            else:
                rows.extend(found)
                positions.extend([position] * len(found))
        return rows, np.array(positions, np.int64)

    def _by_task(
        self, rows: list[Row], positions: NDArray[np.int64]
    ) -> Iterable[tuple[str, list[Row], NDArray[np.int64]]]:
        """Sort rows by known tasks; reject the messages of others."""
        if not rows:
            return ()
        name = rows[0].task
        alike = [row.task for row in rows].count(name) == [row.schema_version for row in rows].count(1) == len(rows)
        task = self.tasks.get(name)
        if alike and task and self.messages.append_ts[positions].min() >= task.added_ms:
            return ((name, rows, positions),)
        found: dict[str, tuple[list[Row], list[int]]] = {}
        for row, position in zip(rows, positions.tolist(), strict=True):
            if self._known(row.schema_version, row.task, position):
                entry = found.setdefault(row.task, ([], []))
                entry[0].append(row)
                entry[1].append(position)
        return [(name, of_task, np.array(where, np.int64)) for name, (of_task, where) in found.items()]

    def _known(self, version: int, name: str, position: int) -> bool:
        """Whether the message's version and task are known; rejects it, once, where not."""
        if version != 1:
            rule, reason = "schema_version", f"schema_version {str(version)[:20]}; 1 is known"
        else:
            task = self.tasks.get(name)
            if task and self.messages.append_ts[position] >= task.added_ms:
                return True
            if not task:
                self.checked.unknown.add(name)
            rule, reason = "unknown_task", f"task {name[:80]!r} was not added before this message"
        if not self.checked.rejected or self.checked.rejected[-1].position != position:
            self._reject(position, rule, reason)
        return False

    def _heartbeat(self, beat: HeartbeatRow, position: int) -> None:
        if not self._known(beat.schema_version, beat.task, position):
            return
        append_ts, skew_ms = int(self.messages.append_ts[position]), self.layout.max_clock_skew_ms
        ahead_ms = beat.ts - append_ts
        if not 0 <= beat.ts <= MAX_TS_MS:
            self._reject(position, "ts", f"ts is {beat.ts}; 0 to {MAX_TS_MS} are allowed")
        elif ahead_ms > skew_ms:
            reason = f"ts {beat.ts} is {ahead_ms} ms ahead of the log's append time; {skew_ms} are allowed"
            self._reject(position, "clock", reason)
        else:
            self.checked.stream_ts[position] = min(beat.ts, append_ts)

    def check_arrow(self, arrow: list[int]) -> None:
        """Check Arrow messages; those of one task and one shape are joined."""
        shapes: dict[tuple[str, bytes], list[tuple[codec_arrow.Message, int]]] = {}
        for position in arrow:
            try:
                message = codec_arrow.read(self.messages.values[position] or b"", self.layout.max_message_rows)
            except BadMessageError as error:
                self._reject(position, error.rule, error.reason)
                continue
            if self._known(1, message.task, position):
                shapes.setdefault((message.task, message.shape), []).append((message, position))
        for (name, _), entries in shapes.items():
            self._join(self.tasks[name], entries)

    def _join(self, task: Task, entries: list[tuple[codec_arrow.Message, int]]) -> None:
        """Read joined messages; where that fails, halve them until the ones to blame are found."""
        offsets = self.messages.offsets[[position for _, position in entries]]
        try:
            batch = codec_arrow.columns([message for message, _ in entries], offsets, task.spec)
        except BadMessageError as error:
            if len(entries) == 1:
                self._reject(entries[0][1], error.rule, error.reason)
                return
            middle = len(entries) // 2
            self._join(task, entries[:middle])
            self._join(task, entries[middle:])
        else:
            self._accept(task, batch, {})

    def _accept(self, task: Task, batch: TransitionBatch, errors: Mapping[int, BadMessageError]) -> None:
        """Apply the rules; drop every row of a message that has a bad one."""
        for place, error in errors.items():
            self._reject(place, error.rule, error.reason)
        position = np.searchsorted(self.messages.offsets, batch.offset)
        append_ts = self.messages.append_ts[position]
        bad = set(errors)
        for row, number in first_broken(task.rules, batch, append_ts):
            place = int(position[row])
            if place not in bad:
                bad.add(place)
                rule = task.rules[number]
                self._reject(place, rule.name, explain(rule, batch, row, int(append_ts[row])))
        if bad:
            keep = ~np.isin(position, list(bad))
            batch, position, append_ts = batch.take(keep), position[keep], append_ts[keep]
        if len(batch):
            np.maximum.at(self.checked.stream_ts, position, np.minimum(batch.ts, append_ts))
            self.checked.batches.append(batch)


def _content_type(headers: Headers) -> str:
    for name, value in headers:
        if name == "content-type":
            return value.decode("utf-8", "replace").partition(";")[0].strip().lower()
    return codec_json.CONTENT_TYPE


def shortest(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the doubles whose shortest decimal form is the float32s' own: they print as they were sent."""
    return values.astype("U32").astype(np.float64)


def to_records(batch: TransitionBatch, spec: TaskSpec) -> list[dict[str, Any]]:
    """Return each row as the JSON object that stands for it; absent optional fields are left out."""
    obs, next_obs = shortest(batch.obs).tolist(), shortest(batch.next_obs).tolist()
    action = batch.action.tolist() if batch.action.ndim == 1 else shortest(batch.action).tolist()
    reward, log_prob = shortest(batch.reward).tolist(), shortest(batch.log_prob).tolist()
    terms = shortest(batch.reward_terms).tolist()
    records = []
    for i in range(len(batch)):
        record: dict[str, Any] = {
            "schema_version": 1,
            "task": batch.task,
            "agent_id": batch.agents[batch.agent[i]],
            "episode_id": batch.episodes[batch.episode[i]],
            "step": int(batch.step[i]),
            "ts": int(batch.ts[i]),
            "obs": obs[i],
            "action": action[i],
            "reward": reward[i],
            "next_obs": next_obs[i],
            "terminated": bool(batch.terminated[i]),
            "truncated": bool(batch.truncated[i]),
        }
        present = {n: v for n, v in zip(spec.reward_terms, terms[i], strict=True) if v == v}  # noqa: PLR0124 NaN
        if present:
            record["reward_terms"] = present
        if batch.policy_version[i] != NO_POLICY_VERSION:
            record["policy_version"] = int(batch.policy_version[i])
        if not np.isnan(batch.log_prob[i]):
            record["log_prob"] = log_prob[i]
        records.append(record)
    return records


def encode_json(batch: TransitionBatch, spec: TaskSpec) -> list[bytes]:
    """Return one JSON message a row."""
    return [msgspec.json.encode(record) for record in to_records(batch, spec)]


def heartbeat(task: str, agent_id: str, ts: int) -> bytes:
    """Return the message that moves a partition's stream time on."""
    return msgspec.json.encode(HeartbeatRow(1, task, agent_id, ts, heartbeat=True))
