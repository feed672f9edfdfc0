"""A steady load of transitions, sent as another program would: by plain confluent-kafka, in real time."""

import json
import threading
import time

from confluent_kafka import Producer

from headrace.schemas.records import TaskSpec

TASK = TaskSpec(task="valve", observations=("x0", "x1"), actions=("a", "b"), window_ms=1_000, groups=8)
AGENTS = 32
POISON_EVERY = 97


class Load:
    """Sends `rate` messages a second from a thread, from `with` on until its end; then all of them are on the log."""

    def __init__(self, stack, rate=1_000):
        self._topic = f"{stack.prefix}.transitions"
        self._rate = rate
        self._producer = Producer(
            {
                "bootstrap.servers": stack.broker,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "message.timeout.ms": 120_000,
                "queue.buffering.max.messages": 1_000_000,
                "linger.ms": 5,
                "log_level": 2,
            }
        )
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.sent = 0
        self.failed = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()
        assert self._producer.flush(60) == 0
        assert not self.failed, self.failed[:3]

    def _run(self):
        began_s = time.monotonic()
        while not self._end.wait(0.01):
            while self.sent < (time.monotonic() - began_s) * self._rate:
                self._send(self.sent)
                self.sent += 1
            self._producer.poll(0)

    def _send(self, number):
        agent = f"agent-{number % AGENTS}"
        value = b"{" if number % POISON_EVERY == 0 else json.dumps(_transition(number, agent)).encode()
        self._producer.produce(self._topic, value, agent.encode(), on_delivery=self._note)

    def _note(self, error, _message):
        if error is not None:
            self.failed.append(error)


def _transition(number, agent):
    late_ms = 4_000 if number % 31 == 0 else 0
    return {
        "schema_version": 1,
        "task": TASK.task,
        "agent_id": agent,
        "episode_id": "e0",
        "step": number // AGENTS,
        "ts": time.time_ns() // 1_000_000 - late_ms,
        "obs": [number % 7, 0.5],
        "action": number % 2,
        "reward": 0.25 * (number % 9),
        "next_obs": [number % 5, 0.5],
        "terminated": False,
        "truncated": False,
    }
