"""Messages -> checked transitions, and back: decode and validate return (ok, rejected), never raise.

A message is accepted or rejected whole. What becomes of it depends on its own bytes, its append time and the tasks
added before it, never on its neighbours.
"""

from collections.abc import Mapping, Sequence
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
    plain, arrow = _by_content(messages, layout, checked)
    for task, rows, positions in _json_rows(messages, plain, layout, tasks, checked):
        batch, errors = codec_json.columns(rows, messages.offsets[positions], task.spec)
        bad = {int(positions[i]): error for i, error in errors.items()}
        _accept(messages, task, batch, bad, checked)
    for task, batch in _arrow_batches(messages, arrow, layout, tasks, checked):
        _accept(messages, task, batch, {}, checked)
    checked.rejected.sort(key=lambda rejection: rejection.position)
    return checked


def _by_content(messages: MessageBatch, layout: Layout, checked: Checked) -> tuple[NDArray[np.int64], list[int]]:
    """Return the positions of JSON and of Arrow messages; reject what is empty, too large or something else."""
    sizes = [len(value) if value else 0 for value in messages.values]
    if not any(messages.headers) and min(sizes) > 0 and max(sizes) <= layout.max_message_bytes:
        return np.arange(len(messages)), []
    plain: list[int] = []
    arrow: list[int] = []
    for position, (value, headers) in enumerate(zip(messages.values, messages.headers, strict=True)):
        if not value:
            checked.rejected.append(Rejection(position, "empty", "the message has no value"))
        elif len(value) > layout.max_message_bytes:
            reason = f"{len(value)} bytes; {layout.max_message_bytes} are allowed"
            checked.rejected.append(Rejection(position, "size", reason))
        elif not headers or (content := _content_type(headers)) == codec_json.CONTENT_TYPE:
            plain.append(position)
        elif content == codec_arrow.CONTENT_TYPE:
            arrow.append(position)
        else:
            reason = f"content-type {content[:80]!r}"
            checked.rejected.append(Rejection(position, "content_type", reason))
    return np.array(plain, np.int64), arrow


def _content_type(headers: Headers) -> str:
    for name, value in headers:
        if name == "content-type":
            return value.decode("utf-8", "replace").partition(";")[0].strip().lower()
    return codec_json.CONTENT_TYPE


def _json_rows(
    messages: MessageBatch, plain: NDArray[np.int64], layout: Layout, tasks: Tasks, checked: Checked
) -> list[tuple[Task, list[Row], NDArray[np.int64]]]:
    """Decode JSON messages and sort their rows by task; positions: int64[rows], of each row's message."""
    values = [messages.values[i] for i in plain.tolist()] if len(plain) < len(messages) else messages.values
    rows = codec_json.decode_plain(values)  # type: ignore[arg-type]
    positions = plain
    if rows is None:
        rows, positions = _decode_each(messages, plain, layout, tasks, checked)
    names = [row.task for row in rows]
    unique = set(names)
    if len(unique) == 1 and {row.schema_version for row in rows} == {1}:
        task = tasks.get(names[0])
        if task and messages.append_ts[positions[0]] >= task.added_ms:  # append times never fall
            return [(task, rows, positions)]
    sorted_rows: dict[str, tuple[Task, list[Row], list[int]]] = {}
    for row, position in zip(rows, positions.tolist(), strict=True):
        task = _known(row.schema_version, row.task, position, messages, tasks, checked)
        if task:
            entry = sorted_rows.setdefault(row.task, (task, [], []))
            entry[1].append(row)
            entry[2].append(position)
    return [(task, found, np.array(where, np.int64)) for task, found, where in sorted_rows.values()]


def _known(
    version: int, name: str, position: int, messages: MessageBatch, tasks: Tasks, checked: Checked
) -> Task | None:
    """Return the message's task; reject the message if its version or task is unknown."""
    if version != 1:
        rejection = Rejection(position, "schema_version", f"schema_version {str(version)[:20]}; 1 is known")
    else:
        task = tasks.get(name)
        if task and messages.append_ts[position] >= task.added_ms:
            return task
        if not task:
            checked.unknown.add(name)
        rejection = Rejection(position, "unknown_task", f"task {name[:80]!r} was not added before this message")
    if not checked.rejected or checked.rejected[-1].position != position:
        checked.rejected.append(rejection)
    return None


