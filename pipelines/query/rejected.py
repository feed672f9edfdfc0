"""Sending again what was rejected and may pass now, each message once.

A consumer group per rule, `replay.<rule>`, says what was sent again; its commit and the messages are one transaction.
What was rejected once more after a replay has a group of its own, `replay.<rule>.again`, and is sent only on request.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from headrace.pipelines.query.quarantine import RejectedMessage, original, rejected_message
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.runtime.retry import retrying
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.topics import REJECTED
from headrace.schemas.errors import CommitConflictError, UnavailableError
from headrace.schemas.ports import Commit, EndOfLog, Headers, Log, MessageBatch, Record

LATER_RULES: Final = ("unknown_task", "clock")
"""Rules that time alone may heal: the task was added, the clock has caught up."""
_POLL_MESSAGES: Final = 100
_QUIET_POLLS: Final = 100


@dataclass(slots=True)
class Replayed:
    """How many messages were sent again, and how many could not be, as the log no longer holds all of them."""

    sent: int = 0
    gone: int = 0


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
    for message in (rejected_message(batch, i) for i in range(len(batch))):
        if message.rule == rule and (message.replayed is not None) == repeated:
            yield message


def _again(log: Log, message: RejectedMessage) -> Record | None:
    value, whole = original(log, message)
    return Record(message.topic, message.key, value, _headers(message), message.partition) if whole else None


def _headers(message: RejectedMessage) -> Headers:
    place = ("replayed", f"{message.topic}/{message.partition}/{message.offset}".encode())
    content = message.content_type
    return (("content-type", content.encode()), place) if content is not None else (place,)
