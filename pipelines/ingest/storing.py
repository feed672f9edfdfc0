"""The last step of `ingest`: folds go to the index, and are committed a little later.

The writes land while the next rows are decoded. The commit is the only recovery point.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.pipelines.ingest.folding import FOLD_INTERVAL_S, REJECTED_BYTES, held_bytes
from headrace.pipelines.ingest.items import Fold, Opened, Passed, Tick
from headrace.pipelines.ingest.meters import IngestMeters
from headrace.pipelines.ingest.repair import repair
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.topics import WINDOWS
from headrace.schemas.errors import CommitConflictError, HiddenRowsError
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import Commit, Index, Record
from headrace.sinks.chunks import CachedChunks

logger = logging.getLogger(__name__)

COMMIT_INTERVAL_S = 0.2
"""How long folds at segments' ends wait for one commit: a transaction costs as much as decoding 3,000 messages."""
COMMIT_FOLDS = 8
"""So many are committed at once at most."""


@dataclass(slots=True)
class Storing:
    """Writes folds and commits them.

    committed: by assigned partition, the offset that is committed. A refused commit takes all partitions away, until
    they are opened anew. waiting: folds that are written, maybe not yet durable, and not committed. hidden: why some
    rows that were written again are not there.
    """

    index: Index
    chunks: CachedChunks
    member: Member
    windows_partitions: int
    meters: IngestMeters
    timer: Callable[[], float]
    committed: dict[int, int] = field(default_factory=dict)
    waiting: list[Fold] = field(default_factory=list)
    hidden: HiddenRowsError | None = None
    _waiting_since_s: float = 0.0

    def store(self, items: list[Fold | Passed]) -> list[None]:
        """Write folds, and commit those before them where that is due."""
        for item in items:
            if isinstance(item, Fold | Tick):
                if self.waiting and self._commit_due(item):
                    self._commit()
                if isinstance(item, Fold) and item.partition in self.committed:
                    self._write(item)
                continue
            self._close(item.partition)
            if isinstance(item, Opened):
                self.committed[item.partition] = item.committed
                self.meters.moved(item.partition)
        return []

    def _close(self, partition: int) -> None:
        self.committed.pop(partition, None)
        self.waiting = [fold for fold in self.waiting if fold.partition != partition]
        self.meters.closed(partition)

    def _commit_due(self, item: Fold | Tick) -> bool:
        waited_s = self.timer() - self._waiting_since_s
        if isinstance(item, Tick):
            return item.commit or waited_s >= FOLD_INTERVAL_S
        # The writes of those before it had the time that it took to make it.
        bytes_held = sum(held_bytes(fold.rejected) for fold in self.waiting)
        return waited_s >= COMMIT_INTERVAL_S or len(self.waiting) >= COMMIT_FOLDS or bytes_held >= REJECTED_BYTES

    def _write(self, fold: Fold) -> None:
        """Begin to write chunks, windows and sampled decisions."""
        if not self.waiting:
            self._waiting_since_s = self.timer()
        self.index.put(fold.chunks, fold.windows)
        if fold.decisions:
            self.index.decisions.put(fold.decisions)
        self.waiting.append(fold)

    def _commit(self) -> None:
        """Wait for the index, then send what is emitted and rejected and move the commits, all or nothing."""
        self.index.flush()
        folds, self.waiting = self.waiting, []
        for fold in folds:
            self._repair(fold)
        self.chunks.remember([row for fold in folds for row in fold.chunks])
        outputs = [record for fold in folds for record in (*fold.rejected, *self._emitted(fold))]
        commits = {fold.partition: fold.commit for fold in folds}
        try:
            self.member.commit(commits, outputs)
        except CommitConflictError:
            self.committed.clear()
            return
        self._note(folds, commits)

    def _repair(self, fold: Fold) -> None:
        """Write over what the index holds otherwise than it was written; what can't be is told, and told at the end."""
        try:
            repaired = repair(self.index, fold)
        except HiddenRowsError as error:
            self.hidden = self.hidden or error
            logger.error("%s", error)  # noqa: TRY400 it is no fault of ours
        else:
            self.meters.counts.repaired += repaired

    def _note(self, folds: list[Fold], commits: dict[int, Commit]) -> None:
        for fold in folds:
            self.meters.committed(fold.partition, fold.chunks, fold.polled_s, fold.folded_s)
            self.meters.counts.chunks += len(fold.chunks)
            self.meters.counts.windows += len(fold.windows)
        for partition, commit in commits.items():
            if commit.offset != self.committed[partition]:
                self.committed[partition] = commit.offset
                self.meters.moved(partition)
        offsets = self.committed.copy()
        logger.debug("committed %s", offsets, extra={"offsets": offsets})

    def _emitted(self, fold: Fold) -> list[Record]:
        """Return the windows' records: keyed by the whole window key, on their task's partition."""
        records = []
        for row in fold.windows:
            k = row.key
            key = f"{k.task}/{k.partition}/{k.group}/{k.start_ms}".encode()
            partition = partition_of(k.task.encode(), self.windows_partitions)
            records.append(Record(WINDOWS, key, row.summary, partition=partition))
        return records
