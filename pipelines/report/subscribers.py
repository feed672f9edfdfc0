"""Who gets a task's digests by a schedule of their own: records on `subscribers`, the last of a key holds."""

import logging
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from headrace.pipelines.report.schedule import Schedule
from headrace.pipelines.report.unsubscribing import identity, verify
from headrace.pipelines.topics import REPORTS, SUBSCRIBERS, TopicReader, decoded
from headrace.schemas.errors import InvalidTokenError, SettingsError, UnknownTopicError
from headrace.schemas.ports import Clock, Log, Record
from headrace.schemas.records import Subscriber, mailbox, subscriber_key

logger = logging.getLogger(__name__)

READER: Final = "reader"
"""Who decided, where a reader has unsubscribed."""


class Subscribers:
    """The topic as far as it was read: each key's last record. A log that lacks the topic has no subscribers."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._reader: TopicReader | None = None
        self.by_key: dict[str, Subscriber] = {}

    def refresh(self) -> "Subscribers":
        """Read the topic to its end. Raises CorruptDataError where a record can't be read."""
        if self._reader is None:
            try:
                self._log.topic(SUBSCRIBERS)
            except UnknownTopicError:
                return self
            self._reader = TopicReader(self._log, SUBSCRIBERS)
        for batch in self._reader.batches():
            for one in decoded(batch, Subscriber, strict=True):
                if one is not None:
                    self.by_key[one.key] = one
        return self

    def active(self) -> list[Subscriber]:
        """Return those that hold, by key."""
        return [one for _, one in sorted(self.by_key.items()) if one.state == "active" and one.task]

    def subscribed(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """Return those of the settings' recipients that have not unsubscribed."""
        known = [(address, self.by_key.get(subscriber_key("", address))) for address in addresses]
        return tuple(address for address, one in known if one is None or one.state == "active")

    def note(self, address: str, ts: int) -> None:
        """Append the settings' recipient who is about to get a token, so that it can be found by that."""
        one = Subscriber("", address, "active", ts, "settings")
        if one.key not in self.by_key:
            self.by_key[one.key] = _append(self._log, one)


def add(log: Log, new: Subscriber, *, again: bool) -> Subscriber:
    """Append a subscriber that begins with the next report; one that holds goes on, by the new schedule.

    again: whether who has unsubscribed wants it back. Raises SettingsError where they have, and it is not said.
    """
    Schedule(new.cron, new.zone)
    known = Subscribers(log).refresh().by_key.get(new.key)
    if known and known.state == "unsubscribed" and not again:
        raise SettingsError(f"{new.address} has unsubscribed from {new.task}: --again says that they want it back")
    if known and known.state == "active":
        since = known.since
    else:
        partitions = range(log.topic(REPORTS).partitions)
        since = {partition: log.bounds(REPORTS, partition)[1] for partition in partitions}
    return _append(log, replace(new, since=since))


def remove(log: Log, task: str, address: str, ts: int, who: str) -> Subscriber:
    """End a subscriber; raises SettingsError where there is none."""
    known = Subscribers(log).refresh().by_key.get(subscriber_key(task, address))
    if known is None or known.state != "active":
        raise SettingsError(f"{mailbox(address)} has no digests of {task}: `headrace digest list` shows who has")
    return _append(log, replace(known, state="removed", ts=ts, who=who))


def subscriber_of(log: Log, key: str, token: str) -> Subscriber:
    """Return the subscriber that a token is for; raises InvalidTokenError."""
    name = verify(key, token)
    for one in Subscribers(log).refresh().by_key.values():
        if identity(one.key) == name:
            return one
    raise InvalidTokenError("this link to unsubscribe is of a subscriber that is not there any more")


def unsubscribe(log: Log, clock: Clock, key: str, token: str) -> Subscriber:
    """End the subscriber that a token is for, and return it; a second time changes nothing.

    Raises InvalidTokenError.
    """
    one = subscriber_of(log, key, token)
    if one.state != "active":
        return one
    logger.info("%s has unsubscribed", one.key)
    return _append(log, replace(one, state="unsubscribed", ts=clock(), who=READER))


def _append(log: Log, one: Subscriber) -> Subscriber:
    log.send([Record(SUBSCRIBERS, one.key.encode(), msgspec.json.encode(one))])
    return one
