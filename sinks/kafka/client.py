"""Kafka's clients: how long they are waited for, and what their errors mean here."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from headrace.schemas.errors import HeadraceError, SettingsError, UnavailableError, UnknownTopicError
from headrace.sinks.kafka.target import Cluster

# Errors of librdkafka itself, which no broker has told; the driver names them with an underscore.
ALL_BROKERS_DOWN: Final = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001
END_OF_PARTITION: Final = KafkaError._PARTITION_EOF  # noqa: SLF001
INVALID_PROPERTY: Final = KafkaError._INVALID_ARG  # noqa: SLF001
LOGIN_FAILED: Final = KafkaError._AUTHENTICATION  # noqa: SLF001
NO_LEADER: Final = KafkaError._NOENT  # noqa: SLF001
NOT_READY: Final = KafkaError._STATE  # noqa: SLF001
OUT_OF_RANGE: Final = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001
TIMED_OUT: Final = KafkaError._TIMED_OUT  # noqa: SLF001
TLS_FAILED: Final = KafkaError._SSL  # noqa: SLF001
TRANSPORT: Final = KafkaError._TRANSPORT  # noqa: SLF001
UNKNOWN_PARTITION: Final = KafkaError._UNKNOWN_PARTITION  # noqa: SLF001
UNKNOWN_TOPIC: Final = KafkaError._UNKNOWN_TOPIC  # noqa: SLF001

ANSWER_S: Final = 5.0
"""How long a broker may take to answer; after it a HeadraceError is raised."""
MAX_MESSAGE_BYTES: Final = 8 << 20
"""The largest message that headrace writes; the topics that it creates allow as much."""

_UNREACHABLE: Final = {TIMED_OUT, TRANSPORT, ALL_BROKERS_DOWN, NO_LEADER}
FLEETING: Final = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    NO_LEADER,
}
_UNKNOWN_TOPICS: Final = {KafkaError.UNKNOWN_TOPIC_OR_PART, UNKNOWN_TOPIC}
# Only a person can heal these: trying again would be for ever.
_REFUSED: Final = {
    LOGIN_FAILED: "check user and password (kafka://user:password@host) and sasl.mechanism",
    KafkaError.SASL_AUTHENTICATION_FAILED: "check user and password (kafka://user:password@host) and sasl.mechanism",
    KafkaError.UNSUPPORTED_SASL_MECHANISM: "name one of the broker's own by ?sasl.mechanism=",
    TLS_FAILED: "check security.protocol, ssl.ca.location and the host's name in its certificate",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant this user the right to read, write, describe and create the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "grant this user the right to read the consumer group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant this user the right to write idempotently and to create topics",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "grant this user the right to write the transactional id",
    KafkaError.MSG_SIZE_TOO_LARGE: "raise the topic's max.message.bytes (and the URL's ?message.max.bytes=)",
    KafkaError.OFFSET_METADATA_TOO_LARGE: "raise the broker's offset.metadata.max.bytes",
    KafkaError.INVALID_CONFIG: "raise the broker's limit, or create the topic by hand",
    KafkaError.INVALID_REPLICATION_FACTOR: "set the broker's default.replication.factor to what it has brokers for",
    KafkaError.POLICY_VIOLATION: "create the topic by hand, as the cluster's policy wants it",
    INVALID_PROPERTY: "https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md lists them",
}


def mapped(error: KafkaError, doing: str) -> HeadraceError:
    """Return a driver's error as ours: SettingsError where only a person can heal it, else UnavailableError."""
    if error.code() in _UNKNOWN_TOPICS:
        return UnknownTopicError(f"{doing}: there is no such topic: create it with `headrace init`")
    remedy = _REFUSED.get(error.code())
    if remedy:
        return SettingsError(f"{doing}: {error.str()}: {remedy}")
    return UnavailableError(f"{doing}: {error.str()}")


def made(kind: type[Any], config: Mapping[str, Any], doing: str) -> Any:  # noqa: ANN401 a driver's class
    """Make a client; raises SettingsError for a property that librdkafka doesn't know."""
    try:
        return kind(dict(config))
    except KafkaException as error:
        raise mapped(error.args[0], doing) from error


class Failures:
    """What a client says of its connections, in the background: the reason behind a time-out."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.last: KafkaError | None = None
        self.refused: KafkaError | None = None

    def note(self, error: KafkaError) -> None:
        """Take an error in; the callback `error_cb`."""
        if error.code() in _REFUSED:
            self.refused = error
        elif error.code() != ALL_BROKERS_DOWN:  # it says less than the one before it
            self.last = error

    def client(self, kind: type[Any], own: Mapping[str, Any], doing: str) -> Any:  # noqa: ANN401 a driver's class
        """Make a client of the cluster, which says here what goes wrong."""
        return made(kind, self._cluster.config({**own, "error_cb": self.note}), doing)

    def explain(self, error: KafkaError, doing: str) -> HeadraceError:
        """Return a failed request's error, with the reason where one is known."""
        if self.refused:
            return mapped(self.refused, doing)
        if error.code() not in _UNREACHABLE:
            return mapped(error, doing)
        reason = (self.last or error).str()
        return UnavailableError(
            f"{doing}: no answer from kafka://{self._cluster.servers} ({reason}): is it running, and reachable?"
        )


class Admin:
    """The cluster's administrator: asks, and waits no longer than about `ANSWER_S`. From any thread.

    The driver's client ends the process if Python's collector of garbage, which may run in the client's own thread,
    is what destroys it: so it must be closed, and no cycle of references may lead to it. So with every client.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._failures = Failures(cluster)
        self._client = self._failures.client(AdminClient, {}, f"kafka://{cluster.servers}")

    def ask(
        self, question: Callable[[Any], Iterable["Future[Any]"]], doing: str, topic: str | None = None
    ) -> list[Any]:
        """Ask, and ask again where a broker is just finding its feet; returns the answers, raises what they mean.

        question: is given the driver's client. topic: whose leaders are looked up anew before asking again.
        """
        deadline = time.monotonic() + ANSWER_S
        while True:
            try:
                return [self._answer(future, deadline) for future in question(self._client)]
            except KafkaException as error:
                self._client.poll(0)
                if error.args[0].code() not in FLEETING or time.monotonic() > deadline:
                    raise self._failures.explain(error.args[0], doing) from error
            time.sleep(0.02)
            if topic:
                with suppress(KafkaException):
                    self._client.list_topics(topic, timeout=ANSWER_S)  # the client would keep what it knew

    def _answer(self, future: "Future[Any]", deadline: float) -> Any:  # noqa: ANN401
        while True:
            try:
                failed = future.exception(timeout=0.1)
            except FutureTimeoutError:
                self._client.poll(0)
                if self._failures.refused or time.monotonic() > deadline + 1:
                    raise KafkaException(self._failures.refused or KafkaError(TIMED_OUT)) from None
            else:
                if isinstance(failed, KafkaException):
                    raise KafkaException(*failed.args)  # the future's own would hold these frames, and they the future
                self._failures.last = None
                return future.result()

    def close(self) -> None:
        """Destroy the client."""
        self._client = None
