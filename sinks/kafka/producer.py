"""Producing to Kafka: idempotent, in order, and durable when it returns."""

from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from headrace.schemas.ports import Record
from headrace.sinks.kafka.client import ANSWER_S, MAX_MESSAGE_BYTES, UNKNOWN_PARTITION, Failures
from headrace.sinks.kafka.target import Cluster

SEND_MS: Final = 30_000
"""How long a message may take, a broker's restart included; the driver tries again without ever writing it twice."""

CONFIG: Final[dict[str, Any]] = {
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # Java's; librdkafka's default is another
    "message.max.bytes": MAX_MESSAGE_BYTES,
    "compression.type": "lz4",
    "delivery.report.only.error": True,
}


def produce(producer: Any, cluster: Cluster, records: Sequence[Record], failed: list[KafkaError]) -> None:  # noqa: ANN401
    """Hand records to the driver; `failed` is told later what could not be delivered. Raises KafkaException."""

    def note(error: KafkaError | None, _message: object) -> None:
        if error is not None:
            failed.append(error)

    put, prefix = producer.produce, cluster.prefix
    for record in records:
        partition = -1 if record.partition is None else record.partition
        message = (prefix + record.topic, record.value, record.key, partition, None, note, 0, list(record.headers))
        try:
            put(*message)
        except (BufferError, KafkaException) as error:
            _put_again(producer, message, error)


def _put_again(producer: Any, message: tuple[Any, ...], error: Exception) -> None:  # noqa: ANN401
    """Wait while the driver's queue is full; look again where a partition is so young that it does not know it yet."""
    while isinstance(error, BufferError):
        producer.poll(0.1)
        try:
            producer.produce(*message)
        except BufferError:
            continue
        return
    if error.args[0].code() != UNKNOWN_PARTITION:
        raise error
    producer.list_topics(message[0], ANSWER_S)
    producer.produce(*message)


class Sender:
    """A producer that is made when it is first used. From any thread."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._failures = Failures(cluster)
        self._producer: Any = None

    def send(self, records: Sequence[Record]) -> None:
        """Append the records to topics that are known to exist, and wait until they are durable."""
        doing = f"send to kafka://{self._cluster.servers}"
        failed: list[KafkaError] = []
        if self._producer is None:
            self._producer = self._failures.client(Producer, {**CONFIG, "message.timeout.ms": SEND_MS}, doing)
        producer = self._producer
        try:
            produce(producer, self._cluster, records, failed)
        except KafkaException as error:
            failed.append(error.args[0])
        while producer.flush(1):
            pass  # the driver itself gives up after SEND_MS; a signal's handler runs in between
        if failed:
            self._producer = None  # after some errors it is of no use any more
            raise self._failures.explain(failed[0], doing) from KafkaException(failed[0])

    def close(self) -> None:
        """Forget the producer; nothing waits in it."""
        self._producer = None
