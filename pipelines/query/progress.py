"""How the jobs do: how far each group is behind the log, and what each process last said of itself."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from msgspec import Struct

from headrace.pipelines.topics import INGEST, PARTITIONED, POLICIES, REPORTS, TRANSITIONS, WINDOWS
from headrace.schemas.ports import Log
from headrace.schemas.records import Operation

READERS: Final[Mapping[str, Sequence[str]]] = {
    INGEST: (TRANSITIONS,),
    "learn": (WINDOWS,),
    "explain": (WINDOWS, POLICIES),
    "digest": (REPORTS,),
}
"""What the jobs read, each as the group of its name."""
LOST_MS: Final = 660_000
"""A process says every 5 minutes that it runs; one that has said nothing for two of these was killed, or hangs."""

State = Literal["running", "stopped", "failed", "lost"]


class Lag(Struct, frozen=True):
    """How far a group is behind in a partition: messages between its commit and the partition's end.

    begin: the first offset that the log holds. committed: None where the group never committed there.
    """

    group: str
    topic: str
    partition: int
    begin: int
    committed: int | None
    end: int
    behind: int


class JobRun(Struct, frozen=True):
    """A run of a process of a job, by what it last said. lag: messages, as it said them.

    state: lost: it said nothing for long, and no end either. waited_for: what did not answer, up to when it last said
    something at least.
    """

    job: str
    process: str
    state: State
    began_ms: int
    said_ms: int
    lag: int
    waited_for: str | None


def lags(log: Log) -> list[Lag]:
    """Return how far each group is behind, by topic and partition; a job's group that never committed is all behind."""
    found: list[Lag] = []
    for group in dict.fromkeys([*READERS, *log.groups()]):
        for topic in READERS.get(group, PARTITIONED):
            of_topic = lag_of(log, group, topic)
            if group in READERS or any(one.committed is not None for one in of_topic):
                found += of_topic
    return found


def lag_of(log: Log, group: str, topic: str) -> list[Lag]:
    """Return how far a group is behind in each partition of a topic."""
    commits = log.committed(group, topic)
    found = []
    for partition in range(log.topic(topic).partitions):
        begin, end = log.bounds(topic, partition)
        committed = commits[partition].offset if partition in commits else None
        behind = max(0, end - max(begin, committed or 0))
        found.append(Lag(group, topic, partition, begin, committed, end, behind))
    return found


def runs(operations: Iterable[Operation], now_ms: int) -> list[JobRun]:
    """Return the newest run of each process, by job and process."""
    newest: dict[tuple[str, str], Operation] = {}
    for one in operations:
        known = newest.get((one.job, one.process))
        if known is None or (one.began_ms, one.sequence) >= (known.began_ms, known.sequence):
            newest[one.job, one.process] = one
    return [_run(newest[name], now_ms) for name in sorted(newest)]


def _run(last: Operation, now_ms: int) -> JobRun:
    silent: State = "lost" if now_ms - last.ts > LOST_MS else "running"
    state = last.kind if last.kind in {"stopped", "failed"} else silent
    return JobRun(last.job, last.process, state, last.began_ms, last.ts, last.lag, last.dependency)
