"""What ingest makes of transitions: chunks and windows, and the layout that binds a log and an index."""

from typing import Final, Literal

from msgspec import Struct

SCHEMA_VERSION = 1


MAX_TS_MS: Final = 253_402_300_799_999
"""The end of the year 9999."""


class Layout(Struct, frozen=True):
    """What decides an index's bytes, written into it once.

    log: the identity of the `transitions` topic. partitions: how many the topics were made with, 0 where an older
    headrace did not note it. segment: S. sample_every: one in so many decisions is kept to be
    found by similarity, 0 for none. rules_version and codec_version change when the same log would give other rows.
    """

    log: str
    partitions: int = 0
    segment: int = 16_384
    grace_ms: int = 5_000
    max_clock_skew_ms: int = 300_000
    max_message_bytes: int = 1_048_576
    max_message_rows: int = 8_192
    sample_every: int = 1_024
    codec_version: int = 1
    rules_version: int = 2


class AgentStats(Struct, frozen=True, omit_defaults=True):
    """What one agent did in a window, or all of them together (agent_id "").

    reward_terms: sums, in the TaskSpec's order, of the rows that have them. actions: how often each
    discrete action was taken (empty for continuous ones). policy_versions: rows by version. outcomes: sums of the
    rows' values, in the TaskSpec's order; outcome_rows: how many rows each was read from.
    """

    agent_id: str
    rows: int
    reward_sum: float
    reward_min: float
    reward_max: float
    reward_terms: tuple[float, ...]
    actions: tuple[int, ...]
    episode_ends: int
    policy_versions: dict[int, int]
    first_offset: int
    last_offset: int
    outcomes: tuple[float, ...] = ()
    outcome_rows: tuple[int, ...] = ()


class ChunkSummary(Struct, frozen=True):
    """A chunk reference within its window: with the window's key it is a ChunkReference."""

    segment: int
    part: int
    rows: int
    checksum: int


class WindowKey(Struct, frozen=True, order=True):
    """Identity of a window's row; key order is field order."""

    task: str
    group: int
    start_ms: int
    partition: int


class ChunkKey(WindowKey, frozen=True, order=True):
    """Identity of a chunk's part; key order is field order. segment: its first offset."""

    segment: int
    part: int

    @property
    def window(self) -> WindowKey:
        """The window that the chunk belongs to."""
        return WindowKey(self.task, self.group, self.start_ms, self.partition)


class ChunkReference(ChunkKey, frozen=True, order=True, array_like=True):
    """The first `rows` rows of a chunk, which never change; checksum: of those rows' canonical bytes."""

    rows: int
    checksum: int

    @property
    def key(self) -> ChunkKey:
        """The chunk's key."""
        return ChunkKey(self.task, self.group, self.start_ms, self.partition, self.segment, self.part)

    def __str__(self) -> str:
        return (
            f"{self.task}/{self.group}/{self.start_ms}/{self.partition}/{self.segment}/{self.part}"
            f"[:{self.rows}]#{self.checksum:08x}"
        )


class WindowSummary(Struct, frozen=True):
    """What happened in one (task, group, window, partition): the fold of its chunks' stats.

    start_ms, end_ms: event time. rows: transitions, duplicates not counted. duplicates: rows dropped as such.
    agents: by name; empty above 1,000 agents, when only `totals` stands. chunks: in (segment, part) order.
    """

    task: str
    group: int
    partition: int
    start_ms: int
    end_ms: int
    rows: int
    duplicates: int
    totals: AgentStats
    agents: list[AgentStats]
    chunks: list[ChunkSummary]
    schema_version: Literal[1] = 1

    @property
    def key(self) -> WindowKey:
        """The window row's key."""
        return WindowKey(self.task, self.group, self.start_ms, self.partition)

    @property
    def references(self) -> list[ChunkReference]:
        """The chunks whose rows the summary counts, in log order."""
        return [
            ChunkReference(self.task, self.group, self.start_ms, self.partition, c.segment, c.part, c.rows, c.checksum)
            for c in self.chunks
        ]


class WindowRow(Struct, frozen=True):
    """A window summary as the index holds it. write_time: window start in µs + rows received."""

    key: WindowKey
    write_time: int
    summary: bytes
