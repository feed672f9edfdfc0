"""What must go: a task's rows before a time, taken out of the index, the cache and the log."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from headrace.pipelines.query.quarantine import RejectedMessage, origin, rejected_message
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import REJECTED, TRANSITIONS, WINDOWS, header, partition_messages
from headrace.schemas.codec import check, heartbeat
from headrace.schemas.errors import SettingsError, UnavailableError
from headrace.schemas.ports import Cache, Forgotten, Index, Log, MessageBatch, Record
from headrace.schemas.records import Layout, TaskSpec

NOBODY: Final = "forgotten"
"""The agent of the heartbeat that stands for a message: stream time stays as it was."""
KEPT: Final = (
    "policies, checkpoints and reports stay, with what was learned from these rows; a version whose lineage names what "
    "is gone can't be retrained. Processes that run keep what they have in memory"
)
_TS: Final = re.compile(rb'"ts"\s*:\s*([0-9]{1,15})')


@dataclass(slots=True)
class Gone:
    """How much goes, or has gone, and what could not.

    messages: of the log, by topic. straddling: messages that hold rows of both sides of the time, and stay. entries:
    of the cache.
    """

    index: Forgotten = field(default_factory=lambda: Forgotten(0, 0, 0))
    messages: dict[str, int] = field(default_factory=lambda: dict.fromkeys((TRANSITIONS, WINDOWS, REJECTED), 0))
    straddling: int = 0
    entries: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Forgetting:
    """A task's rows in windows that begin before end_ms are counted, and removed where `remove` says so."""

    log: Log
    spec: TaskSpec
    layout: Layout
    end_ms: int
    remove: bool
    gone: Gone = field(default_factory=Gone)
    unchangeable: bool = False  # whether the log has said that its messages stay

    def run(self, index: Index, cache: Cache) -> Gone:
        """Do it. What can't be removed is said in `faults`, and all else goes; done again, it does what is left."""
        tasks = TaskTable(self.log, self.layout)
        tasks.refresh()
        for topic in self.gone.messages:
            for partition in range(self.log.topic(topic).partitions):
                for batch in partition_messages(self.log, topic, partition):
                    found = {
                        TRANSITIONS: lambda batch: self._transitions(batch, tasks),
                        WINDOWS: self._windows,
                        REJECTED: self._rejected,
                    }[topic](batch)
                    self.gone.messages[topic] += len(found)
                    self._overwrite(topic, partition, found)
        if self.remove:
            try:
                self.gone.entries = cache.forget(self.spec.task, self.end_ms)
            except UnavailableError as error:
                self._tell(str(error))
        self.gone.index = index.forget(self.spec.task, self.end_ms, remove=self.remove)
        self._tell(self.gone.index.left)
        return self.gone

    def _tell(self, fault: str) -> None:
        if fault and fault not in self.gone.faults:
            self.gone.faults.append(fault)

    def _overwrite(self, topic: str, partition: int, records: Mapping[int, Record]) -> None:
        if not self.remove or not records or self.unchangeable:
            return
        try:
            self._tell(self.log.overwrite(topic, partition, records))
        except SettingsError as error:
            self.unchangeable = True
            self._tell(str(error))

    def _transitions(self, batch: MessageBatch, tasks: TaskTable) -> dict[int, Record]:
        """Return a heartbeat for each message whose rows all go, an empty message for one that is refused and goes.

        The latter are looked for here, as the quarantine's copy may be gone before them.
        """
        first_ms: dict[int, int] = {}
        last_ms: dict[int, int] = {}
        checked = check(batch, tasks, self.layout)
        for rows in checked.batches:
            if rows.task == self.spec.task:
                for offset, ts in zip(rows.offset.tolist(), rows.ts.tolist(), strict=True):
                    first_ms[offset] = min(ts, first_ms.get(offset, ts))
                    last_ms[offset] = max(ts, last_ms.get(offset, ts))
        refused = [place for place in (one.position for one in checked.rejected) if batch.values[place]]
        old = [int(batch.offsets[place]) for place in refused if self._goes(_as_rejected(batch, place))]
        self.gone.straddling += sum(first_ms[offset] < self.end_ms <= ts for offset, ts in last_ms.items())
        beats = {
            offset: Record(TRANSITIONS, None, heartbeat(self.spec.task, NOBODY, ts))
            for offset, ts in last_ms.items()
            if ts < self.end_ms
        }
        return beats | {offset: Record(TRANSITIONS, None, None) for offset in old}

    def _windows(self, batch: MessageBatch) -> dict[int, Record]:
        """Return a tombstone for each summary that goes."""
        found = {}
        for offset, key, value in zip(batch.offsets.tolist(), batch.keys, batch.values, strict=True):
            task, _, _, start_ms = ((key or b"").decode("utf-8", "replace").split("/") + [""] * 4)[:4]
            if value and task == self.spec.task and start_ms.isdecimal() and int(start_ms) < self.end_ms:
                found[offset] = Record(WINDOWS, key, None)
        return found

    def _rejected(self, batch: MessageBatch) -> dict[int, Record]:
        """Return an empty message for each copy that goes of one that was rejected."""
        found: dict[int, Record] = {}
        for place, offset in enumerate(batch.offsets.tolist()):
            message = rejected_message(batch, place)
            if message.kept and self._goes(message):
                headers = tuple(
                    (name, b"forgotten" if name == "reason" else value) for name, value in batch.headers[place]
                )
                found[offset] = Record(REJECTED, None, None, headers)
        return found

    def _goes(self, message: RejectedMessage) -> bool:
        """Whether it is the task's and all its times lie before; where it says none, whether it came before."""
        times = [int(found) for found in _TS.findall(message.kept or b"")] or [message.ts]
        return origin(message)[0] == self.spec.task and max(times) < self.end_ms


def _as_rejected(batch: MessageBatch, place: int) -> RejectedMessage:
    """Return a message of `transitions` as the quarantine would have it."""
    return RejectedMessage(
        topic=TRANSITIONS,
        partition=batch.partition,
        offset=int(batch.offsets[place]),
        key=batch.keys[place],
        rule="",
        reason="",
        kept=batch.values[place],
        content_type=header(batch.headers[place], "content-type"),
        replayed=None,
        ts=int(batch.append_ts[place]),
    )
