"""How the log on Kafka is opened. The driver is loaded only then, as that is slow."""

from typing import Any, Final

from headrace.schemas.ports import ANY_OPTION, Adapter
from headrace.schemas.url import Url
from headrace.sinks.kafka.target import parse_cluster


def open_log(url: Url, *_: object) -> Any:
    """Open the log."""
    from headrace.sinks.kafka.log import KafkaLog  # noqa: PLC0415

    return KafkaLog(parse_cluster(url))


ADAPTER: Final = Adapter(open_log, ANY_OPTION, driver="confluent-kafka>=2.16")
