"""The ports: what headrace asks of a log, an index, a cache, a policy store, a narrator and a mailer.

Batches go in and out. Adapters live in `headrace.sinks`; each passes its port's contract suite in
`tests/contract`. Every method may raise `UnavailableError` (retry) or `StorageError` (stop).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from email.message import EmailMessage
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.chunk import ChunkRow
from headrace.schemas.decisions import DecisionBatch, Neighbours
from headrace.schemas.directives import LearningFacts, Proposal
from headrace.schemas.records import ChunkReference, Facts, Layout, Narrative, PolicyVersion, WindowKey, WindowRow
from headrace.schemas.records.mail import Verdict
from headrace.schemas.scenarios import Scenario, Variations
from headrace.schemas.url import Url

Clock = Callable[[], int]
"""Gives the time in milliseconds since 1970, UTC. Injected, so that simulated fleets can run on their own."""

ANY_OPTION: Final = ("*",)
"""Of an adapter whose driver knows its own options."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """How a URL becomes a backend: open(url, clock, create). options: what its query string may hold.

    create: whether a place that is missing is made. local: whether the path is one of this machine. made_by_init:
    whether nothing but `headrace init` makes it. driver: the package that it needs, as pip has it; `open` loads it,
    the adapter's module doesn't, as that may be slow.
    """

    open: Callable[[Url, Clock, bool], Any]
    options: tuple[str, ...] = ()
    local: bool = False
    made_by_init: bool = False
    driver: str = "headrace"


NOTHING: Final = Adapter(lambda *_: None)
"""Where a part is left out."""
Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One message to append. Its partition is its key's murmur2, unless it is given."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MessageBatch:
    """Consecutive messages of one partition, as columns of equal length N, in offset order.

    offsets and append_ts are int64[N]; append_ts is the log's own append time in ms, -1 where a message carries its
    producer's instead.
    """

    topic: str
    partition: int
    offsets: NDArray[np.int64]
    append_ts: NDArray[np.int64]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def next_offset(self) -> int:
        """The offset after the last message; of a batch that holds some."""
        return int(self.offsets[-1]) + 1

    def take(self, rows: Sequence[int]) -> "MessageBatch":
        """Return some of the messages, by their places in the batch."""
        return replace(
            self,
            offsets=self.offsets[rows],
            append_ts=self.append_ts[rows],
            keys=[self.keys[row] for row in rows],
            values=[self.values[row] for row in rows],
            headers=[self.headers[row] for row in rows],
        )


@dataclass(frozen=True, slots=True)
class Commit:
    """A group's place in a partition: everything before `offset` is done; `metadata` is the job's own."""

    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A topic's identity (another id is another log, even under the same name) and its partitions."""

    identity: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a topic's messages are kept, and how many bytes of them; None: for ever, any number.

    step: the topic is cut off at multiples of so many offsets, unless that leaves more than size_bytes. committed:
    whether what a group that reads the topic has not committed is kept all the same, and all of it while there is no
    such group.
    """

    age_ms: int | None = None
    size_bytes: int | None = None
    step: int = 1
    committed: bool = True

    def __str__(self) -> str:
        """Say it in a phrase."""
        age = None if self.age_ms is None else f"{self.age_ms / 3_600_000:g} hours"
        size = None if self.size_bytes is None else f"{self.size_bytes / 1e6:g} MB"
        return " and ".join(filter(None, (age, size))) or "for ever"


@dataclass(frozen=True, slots=True)
class Assigned:
    """A partition is now this member's. Reading starts at `commit.offset` (else `begin`) unless it seeks."""

    partition: int
    commit: Commit | None
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Revoked:
    """A partition is no longer this member's; what it has not committed must be forgotten."""

    partition: int


@dataclass(frozen=True, slots=True)
class EndOfLog:
    """The member has read everything up to `offset`, which was the partition's end just now."""

    partition: int
    offset: int


Event = Assigned | Revoked | MessageBatch | EndOfLog


class Backend(Protocol):
    """What every port has besides its own calls. An adapter that has nothing to say inherits the answers."""

    def about(self) -> str:
        """Ask what runs there, for people; "" where nothing does. Raises UnavailableError, SettingsError."""
        return ""

    def counters(self) -> Mapping[tuple[str, ...], float]:
        """Return what it has counted, as its port names it; {} where it counts nothing. From any thread."""
        return {}

    def close(self) -> None:
        """Release what it holds; a second time does nothing."""
        return


