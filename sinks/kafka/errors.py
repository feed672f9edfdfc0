"""Errors of librdkafka itself, which no broker has told; the driver names them with an underscore."""

from typing import Final

from confluent_kafka import KafkaError

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
