"""The records that flow on the logs, but for transitions themselves: msgspec structs, written as JSON.

docs/topics.md shows each with an example; contracts/*.schema.json are generated from them.
"""

from headrace.schemas.records.directive import DIRECTIVE_PATTERN, Directive, DirectiveVerdict
from headrace.schemas.records.mail import (
    WORDS_MAX,
    Mail,
    MailState,
    Subscriber,
    Verdict,
    VerdictState,
    mailbox,
    subscriber_key,
)
from headrace.schemas.records.operation import Dependency, JobName, Operation
from headrace.schemas.records.outcome import Outcome, Share, Source
from headrace.schemas.records.policy import (
    UNKNOWN_ROW,
    DataEvidence,
    Interval,
    Judgement,
    LineageEntry,
    PolicyVersion,
    ServingPolicy,
)
from headrace.schemas.records.report import Direction, Fact, Facts, Narrative, Rating, Report, Sentence, Series
from headrace.schemas.records.stream import (
    MAX_TS_MS,
    SCHEMA_VERSION,
    AgentStats,
    ChunkKey,
    ChunkReference,
    ChunkSummary,
    Layout,
    WindowKey,
    WindowRow,
    WindowSummary,
)
from headrace.schemas.records.task import ID_PATTERN, Bounds, Id, TaskSpec, decode_task, task_problem

__all__ = [
    "DIRECTIVE_PATTERN",
    "ID_PATTERN",
    "MAX_TS_MS",
    "SCHEMA_VERSION",
    "UNKNOWN_ROW",
    "WORDS_MAX",
    "AgentStats",
    "Bounds",
    "ChunkKey",
    "ChunkReference",
    "ChunkSummary",
    "DataEvidence",
    "Dependency",
    "Direction",
    "Directive",
    "DirectiveVerdict",
    "Fact",
    "Facts",
    "Id",
    "Interval",
    "JobName",
    "Judgement",
    "Layout",
    "LineageEntry",
    "Mail",
    "MailState",
    "Narrative",
    "Operation",
    "Outcome",
    "PolicyVersion",
    "Rating",
    "Report",
    "Sentence",
    "Series",
    "ServingPolicy",
    "Share",
    "Source",
    "Subscriber",
    "TaskSpec",
    "Verdict",
    "VerdictState",
    "WindowKey",
    "WindowRow",
    "WindowSummary",
    "decode_task",
    "mailbox",
    "subscriber_key",
    "task_problem",
]
