"""Messages -> checked transitions, and back: decode and validate return (ok, rejected), never raise.

A message is accepted or rejected whole. What becomes of it depends on its own bytes, its append time and the tasks
added before it, never on its neighbours.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.schemas import codec_arrow, codec_json
from headrace.schemas.checker import Checked, Checker, Tasks
from headrace.schemas.codec_json import HeartbeatRow
from headrace.schemas.ports import Headers, MessageBatch
from headrace.schemas.records import Layout, TaskSpec
from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch

Positions = NDArray[np.int64]

CONTENT_TYPES: Final[dict[str, Callable[[Checker, Positions], None]]] = {
    codec_json.CONTENT_TYPE: codec_json.check,
    codec_arrow.CONTENT_TYPE: codec_arrow.check,
}
"""How messages of each type are checked, given their positions in the batch. A new type is one file and one line."""

ARROW_HEADERS: Headers = (("content-type", codec_arrow.CONTENT_TYPE.encode()),)


UNSTAMPED = (
    "the message carries its producer's time, not the log's: set its topic's message.timestamp.type to LogAppendTime, "
    "then `headrace rejected replay`"
)


def check(messages: MessageBatch, tasks: Tasks, layout: Layout) -> Checked:
    """Decode and validate one partition's messages."""
    checked = Checked([], [], np.full(len(messages), -1, np.int64))
    checker = Checker(messages, tasks, layout, checked)
    for content, positions in _by_content(checker).items():
        CONTENT_TYPES[content](checker, positions)
    checked.rejected.sort(key=lambda rejection: rejection.position)
    return checked


def _by_content(checker: Checker) -> dict[str, Positions]:
    """Return the positions of messages by content type; reject what is empty, too large or something else."""
    values, limit = checker.messages.values, checker.layout.max_message_bytes
    stamped = checker.messages.append_ts >= 0
    plain_alone = stamped.all() and not any(checker.messages.headers)
    if plain_alone and all(values) and max(map(len, values), default=0) <= limit:  # type: ignore[arg-type]
        return {codec_json.CONTENT_TYPE: np.arange(len(values))}
    kinds: dict[str, list[int]] = {content: [] for content in CONTENT_TYPES}
    plain = kinds[codec_json.CONTENT_TYPE]
    for position, (value, headers) in enumerate(zip(values, checker.messages.headers, strict=True)):
        if not stamped[position]:
            checker.reject(position, "clock", UNSTAMPED)
        elif not value:
            checker.reject(position, "empty", "the message has no value")
        elif len(value) > limit:
            checker.reject(position, "size", f"{len(value)} bytes; {limit} are allowed")
        elif not headers:
            plain.append(position)
        elif (content := _content_type(headers)) in kinds:
            kinds[content].append(position)
        else:
            known = ", ".join(CONTENT_TYPES)
            checker.reject(position, "content_type", f"content-type is {content[:80]!r}; accepted are {known}")
    return {content: np.array(found, np.int64) for content, found in kinds.items()}


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
    return [encode_record(record) for record in to_records(batch, spec)]


def encode_record(record: dict[str, Any]) -> bytes:
    """Write a record of `to_records`. A number that is not finite stands as Python has it, for a rule to reject."""
    value = msgspec.json.encode(record)
    return json.dumps(record).encode() if b"null" in value else value  # msgspec writes null for it: absent, to a reader


def heartbeat(task: str, agent_id: str, ts: int) -> bytes:
    """Return the message that moves a partition's stream time on."""
    return msgspec.json.encode(HeartbeatRow(1, task, agent_id, ts, heartbeat=True))
