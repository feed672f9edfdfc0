"""Writes into Cassandra, many under way at a time: bounded, kept until they are acknowledged, tried again."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cassandra.query import BatchStatement, BatchType

from headrace.schemas.errors import HeadraceError, UnavailableError
from headrace.sinks.cassandra.keyspace import DRIVER_ERRORS, FIRST_WAIT_S, REQUEST_TIMEOUT_S, RETRY_S, Keyspace

SLOTS: Final = 64
"""How many writes may be under way; one of more than 64 KiB counts as several, so that 4 MiB are."""
BUFFER_BYTES: Final = 64 << 20
"""What may be kept without a flush."""
LOST_S: Final = 4 * REQUEST_TIMEOUT_S
"""After so long without an answer, not even a time-out, one is no more expected."""

_SLOT_BYTES: Final = 1 << 16
_BATCH_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """A bound statement or batch, and its bytes. alone: whether no other such write may be under way."""

    statement: Any
    size: int
    alone: bool = False

    @property
    def slots(self) -> int:
        """How many of the slots it takes."""
        return SLOTS if self.alone else 1 + self.size // _SLOT_BYTES


def batches(writes: Sequence[Write], consistency: int, *, alone: bool = False) -> Iterator[Write]:
    """Bundle the writes of one partition: four times cheaper than one by one, here and in Cassandra."""
    some: list[Write] = []
    size = 0
    for write in writes:
        if some and size + write.size > _BATCH_BYTES:
            yield _batch(some, size, consistency, alone=alone)
            some, size = [], 0
        some.append(write)
        size += write.size
    if some:
        yield _batch(some, size, consistency, alone=alone)


def _batch(writes: Sequence[Write], size: int, consistency: int, *, alone: bool) -> Write:
    if len(writes) == 1:
        return Write(writes[0].statement, size, alone)
    batch = BatchStatement(BatchType.UNLOGGED, consistency_level=consistency)
    batch.is_idempotent = True
    for write in writes:
        batch.add(write.statement)
    return Write(batch, size, alone)


class Writes:
    """Statements on their way. Only the thread that calls sends; the driver's thread counts what comes back.

    kept_bytes: of what is not acknowledged. retries: how many writes were sent again since the start.
    """

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._changed = threading.Condition()
        self._waiting: deque[Write] = deque()
        self._failed: deque[Write] = deque()
        self._error: BaseException | None = None
        self._under_way: dict[int, Write] = {}
        self._sent = 0
        self._slots = 0
        self.kept_bytes = 0
        self.retries = 0

    def put(self, writes: Sequence[Write]) -> None:
        """Take writes and send what may be sent now. Where too much is kept it flushes first, or takes nothing."""
        if self.kept_bytes >= BUFFER_BYTES:
            self.flush()
        self._waiting.extend(writes)
        with self._changed:
            self.kept_bytes += sum(write.size for write in writes)
        self._send()

    def flush(self) -> None:
        """Wait until everything is acknowledged.

        Raises UnavailableError, or what else was wrong; nothing is lost by it, and flush may be called again.
        """
        failing_s, wait_s = 0.0, FIRST_WAIT_S
        while True:
            began_s = time.monotonic()
            self._drain()
            if not self._failed:
                return
            failure = self._failure()
            self._again()
            failing_s += time.monotonic() - began_s + wait_s
            if not isinstance(failure, UnavailableError) or failing_s > RETRY_S:
                raise failure from self._error
            time.sleep(wait_s)
            wait_s *= 2

    def _failure(self) -> HeadraceError:
        assert self._error is not None
        if not isinstance(self._error, DRIVER_ERRORS):
            raise self._error
        return self._keyspace.failure(self._error, f"write of {len(self._failed)} statements")

    def _again(self) -> None:
        """Put what failed back at the head of the queue."""
        self.retries += len(self._failed)
        self._waiting.extendleft(reversed(self._failed))
        self._failed.clear()

    def _drain(self) -> None:
        """Send until nothing is left, or something has failed; return when nothing is under way."""
        while True:
            self._send()
            with self._changed:
                answered = self._changed.wait_for(self._worth_waking, LOST_S)
            if not answered:
                self._give_up()
            with self._changed:
                if not self._slots and (self._failed or not self._waiting):
                    return

    def _give_up(self) -> None:
        """Count what is under way as failed: the driver has lost it."""
        for number in list(self._under_way):
            self._on_failure(TimeoutError(f"no answer within {LOST_S:.0f} s"), number)

    def _worth_waking(self) -> bool:
        """Whether the sender has something to do: it is woken for many acknowledgements at once."""
        if self._waiting and not self._failed:
            return self._slots <= SLOTS // 2
        return not self._slots

    def _send(self) -> None:
        while (number := self._next()) is not None:
            try:
                future = self._keyspace.session.execute_async(self._under_way[number].statement)
            except DRIVER_ERRORS as error:
                self._on_failure(error, number)
            else:
                arguments = (number,)
                future.add_callbacks(
                    self._on_success, self._on_failure, callback_args=arguments, errback_args=arguments
                )

    def _next(self) -> int | None:
        """Take the next write that may be sent now; return the number under which it is under way."""
        with self._changed:
            if not self._waiting or self._failed or self._slots >= SLOTS:
                return None
            write = self._waiting.popleft()
            self._slots += write.slots
            self._sent += 1
            self._under_way[self._sent] = write
            return self._sent

    def _on_success(self, _: object, number: int) -> None:
        with self._changed:
            write = self._returned(number)
            if write:
                self.kept_bytes -= write.size
                self._wake()

    def _on_failure(self, error: BaseException, number: int) -> None:
        with self._changed:
            write = self._returned(number)
            if write:
                self._failed.append(write)
                self._error = error
                self._wake()

    def _returned(self, number: int) -> Write | None:
        """Note that a write has come back; None where it had before: the driver may call back twice."""
        write = self._under_way.pop(number, None)
        if write:
            self._slots -= write.slots
        return write

    def _wake(self) -> None:
        if self._worth_waking():
            self._changed.notify()
