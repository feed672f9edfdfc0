"""What the topics say now, read on by a thread and kept in bounded memory: most answers come from here.

A log that is down changes nothing: what was read stays, and its age is told.
"""

import asyncio
import logging
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import fsum
from typing import Any, Final, NamedTuple

from msgspec import Struct

from headrace.pipelines.query.quarantine import OTHERS, RejectedMessage, origin, rejected_message
from headrace.pipelines.report.render import title
from headrace.pipelines.runtime.retry import Backoff
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import (
    DIRECTIVES,
    OPERATIONS,
    POLICIES,
    REJECTED,
    REPORTS,
    WINDOWS,
    TopicReader,
    decoded,
    records,
)
from headrace.schemas.errors import HeadraceError
from headrace.schemas.ports import Log, MessageBatch
from headrace.schemas.records import (
    Directive,
    Layout,
    Operation,
    Report,
    ServingPolicy,
    TaskSpec,
    WindowSummary,
)

logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 0.5
LONGEST_WAIT_S: Final = 15.0
MOST_MESSAGES: Final = 50_000
"""Of a partition's windows and rejections: so many of the newest are read at the start."""
MOST_WINDOWS: Final = 500
"""Of a task: a chart has no more points."""
MOST_PARTS: Final = 100_000
"""Of windows, of all tasks together: a window has a part for each group that told of it."""
MOST_REPORTS, MOST_DECISIONS, MOST_DIRECTIVES, MOST_OPERATIONS, MOST_REJECTED = 1_000, 200, 1_000, 1_000, 500
"""Of a task; operations and rejections: of all."""
MOST_NAMES: Final = 10_000
"""Of tasks that rejected messages name, whatever that may be; the rest are counted under OTHERS."""
SHOWN_BYTES: Final = 4_096
"""Of a rejected message: enough to see what it is."""


class ReportHead(Struct, frozen=True):
    """What a list says of a report. title: its verdict."""

    report_id: str
    task: str
    kind: str
    title: str
    policy_version: int | None
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class ReportPlace:
    """A report, and where it lies on the log: its facts and plots are read when somebody asks."""

    head: ReportHead
    partition: int
    offset: int

    def read(self, log: Log) -> Report | None:
        """Return the report; None where the log holds it no longer."""
        batch = log.read(REPORTS, self.partition, self.offset, 1)
        found = zip(decoded(batch, Report), batch.offsets.tolist(), strict=True)
        return next((report for report, offset in found if offset == self.offset), None)


@dataclass(frozen=True, slots=True)
class WindowTotals:
    """A window over all its groups. mean_reward: of a row; None without rows.

    late: rows that came after the window was first told, as far as this process has seen it. outcomes, outcome_rows:
    as in AgentStats.
    """

    start_ms: int
    rows: int
    reward_sum: float
    episode_ends: int
    duplicates: int
    policy_versions: dict[int, int]
    late: int = 0
    outcomes: tuple[float, ...] = ()
    outcome_rows: tuple[int, ...] = ()

    @property
    def mean_reward(self) -> float | None:
        """The reward of a row."""
        return self.reward_sum / self.rows if self.rows else None


class _Part(NamedTuple):
    """What a group told of a window."""

    rows: int
    reward_sum: float
    episode_ends: int
    duplicates: int
    policy_versions: dict[int, int]
    late: int
    outcomes: tuple[float, ...]
    outcome_rows: tuple[int, ...]


@dataclass(slots=True)
class TaskView:
    """What is known of one task; each bounded, the newest kept."""

    decisions: deque[ServingPolicy] = field(default_factory=lambda: deque(maxlen=MOST_DECISIONS))
    directives: dict[str, Directive] = field(default_factory=dict)
    reports: dict[str, ReportPlace] = field(default_factory=dict)
    parts: dict[int, dict[tuple[int, int], _Part]] = field(default_factory=dict)
    windows_emitted: int = 0
    """Grows with each message of the task on `windows`: what was answered of them is as old as this."""

    folded: dict[int, WindowTotals] = field(default_factory=dict)
    """Of windows that were asked for, until more is told of them."""

    @property
    def serving(self) -> ServingPolicy | None:
        """What was decided last; None before the first decision."""
        return next(reversed([*self.decisions]), None)

    @property
    def serves(self) -> int:
        """The version that serves, 0 for none."""
        return self.serving.version if self.serving else 0

    def windows(self) -> list[WindowTotals]:
        """Return the newest windows, the oldest of them first."""
        for start_ms in self.parts.keys() - self.folded.keys():
            self.folded[start_ms] = _totals(start_ms, self.parts[start_ms])
        return [self.folded[start_ms] for start_ms in sorted(self.parts)]

    def forget(self, start_ms: int) -> None:
        """Keep nothing of a window."""
        del self.parts[start_ms]
        self.folded.pop(start_ms, None)


