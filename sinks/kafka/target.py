"""Where a log on Kafka is, and what a URL says of its clients: `kafka://user:password@host:port,host/prefix?...`."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from headrace.schemas.errors import SettingsError
from headrace.schemas.url import Url

logger = logging.getLogger(__name__)

# The laws rest on these, so a URL can't set them.
_OURS: Final = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "group.protocol",
        "isolation.level",
        "metadata.broker.list",
        "partition.assignment.strategy",
        "partitioner",
        "request.required.acks",
        "transactional.id",
    }
)
_LOGIN: Final = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{0,100}")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the log is. prefix: stands before every topic, group and transactional id. properties: librdkafka's."""

    servers: str
    prefix: str
    properties: Mapping[str, str] = field(repr=False)  # the password is among them

    def name(self, plain: str) -> str:
        """Return a topic's or group's name on the cluster."""
        return self.prefix + plain

    def config(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return a client's properties: the defaults, `own`, then the URL's."""
        return {
            "bootstrap.servers": self.servers,
            "client.id": "headrace",
            "log_level": 2,  # what goes wrong is raised; librdkafka's own lines would say it again and again
            "logger": logger,
            "reconnect.backoff.max.ms": 2_000,
            "topic.metadata.refresh.interval.ms": 30_000,  # a partition added later is found within that
            **own,
            **self.properties,
        }


def parse_cluster(url: Url) -> Cluster:
    """Read kafka://[user:password@]host:port[,host:port][/prefix][?librdkafka.property=value]; raises SettingsError.

    A dot follows the prefix where it does not end in one of . _ -
    """
    if not url.host:
        raise SettingsError("kafka: no host; write kafka://host:9092, or kafka://host-1:9092,host-2:9092/prefix")
    servers = ",".join(host if re.search(r":\d+$", host) else f"{host}:9092" for host in url.host.split(","))
    login = {} if url.user is None else _LOGIN | {"sasl.username": url.user, "sasl.password": url.password}
    properties = {**login, **url.options}
    for name in properties:
        if name in _OURS:
            raise SettingsError(f"kafka://{servers}: {name} can't be set, as headrace's guarantees rest on it")
    return Cluster(servers, _prefix(url.path.strip("/")), properties)


def _prefix(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise SettingsError(f"kafka: prefix {text!r}; at most 100 of A-Z a-z 0-9 . _ - are allowed")
    return text + "." if text and text[-1] not in "._-" else text
