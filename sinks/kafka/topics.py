"""How headrace's topics are set: as they are created, and what must hold where they exist already.

The retention that a topic is created with may be changed at will, except where it must be for ever.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import ConfigResource, NewTopic, ResourceType  # type: ignore[attr-defined]

from headrace.schemas.errors import HeadraceError, SettingsError, UnknownTopicError
from headrace.schemas.ports import TopicInfo
from headrace.schemas.url import Url
from headrace.sinks.kafka.client import ANSWER_S, MAX_MESSAGE_BYTES, Admin
from headrace.sinks.kafka.target import Cluster, parse_cluster

_DAY_MS: Final = 86_400_000
_FOR_EVER: Final = -1
_LOOKS: Final = 100


class TopicSettings(NamedTuple):
    """What a topic is created with. compacted: None where it may be either; kept: whether nothing may be deleted."""

    cleanup: str
    retention_ms: int
    compacted: bool | None = None
    kept: bool = False


_BY_TOPIC: Final = {
    # The first spec of a task stands: compaction would keep the last one.
    "tasks": TopicSettings("delete", _FOR_EVER, compacted=False, kept=True),
    # A segment is a block of offsets with all of its rows.
    "transitions": TopicSettings("delete", 7 * _DAY_MS, compacted=False),
    "transitions.rejected": TopicSettings("delete", 30 * _DAY_MS, compacted=False),
    "windows": TopicSettings("compact,delete", 90 * _DAY_MS),
    # What serves, and what was sent: the last of each key must outlive any time.
    "policies": TopicSettings("compact", _FOR_EVER, compacted=True, kept=True),
    "reports": TopicSettings("delete", 365 * _DAY_MS),
    # A learner's settings are its task's first ones and all directives since that stand.
    "directives": TopicSettings("delete", _FOR_EVER, compacted=False, kept=True),
    "mails": TopicSettings("compact", _FOR_EVER, compacted=True, kept=True),
    "ratings": TopicSettings("compact", _FOR_EVER, compacted=True, kept=True),
    "subscribers": TopicSettings("compact", _FOR_EVER, compacted=True, kept=True),
    "operations": TopicSettings("delete", 90 * _DAY_MS, compacted=False),
}
_OTHER: Final = TopicSettings("delete", 7 * _DAY_MS)


def broken_laws(plain: str, config: Mapping[str, str | None]) -> dict[str, tuple[str, str]]:
    """Return the settings of a topic that break a law: what is needed, and why."""
    wanted = _BY_TOPIC.get(plain, _OTHER)
    policies = set((config.get("cleanup.policy") or "").split(","))
    needed = {"message.timestamp.type": ("LogAppendTime", "time is judged by the log's own append time")}
    if wanted.compacted is False and "compact" in policies:
        needed["cleanup.policy"] = ("delete", "compaction removes messages that are still needed")
    if wanted.compacted and policies != {"compact"}:
        needed["cleanup.policy"] = ("compact", "the last message of each key must stay for ever")
    if wanted.kept and not wanted.compacted:
        needed["retention.ms"] = needed["retention.bytes"] = ("-1", "its messages must stay for ever")
    if "unclean.leader.election.enable" in config:
        why = "the log is the only state: none of it may be lost"
        needed["unclean.leader.election.enable"] = ("false", why)
    return {name: (value, why) for name, (value, why) in needed.items() if config.get(name) != value}


class Topics:
    """Creates and describes the topics of a cluster, under its prefix. From any thread."""

    def __init__(self, cluster: Cluster, admin: Admin) -> None:
        self._cluster = cluster
        self._admin = admin

    def describe(self, plain: str) -> TopicInfo:
        """Return the topic's id and its number of partitions; raises UnknownTopicError."""
        name = self._cluster.name(plain)
        names = TopicCollection([name])
        (found,) = self._admin.ask(
            lambda client: client.describe_topics(names, request_timeout=ANSWER_S).values(), f"topic {name}"
        )
        return TopicInfo(str(found.topic_id), len(found.partitions))

    def create(self, plain: str, partitions: int) -> None:
        """Create the topic, or check the one that is there; raises SettingsError where it won't do."""
        try:
            found = self.describe(plain)
        except UnknownTopicError:
            if self._create(plain, partitions):
                return
            found = self.describe(plain)  # another process was first
        if found.partitions != partitions:
            raise SettingsError(
                f"topic {self._cluster.name(plain)} exists with {found.partitions} partitions, {partitions} were asked "
                f"for: ask for {found.partitions}, or use another prefix (kafka://host/PREFIX)"
            )
        for fault in self.faults([plain]).values():
            raise SettingsError(fault)

    def _create(self, plain: str, partitions: int) -> bool:
        """Create the topic and wait until it is seen; False if another was faster."""
        name = self._cluster.name(plain)
        settings = _BY_TOPIC.get(plain, _OTHER)
        config = {
            "cleanup.policy": settings.cleanup,
            "retention.ms": str(settings.retention_ms),
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
        }
        topic = NewTopic(name, partitions, config=config)
        try:
            self._admin.ask(
                lambda client: client.create_topics([topic], request_timeout=ANSWER_S).values(), f"create topic {name}"
            )
        except HeadraceError as error:
            cause = error.__cause__
            if isinstance(cause, KafkaException) and cause.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise
        self._wait_until_seen(plain)
        return True

    def _wait_until_seen(self, plain: str) -> None:
        for _ in range(_LOOKS):
            with suppress(UnknownTopicError):
                self.describe(plain)
                return
            time.sleep(0.05)
        self.describe(plain)

    def faults(self, topics: Sequence[str]) -> dict[str, str]:
        """Say, by topic, which of its settings break a law, and the remedy."""
        resources = [ConfigResource(ResourceType.TOPIC, self._cluster.name(plain)) for plain in topics]
        found = self._admin.ask(
            lambda client: client.describe_configs(resources, request_timeout=ANSWER_S).values(), "settings of topics"
        )
        told = {}
        for plain, entries in zip(topics, found, strict=True):
            name, config = self._cluster.name(plain), {entry.name: entry.value for entry in entries.values()}
            if broken := broken_laws(plain, config):
                told[plain] = f"topic {name} can't be used: {_described(name, config, broken)}"
        return told


