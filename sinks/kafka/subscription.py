"""A member of a consumer group on Kafka.

A rebalance tells of partitions inside `consume`, where a new one is taken on but not read yet (it is paused). Then
its commit and bounds are looked up, `Assigned` is told, and only the next poll reads: from where the job has sought
to by then.
"""

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from headrace.schemas.errors import (
    CommitConflictError,
    HeadraceError,
    StorageError,
    UnavailableError,
    UnknownTopicError,
)
from headrace.schemas.ports import Assigned, Commit, EndOfLog, Event, MessageBatch, Record, Revoked
from headrace.sinks.kafka.batches import SLICE_MESSAGES, by_partition, join, split_errors, to_batch
from headrace.sinks.kafka.client import END_OF_PARTITION, NOT_READY, OUT_OF_RANGE, Failures, made, mapped
from headrace.sinks.kafka.groups import read_commits, unmarked
from headrace.sinks.kafka.reader import CONFIG
from headrace.sinks.kafka.target import Cluster
from headrace.sinks.kafka.transactions import Transactions

if TYPE_CHECKING:
    from headrace.sinks.kafka.log import KafkaLog

logger = logging.getLogger(__name__)

_LINGER_S: Final = 0.05
"""How long a poll waits for a batch to be full once it has begun."""
_POLL_BYTES: Final = 4 << 20
"""A poll that has so much takes no further slice: 4,096 messages of 256 rows each would be 100 MB."""
_SEEK_S: Final = 5.0
_MAX_OFFSET: Final = 1 << 63
_OWN: Final[dict[str, Any]] = {
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": 15_000,
    "heartbeat.interval.ms": 1_000,
    # A job may wait long for its index, or train: it stays a member while its process lives and answers.
    "max.poll.interval.ms": 1_800_000,
    "queued.max.messages.kbytes": 32 << 10,  # what is read ahead: memory stays flat
}


def weak(method: Callable[..., None]) -> Callable[..., None]:
    """Return a function that calls a method while its object lives, without keeping it alive."""
    reference = weakref.WeakMethod(method)

    def call(*arguments: object) -> None:
        alive = reference()
        if alive:
            alive(*arguments)

    return call