class Subscription(Protocol):
    """A member of a consumer group on one topic. Not shared between threads.

    A commit fences. The log takes it only from the member that has the partitions, also where it moves nothing: a
    member that was overtaken can move no commit and append no output. Its commit raises CommitConflictError. The next
    poll then begins with Revoked for each partition that it had: whatever it has not committed it must forget.
    Assigned follows, in that poll or a later one, once partitions are this member's again; it holds the commit that
    stands by then.
    """

    def poll(self, limit: int, timeout_s: float) -> list[Event]:
        """Return what happened: at most `limit` messages a batch; an empty list when time is up."""

    def seek(self, partition: int, offset: int) -> None:
        """Read the partition from `offset` on; its end is given again when it is reached."""

    def commit(self, commits: Mapping[int, Commit], outputs: Sequence[Record] = ()) -> None:
        """Move the group's commits and append `outputs`, all or nothing.

        Raises CommitConflictError when another member has gone on with one of them meanwhile, and also for a partition
        that is not assigned, which takes nothing away.
        """

    def close(self) -> None:
        """Leave the group."""


class Log(Backend, Protocol):
    """An append-only log of topics and partitions."""

    def create(self, topic: str, partitions: int) -> None:
        """Create the topic; a no-op when it is there.

        Raises SettingsError when it is there with another number of partitions, or settings that break a law.
        """

    def topic(self, topic: str) -> TopicInfo:
        """Return the topic's identity and partitions; raises UnknownTopicError."""

    def faults(self, topics: Sequence[str]) -> dict[str, str]:
        """Say, by topic, what of its settings breaks a law, and the remedy; raises UnknownTopicError."""

    def retain(self, topic: str, retention: Retention) -> None:
        """Say how long the topic's messages are kept from now on; raises SettingsError where that is said elsewhere."""

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return the first offset held and the next one to be written, open transactions included."""

    def send(self, records: Sequence[Record]) -> None:
        """Append the records, in order; they are durable when this returns."""

    def overwrite(self, topic: str, partition: int, records: Mapping[int, Record]) -> str:
        """Put other records in the place of some, by offset; raises SettingsError where a log can't.

        Returns where what was there still lies and until when, "" where it is gone.
        """

    def read(self, topic: str, partition: int, offset: int, limit: int) -> MessageBatch:
        """Return at most `limit` messages from `offset` on, outside any group."""

    def committed(self, group: str, topic: str) -> dict[int, Commit]:
        """Return the group's commits by partition."""

    def groups(self) -> list[str]:
        """Return the groups that the log knows, in order."""

    def drop(self, group: str) -> None:
        """Take a group's commits away, so that nothing waits for it; raises SettingsError where others do that."""

    def subscribe(self, group: str, topic: str) -> Subscription:
        """Join the group."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How much of an index goes, or has gone. left: where it still lies and until when, "" where it is gone."""

    chunks: int
    windows: int
    decisions: int
    left: str = ""


class Decisions(Protocol):
    """Sampled decisions by similarity: when did we last see this, and what happened?"""

    def put(self, batches: Sequence[DecisionBatch]) -> None:
        """Begin to write the decisions; they are durable after the index's `flush`. The same again changes nothing."""

    def repair(self, batches: Sequence[DecisionBatch]) -> int:
        """Write flushed decisions over what the store has in their place; return how many differed.

        Raises HiddenRowsError where the store can't, with what people can do.
        """

    def similar(self, task: str, vector: NDArray[np.float32], limit: int) -> Neighbours | None:
        """Return at most `limit` (1 to 250) of a task's decisions, the nearest to float32[D] first; None without any.

        A store may answer approximately: some of the nearest may be missing, but each distance is exact.
        """


