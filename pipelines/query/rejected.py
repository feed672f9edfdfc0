"""The quarantine: what was rejected and why, and sending again what may pass now, each message once.

A consumer group per rule, `replay.<rule>`, says what was sent again; its commit and the messages are one transaction.
What was rejected once more after a replay has a group of its own, `replay.<rule>.again`, and is sent only on request.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from headrace.pipelines.runtime.member import Member
from headrace.pipelines.runtime.retry import retrying
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.topics import KEPT_BYTES, REJECTED, header, messages
from headrace.schemas.errors import CommitConflictError, UnavailableError
from headrace.schemas.ports import Commit, EndOfLog, Headers, Log, MessageBatch, Record

LATER_RULES: Final = ("unknown_task", "clock")
"""Rules that time alone may heal: the task was added, the clock has caught up."""
PREVIEW_CHARACTERS: Final = 120
_POLL_MESSAGES: Final = 100
_QUIET_POLLS: Final = 100


@dataclass(frozen=True, slots=True)
class RejectedMessage:
    """A message of the quarantine. topic, partition, offset: where it was rejected; kept: the bytes kept of it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    rule: str
    reason: str
    kept: bytes | None
    content_type: str | None
    replayed: str | None

    @property
    def cut(self) -> bool:
        """Whether more of it may lie at its source."""
        return self.kept is not None and len(self.kept) == KEPT_BYTES


@dataclass(slots=True)
class Replayed:
    """How many messages were sent again, and how many could not be, as the log no longer holds all of them."""

    sent: int = 0
    gone: int = 0


def rejected(log: Log, rules: Sequence[str] = ()) -> Iterator[RejectedMessage]:
    """Stream the quarantine, partition by partition; rules: only these, or all."""
    for batch in messages(log, REJECTED):
        for i in range(len(batch)):
            message = _message(batch, i)
            if not rules or message.rule in rules:
                yield message


def _message(batch: MessageBatch, i: int) -> RejectedMessage:
    headers = batch.headers[i]
    return RejectedMessage(
        topic=header(headers, "topic") or "",
        partition=_number(header(headers, "partition")),
        offset=_number(header(headers, "offset")),
        key=batch.keys[i],
        rule=header(headers, "rule") or "",
        reason=header(headers, "reason") or "",
        kept=batch.values[i],
        content_type=header(headers, "content-type"),
        replayed=header(headers, "replayed"),
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else -1


def original(log: Log, message: RejectedMessage) -> tuple[bytes | None, bool]:
    """Return the message's whole value; False where it was cut and the log holds it no longer."""
    if not message.cut:
        return message.kept, True
    source = log.read(message.topic, message.partition, message.offset, 1)
    if not len(source) or int(source.offsets[0]) != message.offset:
        return message.kept, False
    return source.values[0], True


def safe_text(data: bytes | None, limit: int = PREVIEW_CHARACTERS) -> str | None:
    """Return bytes as text that a terminal can be shown: whatever is not printable is escaped."""
    if data is None:
        return None
    text = data[:limit].decode("utf-8", "backslashreplace")[:limit]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def replay(log: Log, rules: Sequence[str], *, again: bool) -> Replayed:
    """Send again what the rules rejected and was not sent again before.

    again: also what had been replayed when it was rejected. Raises CommitConflictError where another process sends
    the same meanwhile; no message is sent twice by that.
    """
    done = Replayed()
    for rule in rules:
        for repeated in (False, True)[: 1 + again]:
            try:
                _replay_rule(log, rule, done, repeated=repeated)
            except CommitConflictError as error:
                raise CommitConflictError(
                    f"another process sends again what the rule {rule} rejected: no message is sent twice; "
                    "run it again for what is left"
                ) from error
    return done


def _replay_rule(log: Log, rule: str, done: Replayed, *, repeated: bool) -> None:
    """Read the quarantine from the group's commit to its present end."""
    group = f"replay.{rule}.again" if repeated else f"replay.{rule}"
    quiet = 0
    with closing(Member(log, group, REJECTED)) as member:
        while not member.caught_up:
            items = retrying(lambda: member.poll(_POLL_MESSAGES, 0.1), Stop())
            quiet = 0 if items else quiet + 1
            if quiet > _QUIET_POLLS:
                raise UnavailableError(f"group {group}: no messages came; another replay of the rule may be running")
            for item in items:
                if isinstance(item, EndOfLog):
                    member.advance(item.partition, item.offset)
                    continue
                found = [_again(log, message) for message in _messages(item, rule, repeated=repeated)]
                records = [record for record in found if record is not None]
                member.advance(item.partition, item.next_offset)
                member.commit({item.partition: Commit(member.offsets[item.partition])}, records)
                done.sent += len(records)
                done.gone += len(found) - len(records)


def _messages(batch: MessageBatch, rule: str, *, repeated: bool) -> Iterator[RejectedMessage]:
    for message in (_message(batch, i) for i in range(len(batch))):
        if message.rule == rule and (message.replayed is not None) == repeated:
            yield message


def _again(log: Log, message: RejectedMessage) -> Record | None:
    value, whole = original(log, message)
    return Record(message.topic, message.key, value, _headers(message), message.partition) if whole else None


def _headers(message: RejectedMessage) -> Headers:
    place = ("replayed", f"{message.topic}/{message.partition}/{message.offset}".encode())
    content = message.content_type
    return (("content-type", content.encode()), place) if content is not None else (place,)
