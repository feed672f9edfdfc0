"""What a bench has made on Kafka is removed again, and nothing else."""

import time
from contextlib import closing

import pytest
from contract_servers import Kafka

from headrace.pipelines.bench import scratch
from headrace.schemas.errors import UnknownTopicError
from headrace.schemas.url import parse_url
from headrace.sinks.kafka.log import KafkaLog
from headrace.sinks.kafka.target import parse_cluster


def test_the_topics_under_the_prefix_are_removed(kafka: Kafka, caplog: pytest.LogCaptureFixture) -> None:
    mine, other = (parse_url(f"{kafka.url}/scratch-{name}") for name in ("mine", "other"))
    with closing(KafkaLog(parse_cluster(mine))) as log, closing(KafkaLog(parse_cluster(other))) as kept:
        for each in (log, kept):
            each.create("windows", 1)
        scratch._remove(mine)
        assert kept.topic("windows").partitions == 1
        with pytest.raises(UnknownTopicError):
            _until_gone(log)
        scratch._remove(mine)
    assert "left behind" not in caplog.text


def _until_gone(log: KafkaLog) -> None:
    """Describe the topic until the brokers know of it no more, a moment after it was deleted."""
    for _ in range(100):
        log.topic("windows")
        time.sleep(0.05)
