"""A group's commits, as Kafka keeps them."""

import re
import time
from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from headrace.schemas.errors import UnavailableError
from headrace.schemas.ports import Commit
from headrace.sinks.kafka.client import ANSWER_S, FLEETING, TIMED_OUT, mapped

_MARK: Final = re.compile(r"#[0-9a-f]{32}\.[0-9]+$")


def marked(commit: Commit, mark: str) -> Commit:
    """Return the commit as it is written: its metadata ends with a mark, by which it is known from any other.

    mark: 32 hexadecimal digits, which are the member's own, a dot, and the number of its try.
    """
    return Commit(commit.offset, f"{commit.metadata}#{mark}")


def unmarked(commit: Commit) -> Commit:
    """Return the commit as the job made it."""
    return Commit(commit.offset, _MARK.sub("", commit.metadata))


def read_commits(consumer: Any, group: str, topic: str, partitions: Sequence[int]) -> dict[int, Commit]:  # noqa: ANN401
    """Return a group's commits by partition, with their marks; an error is never taken for "no commit".

    consumer: one of the group, member or not. (The driver's AdminClient dies of a segmentation fault where the
    broker answers this question with "not the coordinator", as it does when it starts.) While a transaction that
    would move a commit is open, the answer is waited for: the commit of a process that died in between is settled
    when the broker has aborted its transaction.
    """
    places = [TopicPartition(topic, partition) for partition in partitions]
    deadline = time.monotonic() + ANSWER_S
    while True:
        try:
            found = consumer.committed(places, ANSWER_S)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
        else:
            errors = [place.error for place in found if place.error is not None]
            if not errors:
                return {p.partition: Commit(p.offset, p.metadata or "") for p in found if p.offset >= 0}
            reason = errors[0]
        if reason.code() not in FLEETING or time.monotonic() > deadline:
            raise _explained(reason, f"commits of group {group} on topic {topic}")
        time.sleep(0.02)


def _explained(error: KafkaError, doing: str) -> Exception:
    if error.code() != TIMED_OUT:
        return mapped(error, doing)
    return UnavailableError(
        f"{doing}: no answer in {ANSWER_S:g} s: no broker is there, or a transaction of a process that died is still "
        "open (the broker ends it within 20 s)"
    )