class KafkaSubscription:
    """The port `Subscription`: a consumer of one topic, and the transactions of its commits."""

    def __init__(self, log: "KafkaLog", cluster: Cluster, group: str, topic: str) -> None:
        self._log = log
        self._cluster = cluster
        self._group = group
        self._topic = topic
        self._name = cluster.name(topic)
        self._doing = f"group {cluster.name(group)} on topic {self._name}"
        self._failures = Failures(cluster)
        self._member_id: str | None = None
        self._metadata: Any = None
        self._fresh: set[int] = set()  # the group gave them to us, but Assigned was not told yet
        self._had: set[int] = set()  # the partitions that Assigned was told of
        self._starts: dict[int, int] = {}  # where reading begins with the next poll
        self._positions: dict[int, int] = {}  # the next offset, of the partitions that are being read
        self._revoked: list[int] = []  # to be told
        self._stale = False
        self._consumer = self._joined()
        self._transactions = Transactions(cluster, self._name, f"{cluster.name(group)}.{topic}", self._doing)

    def _joined(self) -> Any:
        own = {**CONFIG, **_OWN, "group.id": self._cluster.name(self._group), "error_cb": self._failures.note}
        config = self._cluster.config(own)
        if "group.instance.id" in config:  # a process may have several subscriptions in one group
            config["group.instance.id"] += f".{self._topic}"
        consumer = made(Consumer, config, self._doing)
        assign, revoke = weak(self._assign), weak(self._revoke)  # no cycle: see `Admin`
        consumer.subscribe([self._name], on_assign=assign, on_revoke=revoke, on_lost=revoke)
        return consumer

    def _assign(self, consumer: Any, places: list[Any]) -> None:
        """Take partitions on, paused; called inside `consume`.

        They stand at an offset that the log holds until reading begins. A logical one (end, stored) would be asked for
        in the background, and its answer may come after the seek, and move the partition once more.
        """
        self._member_id = consumer.memberid()
        self._metadata = consumer.consumer_group_metadata()
        partitions = [place.partition for place in places]
        try:
            bounds = self._log.all_bounds(self._topic, partitions) if partitions else {}
        except HeadraceError as error:
            logger.warning("%s; joining again", error)
            bounds = dict.fromkeys(partitions, (0, 0))
            self._stale = True
        places = [TopicPartition(self._name, partition, begin) for partition, (begin, _) in bounds.items()]
        consumer.incremental_assign(places)
        if places:
            consumer.pause(places)
        self._fresh.update(partitions)

    def _revoke(self, _consumer: Any, places: list[Any]) -> None:
        """Give partitions up; called inside `consume`."""
        self._forget([place.partition for place in places])

    def _forget(self, partitions: list[int]) -> None:
        for partition in partitions:
            self._fresh.discard(partition)
            self._starts.pop(partition, None)
            self._positions.pop(partition, None)
            if partition in self._had:
                self._had.remove(partition)
                self._revoked.append(partition)

    def poll(self, limit: int, timeout_s: float) -> list[Event]:
        """Return what happened: at most `limit` messages altogether; an empty list when time is up.

        What the group has taken away comes first, then what it has given, then messages, then ends.
        """
        if self._stale:
            self._join_again()
        self._begin_reading()
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            try:
                batches, ends = self._consume(limit, min(left_s, _LINGER_S))
            except HeadraceError:
                self._stale = True  # what was taken from the driver before it is read again
                raise
            events = self._events(batches, ends)
            if events or left_s <= 0:
                return events

    def _consume(self, limit: int, timeout_s: float) -> tuple[dict[int, list[MessageBatch]], dict[int, int]]:
        """Take at most `limit` messages and events; returns batches and ends by partition.

        Slice by slice: the driver's messages are objects that Python's collector of garbage visits again and again
        while they live; 4,096 of them at once cost half as much again.
        """
        batches: dict[int, list[MessageBatch]] = {}
        ends: dict[int, int] = {}
        deadline = time.monotonic() + timeout_s
        left_bytes = _POLL_BYTES
        while limit > 0:
            size = min(SLICE_MESSAGES, limit)
            taken = self._take(size, max(0.0, deadline - time.monotonic()))
            messages, notices = split_errors(taken)
            for partition, found in by_partition(messages).items():
                batches.setdefault(partition, []).append(to_batch(self._topic, partition, found))
            for notice in notices:
                if notice.error().code() == END_OF_PARTITION:
                    ends[notice.partition()] = notice.offset()
                else:
                    self._act_on(notice.error(), notice.partition())
            left_bytes -= sum(map(len, messages))
            limit -= size if len(taken) == size and left_bytes > 0 else limit
            del taken, messages, notices  # before the next slice is made
        return batches, ends

    def _take(self, limit: int, timeout_s: float) -> list[Any]:
        try:
            found: list[Any] = self._consumer.consume(limit, timeout_s)
        except KafkaException as error:
            raise self._failures.explain(error.args[0], self._doing) from error
        return found

    def _join_again(self) -> None:
        self._forget([*self._had])
        self._consumer.close()
        self._fresh.clear()
        self._consumer = self._joined()
        self._stale = False

    def _begin_reading(self) -> None:
        for partition, offset in [*self._starts.items()]:
            self._seek(TopicPartition(self._name, partition, offset))
            self._consumer.resume([TopicPartition(self._name, partition)])
            self._positions[partition] = offset
            del self._starts[partition]

    def _seek(self, place: Any) -> None:
        deadline = time.monotonic() + _SEEK_S
        while True:
            try:
                self._consumer.seek(place)
            except KafkaException as error:
                # A partition that was taken on just now is not ready for it at once.
                if error.args[0].code() != NOT_READY or time.monotonic() > deadline:
                    raise mapped(error.args[0], f"{self._doing}: seek") from error
                time.sleep(0.005)
            else:
                return

    def _act_on(self, error: KafkaError, partition: int) -> None:
        """Act on what is no message; raises what can't be lived with."""
        if error.fatal():
            raise CommitConflictError(f"{self._doing}: {error.str()}: another process runs under its group.instance.id")
        if error.code() == OUT_OF_RANGE:
            # What is to be read next is gone from the log: once assigned anew, the job sees where it begins now.
            logger.warning("%s, partition %d: %s", self._doing, partition, error.str())
            self._stale = True
            return
        failure = mapped(error, self._doing)
        if isinstance(failure, UnknownTopicError):
            self._log.topic(self._topic)  # raises the same, unless it was a broker that starts
        elif not isinstance(failure, UnavailableError):
            raise failure
        logger.warning("%s", failure)  # librdkafka goes on by itself

    def _events(self, batches: dict[int, list[MessageBatch]], ends: dict[int, int]) -> list[Event]:
        revoked, self._revoked = self._revoked, []
        events: list[Event] = [Revoked(partition) for partition in revoked]
        read = [*self._read(batches, ends)]
        try:
            events += self._opened()
        except UnavailableError:
            if not events and not read:
                raise
        return events + read

    def _opened(self) -> list[Event]:
        """Look up the commits and the bounds of new partitions; an error leaves them for the next poll."""
        fresh = sorted(self._fresh)
        if not fresh:
            return []
        commits = {partition: unmarked(commit) for partition, commit in self._read_commits(fresh).items()}
        bounds = self._log.all_bounds(self._topic, fresh)
        for partition in fresh:
            commit, (_, end) = commits.get(partition), bounds[partition]
            if commit and commit.offset > end:
                raise StorageError(
                    f"{self._doing}: partition {partition} was committed at offset {commit.offset}, but ends at {end}: "
                    "it is another log, or has lost messages. Give the log and the index that belong together"
                )
        self._fresh.clear()
        for partition in fresh:
            commit, (begin, _) = commits.get(partition), bounds[partition]
            self._had.add(partition)
            self._starts[partition] = max(begin, commit.offset if commit else begin)
        return [Assigned(partition, commits.get(partition), *bounds[partition]) for partition in fresh]

    def _read_commits(self, partitions: Sequence[int]) -> dict[int, Commit]:
        return read_commits(self._consumer, self._cluster.name(self._group), self._name, partitions)

    def _read(self, batches: dict[int, list[MessageBatch]], ends: dict[int, int]) -> Iterator[Event]:
        """Yield batches, then ends; of partitions that are being read, which new ones are not yet."""
        for partition, slices in batches.items():
            if int(slices[0].offsets[0]) >= self._positions.get(partition, _MAX_OFFSET):
                self._positions[partition] = slices[-1].next_offset
                yield join(slices)
        for partition, offset in ends.items():
            if offset >= self._positions.get(partition, _MAX_OFFSET):  # an earlier one is from before a seek
                yield EndOfLog(partition, offset)

    def seek(self, partition: int, offset: int) -> None:
        self._require([partition])
        self._starts[partition] = offset
        self._positions.pop(partition, None)

    def commit(self, commits: Mapping[int, Commit], outputs: Sequence[Record] = ()) -> None:
        """Move the group's commits and append `outputs` in one transaction.

        After UnavailableError the same commit may be tried again: its outputs never come twice.
        """
        self._require(commits)
        outputs = self._log.placed(outputs)
        try:
            self._transactions.commit(self, commits, outputs)
        except CommitConflictError:
            self._stale = True
            raise

    def _require(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            if partition not in self._had:
                raise CommitConflictError(
                    f"{self._doing}: partition {partition} is not assigned to this member: poll until it is"
                )

    def metadata(self) -> Any:
        """Return what names this member and its newest generation to the broker, which judges whether it still is one.

        The driver calls a member lost when the broker was silent for long; the broker, back again, may know it still.
        Its own word by then would name nobody, and a commit by nobody is taken without a question. (The driver can't
        have joined anew: that needs a poll.)
        """
        metadata = self._consumer.consumer_group_metadata()
        if self._consumer.memberid() == self._member_id:
            self._metadata = metadata
        return self._metadata

    def standing(self) -> dict[int, Commit]:
        """Return the group's commits of this member's partitions as they stand, with their marks."""
        return self._read_commits([*self._had])

    def close(self) -> None:
        self._transactions.close()
        self._consumer.close()
