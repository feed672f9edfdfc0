"""What headrace is measured against on Kafka: `floor` and `bytewax`. python bench_servers_peers.py NAME URL ROWS

floor: a plain consume(), msgspec, and sums by agent and window in a loop: the least that a Python program must do.
bytewax: stock Bytewax, KafkaSource and a callback a transition, windows kept by hand; no commit, no chunks.
Prints a line of JSON: rows, and wall and CPU seconds from the first message on.
"""

import json
import sys
import time
from collections.abc import Iterator

import naive
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from headrace.schemas.url import parse_url
from headrace.sinks.kafka.target import parse_cluster

PARTITIONS = range(4)
APPEND_MS = 4_000_000_000_000


class Clock:
    """Runs from the first message on."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = None

    def start(self) -> None:
        if self.wall_s is None:
            self.wall_s, self.cpu_s = time.perf_counter(), time.process_time()

    def tell(self, name: str, rows: int) -> None:
        wall_s, cpu_s = time.perf_counter() - self.wall_s, time.process_time() - self.cpu_s
        print(json.dumps({"bench": name, "rows": rows, "wall_s": wall_s, "cpu_s": cpu_s}), flush=True)


def consumed(url: str) -> Iterator[list[bytes]]:
    cluster = parse_cluster(parse_url(url))
    settings = {"group.id": "floor", "enable.auto.commit": False, "fetch.queue.backoff.ms": 10}
    consumer = Consumer({"bootstrap.servers": cluster.servers, **settings})
    topic = cluster.name("transitions")
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in PARTITIONS])
    while True:
        yield [m.value() for m in consumer.consume(512, 1.0)]


def floor(url: str, rows: int) -> None:
    clock, done = Clock(), 0
    windows: dict[tuple[str, int], list[float]] = {}
    for values in consumed(url):
        if values:
            clock.start()
        naive.add_up(values, windows)
        done += len(values)
        if done >= rows:
            break
    clock.tell("floor", done)


def bytewax(url: str, rows: int) -> None:
    cluster, clock, parse = parse_cluster(parse_url(url)), Clock(), naive.parser(APPEND_MS)
    done = 0

    def counted(message: KafkaSourceMessage) -> naive.Transition | None:
        nonlocal done
        clock.start()
        done += 1
        return parse(message.value)

    assert naive.run_source(KafkaSource([cluster.servers], [cluster.name("transitions")], tail=False), counted)
    assert done >= rows
    clock.tell("bytewax", done)


if __name__ == "__main__":
    {"floor": floor, "bytewax": bytewax}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
