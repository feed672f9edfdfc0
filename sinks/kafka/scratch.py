"""Remove what a bench has made on Kafka."""

from collections.abc import Sequence
from typing import Any

from headrace.schemas.url import Url
from headrace.sinks.kafka.client import ANSWER_S, Admin
from headrace.sinks.kafka.target import parse_cluster


def drop(url: Url, topics: Sequence[str], groups: Sequence[str]) -> None:
    """Delete the topics and consumer groups under a URL's prefix; those that were never made are passed over."""
    cluster = parse_cluster(url)
    admin = Admin(cluster)
    try:
        (listed,) = admin.ask(lambda client: [client.list_consumer_groups(request_timeout=ANSWER_S)], "list groups")
        found = {group.group_id for group in listed.valid} & {cluster.name(group) for group in groups}
        if found:
            admin.ask(lambda client: _groups(client, [*found]), "delete groups")
        admin.ask(lambda client: _topics(client, {cluster.name(topic) for topic in topics}), "delete topics")
    finally:
        admin.close()


def _groups(client: Any, names: list[str]) -> Any:  # noqa: ANN401 the driver's
    return client.delete_consumer_groups(names, request_timeout=ANSWER_S).values()


def _topics(client: Any, names: set[str]) -> Any:  # noqa: ANN401 the driver's
    found = sorted(names & set(client.list_topics(timeout=ANSWER_S).topics))
    return client.delete_topics(found, request_timeout=ANSWER_S).values() if found else ()
