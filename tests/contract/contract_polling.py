"""Polling a subscription until something is true: adapters may take their time to assign and to deliver."""

import time
from collections.abc import Callable

import numpy as np

from headrace.schemas.ports import Assigned, EndOfLog, Event, MessageBatch, Subscription

DEADLINE_S = 20.0


def poll_until(subscription: Subscription, reached: Callable[[list[Event]], bool], limit: int = 1000) -> list[Event]:
    """Poll until the events so far satisfy `reached`; fail when that takes too long."""
    events: list[Event] = []
    deadline = time.monotonic() + DEADLINE_S
    while not reached(events):
        assert time.monotonic() < deadline, f"not reached in {DEADLINE_S} s: {events}"
        events += subscription.poll(limit, 0.2)
    return events


def assigned(partitions: int) -> Callable[[list[Event]], bool]:
    return lambda events: len(assignments(events)) == partitions


def ended(partitions: int) -> Callable[[list[Event]], bool]:
    """Reached when the ends of so many partitions have been told."""
    return lambda events: len({event.partition for event in events if isinstance(event, EndOfLog)}) == partitions


def assignments(events: list[Event]) -> dict[int, Assigned]:
    return {event.partition: event for event in events if isinstance(event, Assigned)}


def batches(events: list[Event]) -> list[MessageBatch]:
    return [event for event in events if isinstance(event, MessageBatch)]


def values(events: list[Event]) -> dict[int, list[bytes | None]]:
    """Return the values read, by partition; their offsets must rise (a transaction may take one for itself)."""
    found: dict[int, list[bytes | None]] = {}
    last: dict[int, int] = {}
    for batch in batches(events):
        assert (np.diff(batch.offsets, prepend=last.get(batch.partition, -1)) > 0).all()
        last[batch.partition] = int(batch.offsets[-1])
        found.setdefault(batch.partition, []).extend(batch.values)
    return found
