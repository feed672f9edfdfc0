"""The log on Kafka: topics, partitions, consumer groups and transactions of a cluster.

A commit is the group's offset with its metadata; it and its outputs go out in one transaction, which a reader sees
whole or not at all. Transactions leave markers in a partition, which take offsets but hold nothing: so offsets rise
without being consecutive, and a partition's end may lie behind its last message.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final

from confluent_kafka import Consumer, IsolationLevel, TopicPartition, murmur2
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from headrace.schemas.errors import SettingsError
from headrace.schemas.ports import Backend, Commit, MessageBatch, Record, Retention, TopicInfo
from headrace.sinks.kafka.batches import to_batch
from headrace.sinks.kafka.client import ANSWER_S, Admin, made
from headrace.sinks.kafka.groups import read_commits, unmarked
from headrace.sinks.kafka.producer import Sender
from headrace.sinks.kafka.reader import CONFIG, Reader
from headrace.sinks.kafka.subscription import KafkaSubscription
from headrace.sinks.kafka.target import Cluster
from headrace.sinks.kafka.topics import Topics

MAX_PARTITIONS: Final = 1 << 13


class KafkaLog(Backend):
    """The port `Log`. From any thread; a subscription is its own thread's.

    Raises UnavailableError when no broker answers, SettingsError when they refuse.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._admin = Admin(self._cluster)
        self._topics = Topics(self._cluster, self._admin)
        self._known: dict[str, TopicInfo] = {}
        self._sender = Sender(self._cluster)
        self._reader = Reader(self._cluster)
        self._describe()

    def create(self, topic: str, partitions: int) -> None:
        if not 0 < partitions <= MAX_PARTITIONS:
            raise SettingsError(f"topic {topic}: {partitions} partitions; 1 to {MAX_PARTITIONS} are allowed")
        self._topics.create(topic, partitions)

    def topic(self, topic: str) -> TopicInfo:
        self._known[topic] = self._topics.describe(topic)
        return self._known[topic]

    def faults(self, topics: Sequence[str]) -> dict[str, str]:
        return self._topics.faults(topics)

    def retain(self, topic: str, retention: Retention) -> None:
        """Raise SettingsError: the cluster's own tools say it."""
        name = self._cluster.name(topic)
        raise SettingsError(
            f"Kafka keeps topic {name} by its own settings, not {retention}: `kafka-configs.sh --alter --topic {name} "
            "--add-config retention.ms=...,retention.bytes=...`"
        )

    def overwrite(self, topic: str, partition: int, records: Mapping[int, Record]) -> str:
        """Raise SettingsError: a log on Kafka can't be changed."""
        raise SettingsError(
            f"Kafka can't take messages out of {self._cluster.name(topic)}, such as {len(records)} of partition "
            f"{partition}: they stay until the topic's retention or `kafka-delete-records.sh` takes all before an "
            "offset. Until then `headrace run ingest --from-start` brings their rows back, as does an ingest that ran "
            "meanwhile with those of its open segment; and summaries on `windows` name chunks that are gone, which "
            "`headrace run learn --from-start` passes over with --accept-gap"
        )

    def _check(self, topic: str, partition: int) -> None:
        known = self._known.get(topic)
        if known is None or not 0 <= partition < known.partitions:
            known = self.topic(topic)
        if not 0 <= partition < known.partitions:
            raise SettingsError(f"topic {topic} has no partition {partition}, only 0 to {known.partitions - 1}")

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the first offset held and the next one to be written, open transactions included."""
        self._check(topic, partition)
        return self.all_bounds(topic, [partition])[partition]

    def all_bounds(self, topic: str, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        """Return the bounds of several partitions."""
        name = self._cluster.name(topic)
        places = [TopicPartition(name, partition) for partition in partitions]
        ends = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]

        def ask(client: Any) -> list["Future[Any]"]:
            options = {"isolation_level": IsolationLevel.READ_UNCOMMITTED, "request_timeout": ANSWER_S}
            asked = [client.list_offsets(dict.fromkeys(places, end), **options) for end in ends]
            return [future for futures in asked for future in futures.values()]

        found = [answer.offset for answer in self._admin.ask(ask, f"topic {name}", name)]
        return dict(zip(partitions, zip(found[: len(places)], found[len(places) :], strict=True), strict=True))

    def send(self, records: Sequence[Record]) -> None:
        """Append the records, in order by partition; they are durable when this returns.

        Not all or nothing: when it raises, some of them may have been appended.
        """
        if records:
            self._sender.send(self.placed(records))

    def placed(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the records, those without key and partition with one by their value, as the log on SQLite has it.

        Raises UnknownTopicError or SettingsError where a record's topic or partition is none of the log's.
        """
        for topic in {record.topic for record in records}:
            named = [record.partition for record in records if record.topic == topic and record.partition is not None]
            for partition in {min(named, default=0), max(named, default=0)}:
                self._check(topic, partition)
        return [
            record
            if record.key is not None or record.partition is not None
            else replace(record, partition=murmur2(record.value or b"", self._known[record.topic].partitions))
            for record in records
        ]

    def read(self, topic: str, partition: int, offset: int, limit: int) -> MessageBatch:
        """Return at most `limit` messages from `offset` on, outside any group, and of committed transactions only."""
        begin, end = self.bounds(topic, partition)
        messages = self._reader.read(self._cluster.name(topic), partition, max(offset, begin), end, limit)
        return to_batch(topic, partition, messages)

    def committed(self, group: str, topic: str) -> dict[int, Commit]:
        """Return the group's commits by partition. Raises UnavailableError while a transaction holds them open."""
        config = self._cluster.config({**CONFIG, "group.id": self._cluster.name(group)})
        config.pop("group.instance.id", None)
        consumer = made(Consumer, config, f"group {group}")
        try:
            partitions = range(self.topic(topic).partitions)
            found = read_commits(consumer, self._cluster.name(group), self._cluster.name(topic), partitions)
            return {partition: unmarked(commit) for partition, commit in found.items()}
        finally:
            consumer.close()

    def groups(self) -> list[str]:
        """Return the groups under the prefix: Kafka itself forgets those that are long empty."""
        (listed,) = self._admin.ask(
            lambda client: [client.list_consumer_groups(request_timeout=ANSWER_S)], "list groups"
        )
        names = sorted(group.group_id for group in listed.valid)
        return [name.removeprefix(self._cluster.prefix) for name in names if name.startswith(self._cluster.prefix)]

    def drop(self, group: str) -> None:
        """Raise SettingsError: the cluster's own tools do it, and its retention waits for no group."""
        name = self._cluster.name(group)
        raise SettingsError(
            f"Kafka's retention doesn't wait for group {name}; `kafka-consumer-groups.sh --delete --group {name}` "
            "takes it away"
        )

    def subscribe(self, group: str, topic: str) -> KafkaSubscription:
        self.topic(topic)
        return KafkaSubscription(self, self._cluster, group, topic)

    def about(self) -> str:
        cluster = self._describe()
        return f"Kafka cluster {cluster.cluster_id}, {len(cluster.nodes)} broker{'s' if len(cluster.nodes) > 1 else ''}"

    def _describe(self) -> Any:
        (cluster,) = self._admin.ask(
            lambda client: [client.describe_cluster(request_timeout=ANSWER_S)], f"log kafka://{self._cluster.servers}"
        )
        return cluster

    def close(self) -> None:
        self._sender.close()
        self._reader.close()
        self._admin.close()
