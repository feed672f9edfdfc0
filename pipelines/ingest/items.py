"""What passes from step to step of `ingest`: a partition's, in log order, or the end of a poll."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headrace.schemas.checker import Checked
from headrace.schemas.chunk import ChunkRow
from headrace.schemas.decisions import DecisionBatch
from headrace.schemas.ports import Commit, EndOfLog, MessageBatch, Record, Revoked
from headrace.schemas.records import WindowRow


@dataclass(frozen=True, slots=True)
class Opened:
    """A partition that is assigned, and where it goes on.

    segment: the first offset of the open segment, from which it is read again. stream_ms: the stream time at the
    commit. rejected_to: the messages before it that were rejected are in the quarantine. checked_to: the index may
    hold rows of the segments that begin before it. resumed: whether there is a commit, and with it windows that the
    index holds a part of.
    """

    partition: int
    segment: int
    committed: int
    stream_ms: int = -1
    rejected_to: int = 0
    checked_to: int = 0
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """The end of a poll.

    commit: whether what was folded before it is to be committed now, as at the log's end. last: whether nothing comes
    after it. commits: by partition, the last one that this process has made.
    """

    commit: bool
    last: bool = False
    commits: Mapping[int, Commit] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Piece:
    """Messages of one partition that lie in one segment, and what they hold. polled_s: when they came in."""

    messages: MessageBatch
    checked: Checked
    polled_s: float


@dataclass(frozen=True, slots=True)
class Fold:
    """What a partition's fold wants written (chunks, windows, decisions), emitted (windows), rejected and committed.

    polled_s, folded_s: when its first message came in and when it was made, by time.monotonic. again: whether the
    index may hold rows of its segment already. whole: whether the segment has ended. late: the windows that may have
    been emitted before.
    """

    partition: int
    chunks: list[ChunkRow]
    windows: list[WindowRow]
    decisions: list[DecisionBatch]
    rejected: list[Record]
    commit: Commit
    polled_s: float
    folded_s: float
    again: bool = False
    whole: bool = False
    late: Sequence[WindowRow] = ()


Polled = Opened | Revoked | MessageBatch | EndOfLog | Tick
Passed = Opened | Revoked | Tick
"""What every step takes note of and hands on."""
