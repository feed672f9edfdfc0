"""Reading Kafka outside any group: a consumer that is pointed at one partition at a time."""

import threading
import time
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, TopicPartition

from headrace.sinks.kafka.batches import split_errors
from headrace.sinks.kafka.client import ANSWER_S, END_OF_PARTITION, MAX_MESSAGE_BYTES, TIMED_OUT, Failures, mapped
from headrace.sinks.kafka.target import Cluster

CONFIG: Final[dict[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",  # to read on elsewhere without a word would lose messages
    "fetch.queue.backoff.ms": 10,  # librdkafka's second costs half of the throughput
    "fetch.wait.max.ms": 100,
    "fetch.max.bytes": 2 * MAX_MESSAGE_BYTES,
    "message.max.bytes": MAX_MESSAGE_BYTES,
}
"""Of every consumer."""
_OWN: Final = {"group.id": "headrace.reader", "queued.max.messages.kbytes": 8 << 10, "fetch.wait.max.ms": 20}
_OPEN_S: Final = 1.0
"""How long transactions that are open before the end are waited for."""
_WAIT_S: Final = 0.02


class Reader:
    """Reads messages by offset: one consumer, which reads ahead while calls follow one another. From any thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._failures = Failures(cluster)
        self._lock = threading.Lock()
        self._consumer: Any = None
        self._place: tuple[str, int, int] | None = None
        # By partition: between two offsets there were only markers of transactions.
        self._empty: dict[tuple[str, int], tuple[int, int]] = {}

    def read(self, topic: str, partition: int, offset: int, end: int, limit: int) -> list[Any]:
        """Return at most `limit` messages from `offset` on; fewer only where the partition's `end` is reached.

        Markers of transactions take offsets too, so there may be none although offset < end; and what lies behind an
        open transaction is not to be read yet. topic: the cluster's name of it.
        """
        with self._lock:
            first, last = self._empty.get((topic, partition), (0, 0))
            if first <= offset < last:
                offset = last
            if offset >= end or limit <= 0:
                return []
            self._point(topic, partition, offset)
            try:
                return self._read(topic, partition, offset, end, limit)
            except BaseException:
                self._place = None
                raise

    def _point(self, topic: str, partition: int, offset: int) -> None:
        if self._consumer is None:
            doing = f"read from kafka://{self._cluster.servers}"
            self._consumer = self._failures.client(Consumer, {**CONFIG, **_OWN}, doing)
        if self._place != (topic, partition, offset):
            self._consumer.assign([TopicPartition(topic, partition, offset)])

    def _read(self, topic: str, partition: int, offset: int, end: int, limit: int) -> list[Any]:
        messages: list[Any] = []
        reached = -1  # what the broker called the end of what may be read
        deadline = time.monotonic() + ANSWER_S
        while len(messages) < limit and max(offset, reached) < end:
            found, events = split_errors(self._consumer.consume(min(limit - len(messages), end - offset), _WAIT_S))
            if found:
                messages += found
                offset = found[-1].offset() + 1
                deadline = time.monotonic() + ANSWER_S
            for event in events:
                reached = self._reached(event)
                deadline = time.monotonic() + _OPEN_S
            if time.monotonic() > deadline:
                if reached < 0 and not messages:
                    raise self._failures.explain(KafkaError(TIMED_OUT), f"read topic {topic}")
                break
        self._leave(topic, partition, offset, max(offset, reached), end)
        return messages

    def _reached(self, event: Any) -> int:  # noqa: ANN401 a driver's message
        """Return the end that an event tells of; raises what any other means."""
        error = event.error()
        if error.code() == END_OF_PARTITION:
            offset: int = event.offset()
            return offset
        raise mapped(error, f"read topic {event.topic()}")

    def _leave(self, topic: str, partition: int, offset: int, reached: int, end: int) -> None:
        """Remember where the consumer stands; at the end it is taken off, as it would go on asking for more."""
        if reached > offset:
            self._empty[topic, partition] = (offset, reached)
        if reached < end:
            self._place = (topic, partition, reached)
        else:
            self._consumer.unassign()
            self._place = None

    def close(self) -> None:
        """Release the connection."""
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
                self._consumer = None
