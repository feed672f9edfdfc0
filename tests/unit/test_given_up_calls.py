"""Calls to Kafka's driver that are bounded in time leave nothing to the collector of garbage."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError, KafkaException

from headrace.sinks.kafka import transactions
from headrace.sinks.kafka.client import TIMED_OUT


@pytest.fixture
def _no_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(transactions, "ANSWER_S", 0.1 - 1)
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Client:
    """A driver's client, whose call fails after a while."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s = wait_s

    def send(self) -> None:
        time.sleep(self.wait_s)
        raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))


def code_of(client: Client) -> int:
    try:
        transactions._bounded(lambda: client.send())  # noqa: PLW0108 it holds the client as a transaction's call does
    except KafkaException as error:
        code: int = error.args[0].code()
        return code
    raise AssertionError


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize(("wait_s", "code"), [(0, KafkaError.NOT_COORDINATOR), (0.3, TIMED_OUT)])
def test_no_cycle_holds_the_client_of_a_call_that_failed(wait_s: float, code: int) -> None:
    """Neither where it failed in time, nor where it had been given up by then."""
    client = Client(wait_s)
    left = weakref.ref(client)
    assert code_of(client) == code
    del client
    for thread in threading.enumerate():
        if thread.name == "send offsets":
            thread.join()
    assert left() is None