class Index(Backend, Protocol):
    """Chunks and windows by key and by range. The row with the greater write time wins.

    counters: waiting_bytes (put, and not yet acknowledged) and retries (single writes that were sent again).
    """

    @property
    def decisions(self) -> Decisions:
        """The decisions that belong to the index: written through it, found by similarity."""

    def layout(self, wanted: Layout | None = None) -> Layout | None:
        """Store `wanted` if there is no layout yet; return the one that is stored."""

    def put(self, chunks: Sequence[ChunkRow], windows: Sequence[WindowRow]) -> None:
        """Begin to write the rows; they are durable after `flush`."""

    def flush(self) -> None:
        """Wait until everything put is durable; after an error it is kept, and flush may be tried again."""

    def replace(self, chunks: Sequence[ChunkRow], windows: Sequence[WindowRow]) -> None:
        """Write rows, durably, over damaged ones, whatever write time those have.

        Raises HiddenRowsError where the store can't, with what people can do.
        """

    def chunks(self, references: Sequence[ChunkReference]) -> list[ChunkRow | None]:
        """Return the row of each reference's key (it may have grown since), None where there is none."""

    def scan(
        self,
        task: str | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        partition: int | None = None,
        group: int | None = None,
        *,
        payload: bool = True,
    ) -> Iterator[ChunkRow]:
        """Stream rows with start_ms <= window < end_ms, in key order; payload b"" when not asked for."""

    def windows(
        self, task: str | None = None, start_ms: int | None = None, end_ms: int | None = None
    ) -> Iterator[WindowRow]:
        """Stream window rows with start_ms <= window < end_ms, in key order."""

    def window(self, key: WindowKey) -> WindowRow | None:
        """Return one window row."""

    def forget(self, task: str, end_ms: int, *, remove: bool) -> Forgotten:
        """Count a task's chunks and windows that begin before end_ms, and its decisions before it; remove them too."""


class Cache(Backend, Protocol):
    """Immutable entries by chunk reference; never invalidated, may forget anything at any time.

    counters: by level (memory, redis) and by hit, miss or error.
    """

    def get(self, references: Sequence[ChunkReference]) -> list[bytes | None]:
        """Return each reference's payload, None on a miss."""

    def put(self, entries: Sequence[tuple[ChunkReference, bytes]]) -> None:
        """Store payloads."""

    def forget(self, task: str, end_ms: int) -> int:
        """Remove a task's entries whose window begins before end_ms; return how many. Raises UnavailableError."""


class PolicyStore(Backend, Protocol):
    """Weights and manifests by task and version, and each learner's checkpoint."""

    def put(self, version: PolicyVersion, weights: bytes) -> None:
        """Store a version, atomically; the same again is a no-op, other content of it raises StorageError."""

    def weights(self, task: str, version: int) -> bytes:
        """Return a version's weights, checked against its hash; raises UnknownPolicyError, CorruptDataError."""

    def version(self, task: str, version: int) -> PolicyVersion:
        """Return one version's record; raises UnknownPolicyError, CorruptDataError."""

    def versions(self, task: str) -> list[PolicyVersion]:
        """Return the task's versions in order; raises CorruptDataError."""

    def save(self, task: str, checkpoint: bytes, replaces: str | None = None) -> None:
        """Replace the task's learner checkpoint, atomically; storing the same again is a no-op.

        replaces: the SHA-256 in hex of the one that it follows, "" where there is none yet; None: whichever is there.
        Raises CommitConflictError where another one is there by then.
        """

    def load(self, task: str) -> bytes | None:
        """Return the task's learner checkpoint; raises CorruptDataError."""


class Narrator(Backend, Protocol):
    """Turns facts into sentences that refer to them by id; never writes a number itself."""

    def tell(self, facts: Facts) -> Narrative:
        """Return the sentences."""


class Advisor(Backend, Protocol):
    """Reads how learning goes and says what it would change, which is checked. name: what the log calls it."""

    name: str

    def propose(self, facts: LearningFacts) -> Sequence[Proposal]:
        """Return what it would change, the most urgent first; raises UnavailableError, LanguageModelError."""

    def scenarios(self, variations: Variations) -> Sequence[Scenario]:
        """Return on what it would train besides, within the bounds; raises likewise."""


class Mailer(Backend, Protocol):
    """Hands a message to the outside. idempotent: it refuses a second one of a digest_id, the same at each try."""

    idempotent: bool

    def send(self, message: EmailMessage, digest_id: str, recipients: Sequence[str]) -> dict[str, Verdict]:
        """Deliver it to the addresses; return each one's verdict. UnavailableError only where nobody has got it."""
