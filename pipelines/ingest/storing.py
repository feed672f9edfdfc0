"""The last step of `ingest`: folds go to the index, and are committed a little later.

The writes land while the next rows are decoded. The commit is the only recovery point.
"""

import logging
from collections.abc import Callable

from headrace.pipelines.ingest.folding import FOLD_INTERVAL_S, REJECTED_BYTES, held_bytes
from headrace.pipelines.ingest.items import Fold, Folded, Opened, Passed, Tick
from headrace.pipelines.ingest.meters import Counts, IngestMeters
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.topics import WINDOWS
from headrace.schemas.errors import CommitConflictError
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import Commit, Index, Record
from headrace.sinks.chunks import CachedChunks

logger = logging.getLogger(__name__)

COMMIT_INTERVAL_S = 0.2
"""How long folds at segments' ends wait for one commit: a transaction costs as much as decoding 3,000 messages."""
COMMIT_FOLDS = 8
"""So many are committed at once at most."""


class Storing:
    """Writes folds and commits them.

    committed: by assigned partition, the offset that is committed. A refused commit takes all partitions away, until
    they are opened anew. waiting: folds that are written, maybe not yet durable, and not committed.
    """

    def __init__(
        self,
        index: Index,
        chunks: CachedChunks,
        member: Member,
        *,
        counts: Counts,
        meters: IngestMeters,
        timer: Callable[[], float],
    ) -> None:
        self.committed: dict[int, int] = {}
        self.waiting: list[Fold] = []
        self._waiting_since_s = 0.0
        self._index = index
        self._chunks = chunks
        self._member = member
        self._counts = counts
        self._meters = meters
        self._timer = timer
        self._windows_partitions = member.log.topic(WINDOWS).partitions

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
                self._meters.moved(item.partition)
        return []

    def _close(self, partition: int) -> None:
        self.committed.pop(partition, None)
        self.waiting = [fold for fold in self.waiting if fold.partition != partition]
        self._meters.closed(partition)

    def _commit_due(self, item: Fold | Tick) -> bool:
        waited_s = self._timer() - self._waiting_since_s
        if isinstance(item, Tick):
            return item.commit or waited_s >= FOLD_INTERVAL_S
        # The writes of those before it had the time that it took to make it.
        bytes_held = sum(held_bytes(fold.rejected) for fold in self.waiting)
        return waited_s >= COMMIT_INTERVAL_S or len(self.waiting) >= COMMIT_FOLDS or bytes_held >= REJECTED_BYTES

    def _write(self, fold: Fold) -> None:
        """Begin to write chunks, windows and sampled decisions."""
        if not self.waiting:
            self._waiting_since_s = self._timer()
        self._index.put(fold.folded.chunks, fold.folded.windows)
        if fold.folded.decisions:
            self._index.decisions.put(fold.folded.decisions)
        self.waiting.append(fold)

    def _commit(self) -> None:
        """Wait for the index, then send what is told and rejected and move the commits, all or nothing."""
        self._index.flush()
        folds, self.waiting = self.waiting, []
        self._chunks.remember([row for fold in folds for row in fold.folded.chunks])
        outputs = [record for fold in folds for record in (*fold.rejected, *self._told(fold.folded))]
        commits = {fold.partition: fold.folded.commit for fold in folds}
        try:
            self._member.commit(commits, outputs)
        except CommitConflictError:
            self.committed.clear()
            return
        self._note(folds, commits)

    def _note(self, folds: list[Fold], commits: dict[int, Commit]) -> None:
        for fold in folds:
            self._meters.committed(fold.partition, fold.folded.chunks, fold.polled_s, fold.folded_s)
            self._counts.chunks += len(fold.folded.chunks)
            self._counts.windows += len(fold.folded.windows)
        for partition, commit in commits.items():
            if commit.offset != self.committed[partition]:
                self.committed[partition] = commit.offset
                self._meters.moved(partition)
        offsets = self.committed.copy()
        logger.debug("committed %s", offsets, extra={"offsets": offsets})

    def _told(self, folded: Folded) -> list[Record]:
        """Return the windows' records: keyed by the whole window key, on their task's partition."""
        records = []
        for row in folded.windows:
            k = row.key
            key = f"{k.task}/{k.partition}/{k.group}/{k.start_ms}".encode()
            partition = partition_of(k.task.encode(), self._windows_partitions)
            records.append(Record(WINDOWS, key, row.summary, partition=partition))
        return records
