"""What the jobs say of themselves."""

from typing import Literal

from msgspec import Struct

from headrace.schemas.records.task import Id

JobName = Literal["ingest", "learn", "explain", "fleet", "digest"]
Dependency = Literal["log", "index", "policies", "mail"]
"""What a job waits for where it does not answer."""


class Operation(Struct, frozen=True, omit_defaults=True):
    """What a process of a job says of itself. No text is in it that anybody else wrote.

    process: which of the job's processes; "only" where the log lets no second one run. began_ms: when it began to run.
    sequence: the record's place among those of the run, from 0 on; a record with a place that was there is the same
    again. kind: "started"; "running", said at a steady rate; "outage", that a dependency does, or did, not answer from
    since_ms until ts; "fenced", that the log refused so many `commits`, as another process had gone on; the last is
    "stopped" or, after an error, "failed". A run without a last one was killed. lag: messages between its places and
    the ends of its partitions.
    """

    job: JobName
    process: Id
    began_ms: int
    sequence: int
    kind: Literal["started", "running", "outage", "fenced", "stopped", "failed"]
    ts: int
    lag: int = 0
    commits: int = 0
    dependency: Dependency | None = None
    since_ms: int = 0
    schema_version: Literal[1] = 1
