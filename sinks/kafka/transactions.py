"""Commits on Kafka: outputs, offsets and their metadata in one transaction, or nothing at all."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from headrace.schemas.errors import CommitConflictError, HeadraceError
from headrace.schemas.ports import Commit, Record
from headrace.sinks.kafka.client import ANSWER_S, TIMED_OUT, Failures
from headrace.sinks.kafka.groups import marked
from headrace.sinks.kafka.producer import CONFIG, produce
from headrace.sinks.kafka.target import Cluster

if TYPE_CHECKING:
    from headrace.sinks.kafka.subscription import KafkaSubscription

TRANSACTION_MS: Final = 10_000
"""After it the broker aborts what a dead process left open."""
_TRIES: Final = 20
_PAUSE_S: Final = 0.1
# A rebalance came between: the generation has another number now, which the member learns of in the background.
_MOVING: Final = {KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS}
_EXPELLED: Final = {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_INSTANCE_ID, KafkaError.STALE_MEMBER_EPOCH}

Wanted = tuple[dict[int, Commit], tuple[Record, ...]]


class Transactions:
    """One member's commits, one after another, under a transactional id of its own.

    A commit whose outcome is unknown (the broker went away while it was asked for) is settled before another one
    begins: so a caller that tries the same commit again never has its outputs twice. Each try has a mark of its own in
    the metadata: whether it stands shows what became of it, also where no offset moved, and where another member has
    committed the same since. (Outputs that go out without any commit have nothing to show it by: tried again, they
    may come twice.)

    topic: the cluster's name of it. name: what the transactional id begins with. doing: for messages.
    """

    def __init__(self, cluster: Cluster, topic: str, name: str, doing: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._own = uuid.uuid4().hex
        self._id = f"{name}.{self._own}"
        self._tries = 0
        self._doing = doing
        self._failures = Failures(cluster)
        self._failed: list[KafkaError] = []
        self._producer: Any = None
        self._asked: Wanted | None = None

    def commit(self, member: "KafkaSubscription", commits: Mapping[int, Commit], outputs: Sequence[Record]) -> None:
        """Move the commits and append the outputs, all or nothing.

        Raises CommitConflictError when the group gave a partition away, UnavailableError when it may be tried again.
        """
        wanted = (dict(commits), tuple(outputs))
        asked = self._asked
        if asked is not None and self._settle(member, asked) and asked == wanted:
            return
        for _ in range(_TRIES):
            if self._attempt(member, wanted):
                self._end(wanted)
                return
            time.sleep(_PAUSE_S)
        raise CommitConflictError(f"{self._doing}: the group has gone on without this member, which must join again")

    def _attempt(self, member: "KafkaSubscription", wanted: Wanted) -> bool:
        """Put everything into a transaction; False if the group was just moving on."""
        commits, outputs = wanted
        producer = self._ready()
        self._failed = []
        self._tries += 1
        offsets = [TopicPartition(self._topic, p, c.offset, metadata=c.metadata) for p, c in self._written(commits)]
        try:
            producer.begin_transaction()
            produce(producer, self._cluster, outputs, self._failed)
            if offsets:
                metadata = member.metadata()
                _bounded(lambda: producer.send_offsets_to_transaction(offsets, metadata, ANSWER_S))
        except KafkaException as error:
            self._abort(error.args[0])
            return self._moving(error.args[0])
        return True

    def _written(self, commits: Mapping[int, Commit]) -> list[tuple[int, Commit]]:
        return [(partition, marked(commit, f"{self._own}.{self._tries}")) for partition, commit in commits.items()]

    def _moving(self, error: KafkaError) -> bool:
        """Return False where the same may be tried at once; raises what anything else means."""
        if error.code() in _MOVING:
            return False
        if error.code() in _EXPELLED:
            raise CommitConflictError(
                f"{self._doing}: the group gave the partitions to another member ({error.str()}), which goes on with "
                "them; this one must join again"
            )
        raise self._explained(error)

    def _end(self, wanted: Wanted) -> None:
        self._asked = wanted
        try:
            self._producer.commit_transaction(ANSWER_S)
        except KafkaException as error:
            if error.args[0].txn_requires_abort():  # it was never asked for: a message could not be delivered
                self._asked = None
                self._abort(error.args[0])
            elif not error.args[0].retriable():
                self._producer = None
            raise self._explained(self._failed[0] if self._failed else error.args[0]) from error
        self._asked = None

    def _settle(self, member: "KafkaSubscription", asked: Wanted) -> bool:
        """Tell whether the commit that was asked for has come about; raises UnavailableError while it is unknown."""
        if self._producer is not None:
            try:
                self._producer.commit_transaction(ANSWER_S)
            except KafkaException as error:
                if error.args[0].retriable():
                    raise self._explained(error.args[0]) from error
                self._producer = None
            else:
                self._asked = None
                return True
        self._ready()  # whatever was open under this id is over after it
        now = member.standing()
        self._asked = None
        return bool(asked[0]) and all(now.get(partition) == commit for partition, commit in self._written(asked[0]))

    def _ready(self) -> Any:  # noqa: ANN401 a driver's class
        if self._producer is None:
            own = {
                **CONFIG,
                "transactional.id": self._id,
                "transaction.timeout.ms": TRANSACTION_MS,
                "retry.backoff.ms": 5,  # the markers of the transaction before take a moment
                "metadata.recovery.strategy": "none",  # the other one brings on what `_bounded` bounds
            }
            producer = self._failures.client(Producer, own, self._doing)
            try:
                producer.init_transactions(ANSWER_S)
            except KafkaException as error:
                raise self._explained(error.args[0]) from error
            self._producer = producer
        return self._producer

    def _abort(self, error: KafkaError) -> None:
        """Abort the transaction, or leave that to the next producer under the same id.

        Only what the broker refused leaves a producer sound: after a time-out the driver (librdkafka 2.16) may wait
        for ever when it is asked again.
        """
        producer, self._producer = self._producer, None
        if error.txn_requires_abort():
            with suppress(KafkaException):
                producer.abort_transaction(ANSWER_S)
                self._producer = producer

    def _explained(self, error: KafkaError) -> HeadraceError:
        return self._failures.explain(error, self._doing)

    def close(self) -> None:
        """Forget the producer; a transaction whose outcome is unknown is left to the broker."""
        self._producer = None


def _bounded(call: Callable[[], object]) -> None:
    """Call, and wait no longer than a little over `ANSWER_S`; raises KafkaException.

    The driver (librdkafka 2.16, its issue 5511) waits for ever for a group's coordinator that has left the cluster's
    metadata, whatever time-out it is given. The thread and its producer are then given up; the next one fences it.
    """
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 it is raised again by the caller's thread
            # Its frames hold this list and the clients, and would be held by it: a cycle. The collector of garbage
            # takes apart what a client needs before it destroys it, which ends the process.
            failed.append(error.with_traceback(None))

    thread = threading.Thread(target=run, name="send offsets", daemon=True)
    thread.start()
    thread.join(ANSWER_S + 1)
    if thread.is_alive():
        raise KafkaException(KafkaError(TIMED_OUT))
    if failed:
        raise failed.pop()
