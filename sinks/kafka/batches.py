"""Kafka's messages -> columns. No loop of Python runs over them: the driver's accessors are mapped in C."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, Final

import numpy as np
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message
from numpy.typing import NDArray

from headrace.schemas.ports import Headers, MessageBatch

SLICE_MESSAGES: Final = 512
"""How many of the driver's messages are best turned into columns at a time."""

# The class's own methods: mapped over messages they cost half of a call by name.
_partition: Final = Message.partition
_error: Final = Message.error
_kind: Final = itemgetter(0)
_time: Final = itemgetter(1)


def split_errors(messages: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return the messages that hold data, and those that stand for an event or an error, each in order."""
    if not any(map(_error, messages)):
        return messages, []
    return [m for m in messages if m.error() is None], [m for m in messages if m.error() is not None]


def by_partition(messages: list[Any]) -> dict[int, list[Any]]:
    """Return the messages of each partition, in order."""
    found: dict[int, list[Any]] = {}
    runs: Iterable[tuple[Any, Iterable[Any]]] = groupby(messages, _partition)
    for partition, run in runs:
        found.setdefault(partition, []).extend(run)
    return found


def to_batch(topic: str, partition: int, messages: list[Any]) -> MessageBatch:
    """Return messages of one partition as columns."""
    return MessageBatch(
        topic=topic,
        partition=partition,
        offsets=_offsets(messages),
        append_ts=_append_ts([*map(Message.timestamp, messages)]),
        keys=list(map(Message.key, messages)),
        values=list(map(Message.value, messages)),
        headers=_headers(messages),
    )


def _append_ts(stamps: list[tuple[int, int]]) -> NDArray[np.int64]:
    """Return the broker's times; a message says itself whose time it carries."""
    times = np.fromiter(map(_time, stamps), np.int64, len(stamps))
    kinds = np.fromiter(map(_kind, stamps), np.int64, len(stamps))
    return np.where(kinds == TIMESTAMP_LOG_APPEND_TIME, times, -1)


def _offsets(messages: list[Any]) -> NDArray[np.int64]:
    """Return the offsets; they rise, so without gaps the first and the last tell them all."""
    count = len(messages)
    if not count:
        return np.empty(0, np.int64)
    first: int = messages[0].offset()
    if messages[-1].offset() - first == count - 1:
        return np.arange(first, first + count, dtype=np.int64)
    return np.fromiter(map(Message.offset, messages), np.int64, count)


def _headers(messages: list[Any]) -> list[Headers]:
    found: list[Any]
    try:
        found = list(map(Message.headers, messages))
    except UnicodeDecodeError:
        found = list(_readable(messages))
    if not any(found):
        return [()] * len(messages)
    return [tuple((name, value or b"") for name, value in one) if one else () for one in found]


def _readable(messages: list[Any]) -> Iterator[Any]:
    """Yield headers one by one: a message whose names are no UTF-8 has none that we could know."""
    for message in messages:
        try:
            yield message.headers()
        except UnicodeDecodeError:
            yield None


def join(batches: list[MessageBatch]) -> MessageBatch:
    """Return consecutive batches of one partition as one."""
    if len(batches) == 1:
        return batches[0]
    return replace(
        batches[0],
        offsets=np.concatenate([batch.offsets for batch in batches]),
        append_ts=np.concatenate([batch.append_ts for batch in batches]),
        keys=[*chain.from_iterable(batch.keys for batch in batches)],
        values=[*chain.from_iterable(batch.values for batch in batches)],
        headers=[*chain.from_iterable(batch.headers for batch in batches)],
    )