def _described(name: str, config: Mapping[str, str | None], broken: Mapping[str, tuple[str, str]]) -> str:
    found = "; ".join(f"{s} is {config.get(s)}, {wanted} is needed ({why})" for s, (wanted, why) in broken.items())
    remedy = ",".join(f"{setting}=[{wanted}]" for setting, (wanted, _) in broken.items())
    return (
        f"{found}. Change it with `kafka-configs.sh --alter --topic {name} --add-config {remedy}`, or use another "
        "prefix (kafka://host/PREFIX)"
    )


def drop(url: Url, topics: Sequence[str], groups: Sequence[str]) -> None:
    """Delete the topics and consumer groups under a URL's prefix; those that were never made are passed over."""
    cluster = parse_cluster(url)
    admin = Admin(cluster)

    def delete_topics(client: Any) -> Any:
        found = sorted(set(map(cluster.name, topics)) & set(client.list_topics(timeout=ANSWER_S).topics))
        return client.delete_topics(found, request_timeout=ANSWER_S).values() if found else ()

    try:
        (listed,) = admin.ask(lambda client: [client.list_consumer_groups(request_timeout=ANSWER_S)], "list groups")
        found = [*{group.group_id for group in listed.valid} & set(map(cluster.name, groups))]
        if found:
            admin.ask(
                lambda client: client.delete_consumer_groups(found, request_timeout=ANSWER_S).values(), "delete groups"
            )
        admin.ask(delete_topics, "delete topics")
    finally:
        admin.close()