def _totals(start_ms: int, parts: dict[tuple[int, int], _Part]) -> WindowTotals:
    versions: dict[int, int] = defaultdict(int)
    for part in parts.values():
        for version, rows in part.policy_versions.items():
            versions[version] += rows
    return WindowTotals(
        start_ms,
        rows=sum(part.rows for part in parts.values()),
        reward_sum=fsum(part.reward_sum for part in parts.values()),
        episode_ends=sum(part.episode_ends for part in parts.values()),
        duplicates=sum(part.duplicates for part in parts.values()),
        policy_versions=dict(versions),
        late=sum(part.late for part in parts.values()),
        outcomes=tuple(map(fsum, zip(*(part.outcomes for part in parts.values()), strict=False))),
        outcome_rows=tuple(map(sum, zip(*(part.outcome_rows for part in parts.values()), strict=False))),
    )


class View:
    """The newest of every topic. Read by many threads, written by its own; what is given out is not written to.

    trouble: why the log can't be read now; "" while it can. changes: how often something new came.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self.specs = TaskTable(log, Layout(log=""))
        self.tasks: dict[str, TaskView] = defaultdict(TaskView)
        self.operations: deque[Operation] = deque(maxlen=MOST_OPERATIONS)
        self.rejected: deque[RejectedMessage] = deque(maxlen=MOST_REJECTED)
        self.rejections: dict[tuple[str, str], int] = defaultdict(int)
        self.trouble = "the log was not read yet"
        self.changes = 0
        self._read_s = time.monotonic()
        self._lock = threading.Lock()
        self._take = {
            POLICIES: self._policies,
            DIRECTIVES: self._directives,
            REPORTS: self._reports,
            WINDOWS: self._windows,
            OPERATIONS: self._operations,
            REJECTED: self._rejected,
        }
        self._readers = {topic: TopicReader(log, topic) for topic in self._take}
        self._closed = threading.Event()
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._thread = threading.Thread(target=self._run, name="view", daemon=True)

    @property
    def age_s(self) -> float:
        """How long ago the log was read to its end."""
        return time.monotonic() - self._read_s

    def names(self) -> list[str]:
        """Return the names of the tasks that were added."""
        return sorted(self.specs.specs)

    def spec(self, task: str) -> TaskSpec | None:
        """Return a task's spec."""
        return self.specs.specs.get(task)

    def task(self, task: str) -> TaskView:
        """Return what is known of a task. It waits for nothing, as the event loop asks too."""
        return self.tasks.get(task) or TaskView()

    def windows(self, task: str) -> list[WindowTotals]:
        """Return a task's newest windows, the oldest of them first."""
        with self._lock:
            return self.task(task).windows()

    def start(self) -> None:
        """Begin to read, by a thread."""
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the server ends: who waits for changes waits no longer."""
        return self._closed.is_set()

    def end(self) -> None:
        """Let those who wait for changes go: the server ends. From any thread, or a signal's handler."""
        self._closed.set()
        self._tell()

    def close(self) -> None:
        """Read no more."""
        self.end()
        self._thread.join(timeout=2.0)

    async def changed(self, seen: int, wait_s: float) -> int:
        """Wait until there is more than `seen`, or for so long; return `changes`."""
        entry = asyncio.get_running_loop(), asyncio.Event()
        self._waiters.add(entry)
        try:
            if self.changes == seen and not self.ended:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await entry[1].wait()
        finally:
            self._waiters.discard(entry)
        return self.changes

    def _run(self) -> None:
        backoff = Backoff(2.0 * LOOK_EVERY_S, LONGEST_WAIT_S)
        wait_s = 0.0
        while not self._closed.wait(wait_s):
            wait_s = LOOK_EVERY_S
            try:
                came = self.read_on()
                for name in self.names() if came else ():
                    self.windows(name)  # so that nobody waits for them
                backoff.reset()
                before, self.trouble = self.trouble, ""
                self._read_s = time.monotonic()
                if came or before:
                    self._tell()
            except HeadraceError as error:
                wait_s = backoff.next_s()
                if not self.trouble or backoff.failures == 1:
                    logger.warning("the page and the API tell what was known before: %s", error)
                    self.trouble = str(error)
                    self._tell()
            except Exception:  # what a thread dies of nobody sees
                wait_s = backoff.next_s()
                logger.exception("reading on has failed, and is tried again")
                self.trouble = "a fault of headrace's own: its log says where"

    def _tell(self) -> None:
        self.changes += 1
        for loop, event in list(self._waiters):
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # the loop has ended
                self._waiters.discard((loop, event))

    def read_on(self) -> bool:
        """Read each topic to its end; whether anything was new. Raises as a log does."""
        came = self.specs.refresh()
        for topic in (WINDOWS, REJECTED):
            self._skip_old(topic)
        for batch in self._batches():
            came = True
            with self._lock:
                self._take[batch.topic](batch)
        return came

    def _batches(self) -> Iterator[MessageBatch]:
        for reader in self._readers.values():
            for batch in reader.batches():
                if self._closed.is_set():
                    return
                yield batch

    def _skip_old(self, topic: str) -> None:
        reader = self._readers[topic]
        for partition in range(self._log.topic(topic).partitions):
            if partition not in reader.offsets:
                begin, end = self._log.bounds(topic, partition)
                reader.offsets[partition] = max(begin, end - MOST_MESSAGES)

    def _policies(self, batch: MessageBatch) -> None:
        for record in records([batch], ServingPolicy):
            self.tasks[record.task].decisions.append(record)

    def _directives(self, batch: MessageBatch) -> None:
        for record in records([batch], Directive):
            found = self.tasks[record.task].directives
            found.pop(record.directive_id, None)
            found[record.directive_id] = record
            _keep(found, MOST_DIRECTIVES)

    def _reports(self, batch: MessageBatch) -> None:
        for record, offset in zip(decoded(batch, Report), batch.offsets.tolist(), strict=True):
            if record:
                found = self.tasks[record.task].reports
                found[record.report_id] = ReportPlace(_head(record), batch.partition, offset)
                _keep(found, MOST_REPORTS)

    def _windows(self, batch: MessageBatch) -> None:
        for summary in records([batch], WindowSummary):
            task, totals = self.tasks[summary.task], summary.totals
            task.windows_emitted += 1
            parts, place = task.parts.setdefault(summary.start_ms, {}), (summary.group, summary.partition)
            late = parts[place].late + max(0, totals.rows - parts[place].rows) if place in parts else 0
            parts[place] = _Part(
                *(totals.rows, totals.reward_sum, totals.episode_ends, summary.duplicates, totals.policy_versions),
                *(late, totals.outcomes, totals.outcome_rows),
            )
            task.folded.pop(summary.start_ms, None)
            if len(task.parts) > MOST_WINDOWS:
                task.forget(min(task.parts))
        self._bound_parts()

    def _bound_parts(self) -> None:
        """Let tasks with many groups keep fewer windows."""
        sizes = {name: sum(map(len, one.parts.values())) for name, one in self.tasks.items()}
        while sum(sizes.values()) > MOST_PARTS:
            name = max(sizes, key=sizes.__getitem__)
            parts = self.tasks[name].parts
            oldest = min(parts)
            sizes[name] -= len(parts[oldest])
            self.tasks[name].forget(oldest)

    def _operations(self, batch: MessageBatch) -> None:
        self.operations.extend(records([batch], Operation))

    def _rejected(self, batch: MessageBatch) -> None:
        for row in range(len(batch)):
            message = rejected_message(batch, row)
            self.rejected.append(replace(message, kept=message.kept and message.kept[:SHOWN_BYTES]))
            name = origin(message)[0], message.rule
            known = name in self.rejections or len(self.rejections) < MOST_NAMES
            self.rejections[name if known else (OTHERS, message.rule)] += 1


def _head(report: Report) -> ReportHead:
    return ReportHead(
        report.report_id,
        report.task,
        report.kind,
        title(report),
        report.policy_version,
        report.start_ms,
        report.end_ms,
    )


def _keep(found: dict[str, Any], most: int) -> None:
    while len(found) > most:
        del found[next(iter(found))]