def _decode_each(
    messages: MessageBatch, plain: NDArray[np.int64], layout: Layout, tasks: Tasks, checked: Checked
) -> tuple[list[Row], NDArray[np.int64]]:
    """Decode one by one: arrays, heartbeats and poison among the messages."""
    rows: list[Row] = []
    positions: list[int] = []
    for position in plain.tolist():
        try:
            found = codec_json.decode_one(messages.values[position] or b"", layout.max_message_rows)
        except BadMessageError as error:
            checked.rejected.append(Rejection(position, error.rule, error.reason))
            continue
        if isinstance(found, HeartbeatRow):
            _heartbeat(found, position, messages, layout, tasks, checked)
        else:
            rows.extend(found)
            positions.extend([position] * len(found))
    return rows, np.array(positions, np.int64)


def _heartbeat(
    beat: HeartbeatRow, position: int, messages: MessageBatch, layout: Layout, tasks: Tasks, checked: Checked
) -> None:
    append_ts = int(messages.append_ts[position])
    if not _known(beat.schema_version, beat.task, position, messages, tasks, checked):
        return
    if not 0 <= beat.ts <= MAX_TS_MS:
        checked.rejected.append(Rejection(position, "ts", f"ts is {beat.ts}; 0 to {MAX_TS_MS} are allowed"))
    elif beat.ts - append_ts > layout.max_clock_skew_ms:
        reason = f"ts {beat.ts} is {beat.ts - append_ts} ms ahead of the log's append time"
        checked.rejected.append(Rejection(position, "clock", reason))
    else:
        checked.stream_ts[position] = min(beat.ts, append_ts)


def _arrow_batches(
    messages: MessageBatch, arrow: Sequence[int], layout: Layout, tasks: Tasks, checked: Checked
) -> list[tuple[Task, TransitionBatch]]:
    """Read Arrow messages and join them by task; reject those that can't be."""
    by_shape: dict[tuple[str, Any], tuple[Task, list[Any], list[int]]] = {}
    for position in arrow:
        try:
            table = codec_arrow.read(messages.values[position] or b"", layout.max_message_rows)
            version, name, _ = codec_arrow.identity(table)
        except BadMessageError as error:
            checked.rejected.append(Rejection(position, error.rule, error.reason))
            continue
        task = _known(version, name, position, messages, tasks, checked)
        if task:
            entry = by_shape.setdefault((name, table.schema), (task, [], []))
            entry[1].append(table)
            entry[2].append(position)
    out = []
    for task, tables, positions in by_shape.values():
        batch = _join_arrow(messages, task, tables, positions, checked)
        if batch is not None:
            out.append((task, batch))
    return out


def _join_arrow(
    messages: MessageBatch, task: Task, tables: list[Any], positions: list[int], checked: Checked
) -> TransitionBatch | None:
    """Read joined tables; on an error find the messages that are to blame and join the others."""
    try:
        return codec_arrow.columns(tables, messages.offsets[positions], task.spec)
    except (BadMessageError, *codec_arrow.ARROW_ERRORS):
        good = []
        for table, position in zip(tables, positions, strict=True):
            try:
                codec_arrow.columns([table], messages.offsets[[position]], task.spec)
                good.append((table, position))
            except BadMessageError as error:
                checked.rejected.append(Rejection(position, error.rule, error.reason))
            except codec_arrow.ARROW_ERRORS as error:
                checked.rejected.append(Rejection(position, "type", str(error)[:200]))
        if not good:
            return None
        tables, positions = [t for t, _ in good], [p for _, p in good]
        return codec_arrow.columns(tables, messages.offsets[positions], task.spec)


def _accept(
    messages: MessageBatch,
    task: Task,
    batch: TransitionBatch,
    errors: Mapping[int, BadMessageError],
    checked: Checked,
) -> None:
    """Apply the rules; drop every row of a message that has a bad one."""
    position = np.searchsorted(messages.offsets, batch.offset)
    append_ts = messages.append_ts[position]
    found = first_broken(task.rules, batch, append_ts) if len(batch) else None
    for place, error in errors.items():
        checked.rejected.append(Rejection(place, error.rule, error.reason))
    if found:
        bad, which = found
        rows = np.flatnonzero(bad)
        places, first = np.unique(position[rows], return_index=True)
        for place, row in zip(places.tolist(), rows[first].tolist(), strict=True):
            if place not in errors:
                rule = task.rules[which[row]]
                reason = explain(rule, batch, row, int(append_ts[row]))
                checked.rejected.append(Rejection(place, rule.name, reason))
    if found or errors:
        rejected = np.array(
            [*errors, *(np.unique(position[np.flatnonzero(found[0])]).tolist() if found else [])], np.int64
        )
        keep = ~np.isin(position, rejected)
        batch, position, append_ts = batch.take(keep), position[keep], append_ts[keep]
    if len(batch):
        np.maximum.at(checked.stream_ts, position, np.minimum(batch.ts, append_ts))
        checked.batches.append(batch)


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
