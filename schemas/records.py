"""The records that flow on the logs, but for transitions themselves: msgspec structs, written as JSON.

docs/topics.md shows each with an example; contracts/*.schema.json are generated from them.
"""

import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from headrace.schemas.canary import Canary
from headrace.schemas.errors import InvalidTaskError
from headrace.schemas.formats import BYTE_ORDER_MARK, no_json
from headrace.schemas.judged import DataEvidence
from headrace.schemas.judgement import Judgement
from headrace.schemas.names import name_checks

ID_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
Id = Annotated[str, Meta(pattern=ID_PATTERN)]
SCHEMA_VERSION = 1
MAX_TS_MS: Final = 253_402_300_799_999
"""The end of the year 9999."""


class Bounds(Struct, frozen=True, forbid_unknown_fields=True):
    """Lowest and highest value allowed, one of each per dimension."""

    low: tuple[float, ...]
    high: tuple[float, ...]


class TaskSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a task's transitions look like. It never changes: another version is another task.

    actions: names of the discrete actions, or the bounds of continuous ones. window_ms: length of the
    tumbling event-time windows. groups: into how many rows the agents of a window are bundled.
    environment: the Gymnasium environment that simulates the task, if there is one; environment_kwargs: of its making.
    learner: settings of its learner that are not to be as `headrace run learn` has them, by name (`headrace learner
    show` lists them). oldest_ms: the earliest event time; what lies before March 1973 is taken for seconds, unless a
    task says that it is meant.
    """

    task: Id
    observations: tuple[str, ...]
    actions: tuple[str, ...] | Bounds
    window_ms: int
    groups: int = 64
    reward_terms: tuple[str, ...] = ()
    bounds: Bounds | None = None
    environment: str | None = None
    environment_kwargs: dict[str, Any] = {}
    learner: dict[str, str | bool | int | float | tuple[int, ...]] = {}
    oldest_ms: int = 100_000_000_000
    schema_version: Literal[1] = 1

    @property
    def width(self) -> int:
        """The number of observation features, D."""
        return len(self.observations)

    @property
    def environment_id(self) -> str | None:
        """What headrace calls the environment: its id, and what it is made with as JSON behind it, if anything."""
        kwargs = msgspec.json.encode(self.environment_kwargs, order="sorted").decode()
        return self.environment and self.environment + (kwargs if self.environment_kwargs else "")

    @property
    def discrete(self) -> bool:
        """Whether actions are named, rather than vectors."""
        return not isinstance(self.actions, Bounds)

    @property
    def action_count(self) -> int:
        """The number of discrete actions, or of action dimensions."""
        return len(self.actions.low) if isinstance(self.actions, Bounds) else len(self.actions)


def decode_task(data: bytes) -> TaskSpec:
    """Read a task file; raises InvalidTaskError, which names the field."""
    try:
        spec = msgspec.json.decode(data.removeprefix(BYTE_ORDER_MARK), type=TaskSpec)
    except (msgspec.MsgspecError, UnicodeError) as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(TaskSpec))
        reason = no_json(data, error)
        raise InvalidTaskError(f"task file: {reason}. A task file has the fields: {known}.") from error
    problem = task_problem(spec)
    if problem:
        raise InvalidTaskError(f"task {spec.task}: {problem}")
    return spec


def task_problem(spec: TaskSpec) -> str | None:
    """Say what is wrong with a well-typed task, None if nothing is."""
    checks = (
        (re.fullmatch(ID_PATTERN[1:-1], spec.task) and spec.task.strip("."), f"its name must match {ID_PATTERN}"),
        (0 < spec.width <= 4096, f"observations has {spec.width} names; 1 to 4096 are allowed"),
        (0 < spec.action_count <= 4096, f"actions has {spec.action_count} entries; 1 to 4096 are allowed"),
        (0 < spec.window_ms <= 86_400_000 * 31, f"window_ms is {spec.window_ms}; 1 to 31 days are allowed"),
        (0 <= spec.oldest_ms <= MAX_TS_MS, f"oldest_ms is {spec.oldest_ms}; 0 to {MAX_TS_MS} are allowed"),
        (0 < spec.groups <= 65_536, f"groups is {spec.groups}; 1 to 65,536 are allowed"),
        (len(spec.reward_terms) <= 64, f"reward_terms has {len(spec.reward_terms)} names; 64 are allowed"),
        *name_checks("observations", spec.observations),
        *name_checks("reward_terms", spec.reward_terms),
        *name_checks("actions", () if isinstance(spec.actions, Bounds) else spec.actions),
        (_bounds_ok(spec.bounds, spec.width), "bounds: low and high need one value per observation, low <= high"),
        (_bounds_ok(spec.actions, spec.action_count), "actions: low and high need the same length, low <= high"),
        (spec.environment or not spec.environment_kwargs, "environment_kwargs: there is no environment to make"),
    )
    return next((message for ok, message in checks if not ok), None)


def _bounds_ok(bounds: object, width: int) -> bool:
    if not isinstance(bounds, Bounds):
        return True
    return len(bounds.low) == len(bounds.high) == width and all(
        low <= high for low, high in zip(bounds.low, bounds.high, strict=True)
    )


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
    discrete action was taken (empty for continuous ones). policy_versions: rows by version.
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


class Interval(Struct, frozen=True):
    """A mean and its confidence interval: of 95 %, where a record's `judged` does not tell another level."""

    mean: float
    low: float
    high: float


