"""The facts of how the jobs ran, from what they said of themselves. Pure: the same records give the same facts."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from headrace.learners.explain.interval import between, moment_text
from headrace.schemas.records import Dependency, Fact, JobName, Operation

SILENT: Final = 3
"""A run was killed that has said nothing since another one said so often that it runs."""
REMEMBERED: Final = 1_000
"""Runs, the ones heard of last: a record of one that has ended may come once more."""
NAMES: Final[dict[Dependency, str]] = {
    "log": "the log",
    "index": "the index",
    "policies": "the policy store",
    "mail": "the mailer",
}

Process = tuple[JobName, str]
Span = tuple[int, int]
"""From when until when, in ms."""


@dataclass(slots=True)
class Ran:
    """What was said within an interval. runs: that said anything. outages: when a dependency was away, in any order."""

    runs: set[tuple[Process, int]] = field(default_factory=set)
    starts: Counter[JobName] = field(default_factory=Counter)
    failures: Counter[JobName] = field(default_factory=Counter)
    fenced: Counter[JobName] = field(default_factory=Counter)
    lags: dict[JobName, int] = field(default_factory=dict)
    outages: dict[Dependency, list[Span]] = field(default_factory=dict)


@dataclass(slots=True)
class _Run:
    """A run as of its last record. told: by dependency, when its last outage began, and until when it was told of."""

    began_ms: int
    sequence: int = -1
    over: bool = False
    heard: Counter[Process] = field(default_factory=Counter)
    told: dict[Dependency, Span] = field(default_factory=dict)


class Runs:
    """Follows the runs of all jobs through the records of `operations`, in log order."""

    def __init__(self) -> None:
        self._runs: dict[Process, _Run] = {}

    def take(self, record: Operation, ran: Ran) -> None:
        """Take the next record, and note what it says of the interval; one that was taken already says nothing."""
        process = record.job, record.process
        run = self._runs.pop(process, None) or _Run(record.began_ms, over=True)
        if record.began_ms > run.began_ms:
            ran.failures[record.job] += not run.over
            run = _Run(record.began_ms)
        self._runs[process] = run
        if record.began_ms < run.began_ms or record.sequence <= run.sequence:
            return
        run.sequence, run.over = record.sequence, record.kind in {"stopped", "failed"}
        run.heard.clear()
        _note(record, run, ran)
        if record.kind == "running":
            self._hear(process, ran)
        while len(self._runs) > REMEMBERED:
            del self._runs[next(iter(self._runs))]

    def _hear(self, speaker: Process, ran: Ran) -> None:
        """Find runs that were killed, and that nobody has begun anew."""
        for process, run in self._runs.items():
            if process == speaker or run.over:
                continue
            run.heard[speaker] += 1
            if run.heard[speaker] >= SILENT:
                run.over = True
                ran.failures[process[0]] += 1


def _note(record: Operation, run: _Run, ran: Ran) -> None:
    job = record.job
    ran.runs.add(((job, record.process), record.began_ms))
    ran.starts[job] += record.kind == "started"
    ran.failures[job] += record.kind == "failed"
    ran.fenced[job] += record.commits
    ran.lags[job] = max(ran.lags.get(job, 0), record.lag)
    if record.kind == "outage" and record.dependency:
        since_ms, until_ms = run.told.get(record.dependency, (-1, 0))
        begin_ms = until_ms if since_ms == record.since_ms else record.since_ms
        ran.outages.setdefault(record.dependency, []).append((min(begin_ms, record.ts), record.ts))
        run.told[record.dependency] = record.since_ms, record.ts


def ran_within(before: Runs, earlier: Iterable[Operation], within: Iterable[Operation]) -> Ran:
    """Return what the records within an interval say. before: the runs as of all records before the earlier ones."""
    runs, ran = deepcopy(before), Ran()
    for record in earlier:
        runs.take(record, Ran())
    for record in within:
        runs.take(record, ran)
    return ran


def merged(spans: Sequence[Span]) -> list[Span]:
    """Return spans that overlap or touch as one, in order."""
    found: list[Span] = []
    for begin_ms, end_ms in sorted(spans):
        if found and begin_ms <= found[-1][1]:
            found[-1] = found[-1][0], max(end_ms, found[-1][1])
        else:
            found.append((begin_ms, end_ms))
    return found


def operations_facts(ran: Ran, after_ms: int, until_ms: int) -> Iterator[Fact]:
    """Say how the jobs ran between two moments of the log's clock; nothing where none has said anything."""
    if not ran.runs:
        return
    when = between(after_ms, until_ms)
    yield Fact("operations.runs", f"from {when}, runs of jobs, by the log's clock", len(ran.runs), "runs")
    counted = (
        ("starts", "starts", ran.starts, "starts"),
        ("failures", "runs that failed or were killed", ran.failures, "runs"),
        ("fenced", "commits that the log refused", ran.fenced, "commits"),
    )
    for name, label, counts, unit in counted:
        for job, count in sorted((+counts).items()):
            yield Fact(f"operations.{name}.{job}", f"{job}, {label}", count, unit)
    for dependency, spans in sorted(ran.outages.items()):
        yield from _outage_facts(dependency, merged(spans))
    for job, lag in sorted(ran.lags.items()):
        if lag:
            yield Fact(f"operations.lag.{job}", f"{job}, messages that a run had yet to read, at most", lag, "messages")


def _outage_facts(dependency: Dependency, spans: list[Span]) -> Iterator[Fact]:
    """How long it did not answer, in all and at most, and since when; jobs that waited at one time count once."""
    name = NAMES[dependency]
    lengths = [(end_ms - begin_ms) / 1000 for begin_ms, end_ms in spans]
    when = f"from {moment_text(spans[0][0])} on"
    yield Fact(f"operations.outage.{dependency}", f"{name}, time that it did not answer", sum(lengths), "seconds")
    yield Fact(f"operations.outages.{dependency}", f"{when}, outages of {name}", len(spans), "outages")
    if len(spans) > 1:
        yield Fact(f"operations.longest.{dependency}", f"{name}, its longest outage", max(lengths), "seconds")


def serving_facts(versions: Sequence[int]) -> Iterator[Fact]:
    """Say what came to serve: of the versions that served in turn, 0 for none, the first one did before."""
    changes = [(old, new) for old, new in pairwise(versions) if old != new]
    came = sum(new > old for old, new in changes)
    if came:
        yield Fact("operations.promotions", "versions that came to serve", came, "versions")
    if came < len(changes):
        label = "rollbacks: an earlier version came to serve again, or none"
        yield Fact("operations.rollbacks", label, len(changes) - came, "rollbacks")


def proposal_facts(count: int) -> Iterator[Fact]:
    """Say how many changes of learning an advisor proposed that are not made: people decide on them."""
    if count:
        yield Fact("directives.proposed", "proposed by the advisor and not made", count, "changes of learning")
