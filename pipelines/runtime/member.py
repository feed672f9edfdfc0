"""A job's membership of a consumer group: what is assigned to it, how far it has come, whether it was fenced."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from headrace.schemas.errors import CommitConflictError
from headrace.schemas.ports import Assigned, Commit, EndOfLog, Event, Log, MessageBatch, Record, Revoked

logger = logging.getLogger(__name__)

Item = MessageBatch | EndOfLog


def _anywhere(_event: Assigned) -> None:
    """Read from where the log begins to."""


class Member:
    """A member of a group on one topic.

    on_assign is called for each partition that is assigned; it returns the offset to read from, or None for the
    commit's. on_revoke is called for each that was assigned and is no longer, also before it is assigned anew: what
    the job holds of it and has not committed must be forgotten then.

    offsets: by assigned partition, the next offset to take in. The job moves it by `advance`. generations: by
    partition, how often it was assigned. commits: by assigned partition, the last one that was made here. fenced:
    whether the last commit was refused. The next poll then revokes.
    """

    def __init__(
        self,
        log: Log,
        group: str,
        topic: str,
        *,
        on_assign: Callable[[Assigned], int | None] = _anywhere,
        on_revoke: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.log = log
        self.group = group
        self.topic = topic
        self.subscription = log.subscribe(group, topic)
        self.offsets: dict[int, int] = {}
        self.generations: dict[int, int] = {}
        self.commits: dict[int, Commit] = {}
        self.fenced = False
        self._targets: dict[int, int] = {}
        self._on_assign = on_assign
        self._on_revoke = on_revoke

    def poll(self, limit: int, timeout_s: float) -> list[Item]:
        """Return the next messages and ends of the partitions that are assigned."""
        events = self.subscription.poll(limit, timeout_s)
        fenced, self.fenced = self.fenced, False
        if fenced and not any(isinstance(event, Revoked) for event in events):
            self.rejoin()
            return []
        return self.handle(events)

    def handle(self, events: Iterable[Event]) -> list[Item]:
        """Take note of assignments; return the items whose partition has not left within these events.

        What came before a partition left, or was assigned anew, is read again by whoever has it now.
        """
        items: list[Item] = []
        for event in events:
            if isinstance(event, MessageBatch | EndOfLog):
                items.append(event)
                continue
            items = [item for item in items if item.partition != event.partition]
            self._revoke(event.partition)
            if isinstance(event, Assigned):
                self._assign(event)
        return items

    def _assign(self, event: Assigned) -> None:
        wanted = self._on_assign(event)
        if wanted is not None:
            self.subscription.seek(event.partition, wanted)
        committed = event.commit.offset if event.commit else event.begin
        offset = committed if wanted is None else wanted
        self.generations[event.partition] = self.generations.get(event.partition, 0) + 1
        self.offsets[event.partition], self._targets[event.partition] = offset, event.end
        where = {"topic": self.topic, "partition": event.partition, "offset": offset}
        logger.info("partition %(partition)d of %(topic)s is ours, from %(offset)d on", where, extra=where)

    def _revoke(self, partition: int) -> None:
        if partition not in self.offsets:
            return
        del self.offsets[partition], self._targets[partition]
        self.commits.pop(partition, None)
        self._on_revoke(partition)
        where = {"topic": self.topic, "partition": partition}
        logger.info("partition %(partition)d of %(topic)s was given up", where, extra=where)

    def rejoin(self) -> None:
        """Leave the group, forget all that was assigned, and join again."""
        for partition in [*self.offsets]:
            self._revoke(partition)
        self.subscription.close()
        self.subscription = self.log.subscribe(self.group, self.topic)

    def commit(self, commits: Mapping[int, Commit], outputs: Sequence[Record] = ()) -> None:
        """Move the commits and append the outputs; raises CommitConflictError, and is fenced then."""
        try:
            self.subscription.commit(commits, outputs)
        except CommitConflictError as error:  # whoever has the partitions now does this again
            logger.warning("%s", error)
            self.fenced = True
            raise
        self.commits.update(commits)

    def advance(self, partition: int, offset: int) -> None:
        """Note that everything before the offset is taken in."""
        self.offsets[partition] = max(offset, self.offsets[partition])

    def has(self, partition: int, generation: int) -> bool:
        """Whether the partition is still assigned as it was in that generation."""
        return partition in self.offsets and self.generations[partition] == generation

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """The offsets by topic and partition; from any thread."""
        return {(self.topic, partition): offset for partition, offset in self.offsets.copy().items()}

    def aim(self, ends: Mapping[int, int] | None = None) -> None:
        """Set the targets of what is assigned: the ends, or the log's present ones."""
        for partition in self.offsets:
            self._targets[partition] = self.log.bounds(self.topic, partition)[1] if ends is None else ends[partition]

    @property
    def lag(self) -> int:
        """How many offsets lie before the targets."""
        return sum(max(0, target - self.offsets[partition]) for partition, target in self._targets.items())

    @property
    def caught_up(self) -> bool:
        """Whether something is assigned, and all of it taken in up to the targets."""
        return bool(self._targets) and not self.fenced and not self.lag

    def reached(self, ends: Mapping[int, int]) -> bool:
        """Whether what is assigned was taken in up to the ends."""
        return all(offset >= ends.get(partition, 0) for partition, offset in self.offsets.items())

    def close(self) -> None:
        """Leave the group."""
        self.subscription.close()