UNKNOWN_ROW: Final = -1
"""The first new row of a reference where a record of the first format does not say it."""


class LineageEntry(Struct, frozen=True, array_like=True):
    """A reference that a version learned from.

    first_row: the first of its rows that was new. window: the number of the window that brought it, from 0 since the
    version's parent: updates fall due between two windows.
    """

    reference: ChunkReference
    first_row: int
    window: int


class PolicyVersion(Struct, frozen=True):
    """A trained version, as the policy store keeps it beside the weights: where it came from and how it did.

    parent: the version whose training this one went on from, None where it began from the seed.
    lineage: what it learned from since its parent, in the order in which it was taken in.
    complete: False where chunks were lost before a restart, and replay was begun anew: it can't be retrained.
    evaluation: mean returns on the gate's fixed traces, by policy ("policy", "serving", baselines): of policies it is
    the floor's mean there and the difference to it on the traces that they were judged on. judged: how that was done.
    by_data: the rows that judged it instead, by discounted returns ("policy"; "serving" or "agents", what these did).
    refusals: how many candidates in a row the gate has refused, this one included. went_back_to: the version by whose
    weights learning went on after the parent, as too many were refused; what the parent holds beside them it kept.
    """

    task: str
    version: int
    parent: int | None
    algorithm: str
    config: dict[str, Any]
    seed: int
    code_version: str
    weights_hash: str
    environment_steps: int
    updates: int
    lineage: list[LineageEntry]
    evaluation: dict[str, float]
    difference: Interval | None
    promoted: bool
    reason: str
    complete: bool = True
    judged: Judgement | None = None
    by_data: DataEvidence | None = None
    refusals: int = 0
    went_back_to: int | None = None
    schema_version: Literal[2] = 2

    @property
    def references(self) -> list[ChunkReference]:
        """The chunks that it learned from, in order."""
        return [entry.reference for entry in self.lineage]


class ServingPolicy(Struct, frozen=True):
    """The `policies` record: what serves a task now, who or what decided, and why. No weights.

    version: 0 where none serves. held: whether `learn` may not promote another until it is released. canary: what a
    share of the agents tries; `acts_by` in policy_versions.py tells which of the agents.
    """

    task: str
    version: int
    weights_hash: str
    decided_by: str
    reason: str
    ts: int
    held: bool = False
    canary: Canary | None = None
    schema_version: Literal[1] = 1


Direction = Literal["up", "down", "flat"]


class Fact(Struct, frozen=True, omit_defaults=True):
    """One computed number that a report may state.

    label: "name, detail" (grounding's `@name` is the part before the comma). unit: "" (a plain number),
    "return", "%", "rows", ... low, high: a 95 % interval. direction: what the number says of a change (from
    its sign, "flat" when the interval holds 0), None where it is a level, not a change.
    """

    fact_id: Id
    label: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    direction: Direction | None = None


class Facts(Struct, frozen=True):
    """Everything that one report may speak of."""

    task: str
    subject: str
    facts: tuple[Fact, ...]


class Sentence(Struct, frozen=True, omit_defaults=True):
    """A sentence whose numbers are `{fact_id}` placeholders; claims: the direction it asserts of a fact."""

    text: str
    claims: dict[str, Direction] = {}


class Narrative(Struct, frozen=True):
    """What a narrator said of some facts. headline: a Sentence too."""

    narrator: str
    headline: Sentence
    sentences: tuple[Sentence, ...]


class Series(Struct, frozen=True, omit_defaults=True):
    """A line of a plot: x and y of equal length.

    labels: names of the places on the x axis, where it has names. low, high: 95 % intervals of y, if known.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    labels: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


class Report(Struct, frozen=True):
    """A report as data; Markdown, HTML and plots are rendered from it.

    kind: "version" (a promoted version) or "interval" (a reporting interval). series: plots' lines, by plot.
    """

    report_id: Id
    task: str
    kind: Literal["version", "interval"]
    start_ms: int
    end_ms: int
    policy_version: int | None
    facts: Facts
    narrative: Narrative
    series: dict[str, list[Series]]
    schema_version: Literal[1] = 1


DIRECTIVE_PATTERN = r"^[A-Za-z0-9._-]{1,96}$"


class Directive(Struct, frozen=True):
    """A bounded change that an advisor proposed, its verdict and who decided.

    directive_id: TASK.VERSION.N. change, target: what is changed (docs/architecture.md lists them). value: what it
    becomes, for the rows learned after `version`; previous: what it was. verdict: "proposed" changes nothing (the
    advisor only logs), "undo" asks for what "undone" then says is done. The last record of an id is what holds.
    text: of the change "setting", which people make of a learner's setting (`target`), its value as JSON.
    """

    directive_id: Annotated[str, Meta(pattern=DIRECTIVE_PATTERN)]
    task: str
    change: str
    value: float
    proposed_by: str
    verdict: Literal["proposed", "accepted", "refused", "undo", "undone"]
    decided_by: str
    reason: str
    ts: int
    target: str = ""
    previous: float | None = None
    version: int = 0
    text: str = ""
    schema_version: Literal[1] = 1


class Mail(Struct, frozen=True):
    """The outbox: where a digest stands.

    ts: its Date header, the same in every state. ends: by partition of `reports`, the offset before which its
    reports lie: they pin its content, so that a restart composes the same bytes.
    """

    digest_id: str
    state: Literal["due", "sending", "sent", "unknown"]
    ts: int
    ends: dict[int, int] = {}
    schema_version: Literal[1] = 1
