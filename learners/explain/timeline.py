"""Which reporting intervals are over, by event time: window summaries in log order in, closed intervals out.

An interval is closed when `ingest` is past it in every partition, and all that was emitted until then is added. Where
that was is kept with its report. To go on after a restart, read again from `hold()`: what was reported closes where
it did, so that the next interval is compared with the same, and tells of the same late windows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from headrace.learners.explain.interval import IntervalFold, Totals
from headrace.schemas.records import TaskSpec, WindowSummary

_EVER_MS = 1 << 62
IDLE_INTERVALS = 2
"""A task that has emitted nothing for so long, by append time, is closed and no longer waited for."""


def whole_windows_ms(interval_ms: int, window_ms: int) -> int:
    """Return the shortest length, of `interval_ms` or more, that windows divide.

    An interval of such a length begins and ends where a window does, so that it has the rows of its windows alone.
    """
    return -(-interval_ms // window_ms) * window_ms


@dataclass(frozen=True, slots=True)
class IngestPosition:
    """One partition of `transitions`. stream_ms: its stream time T at the commit, -1 where nothing is known of it."""

    stream_ms: int
    lags: bool


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """All partitions of `transitions` at one moment.

    windows_end: the ends of the partitions of `windows` just after: what was emitted until then lies before them.
    """

    places: tuple[IngestPosition, ...]
    windows_end: dict[int, int]
    grace_ms: int

    def passed(self, end_ms: int, window_ms: int, emitted_ms: int | None) -> bool:
        """Whether every partition is past an interval that ends at `end_ms`.

        Its windows are emitted up to T. A partition without lag whose T has stopped short is waited for until the
        stream is a window's length ahead of it, because what it holds now may be all that it will ever hold.
        emitted_ms: the end of the latest window emitted; None: nobody is waited for who has no lag (a silent task).
        """
        closes_ms = end_ms + self.grace_ms
        seen_ms = _EVER_MS if emitted_ms is None else emitted_ms + self.grace_ms
        stream_ms = max([seen_ms, *(place.stream_ms for place in self.places)])
        return stream_ms >= closes_ms and all(
            place.stream_ms >= closes_ms or (not place.lags and place.stream_ms + window_ms <= stream_ms)
            for place in self.places
        )


class Closing(NamedTuple):
    """Where an interval was closed: the messages before `offset` were added, the last one appended at `append_ms`."""

    offset: int
    append_ms: int


Reported = Callable[[str, int], Closing | None]
"""(task, start_ms) -> where the interval was closed that is reported already."""


@dataclass(frozen=True, slots=True, eq=False)
class ClosedInterval:
    """An interval that is over.

    unreported: windows emitted (again) too late for their own interval's report, since the last one closed.
    appended_ms: the append times of the messages that passed the one before (excluded) and this one (included), or
    of the last one added; of the task's first interval it begins one window before the first message.
    """

    spec: TaskSpec
    current: Totals
    previous: Totals | None
    unreported: int
    appended_ms: tuple[int, int]
    closing: Closing


@dataclass(slots=True)
class _Span:
    """An interval under way; first_offset: of the first message that belongs to it.

    passed_ms: the append time of the message that tells of a window one window length after it.
    """

    fold: IntervalFold
    first_offset: int
    passed_ms: int | None = None


@dataclass(slots=True)
class _Course:
    """One task: its open intervals by start, its last closed one, and how far its stream has come.

    interval_ms: the length of its intervals. emitted_ms: the append time until which the closed intervals tell of what
    was appended.
    """

    spec: TaskSpec
    interval_ms: int
    emitted_ms: int
    open: dict[int, _Span] = field(default_factory=dict)
    unpassed: set[int] = field(default_factory=set)
    last: _Span | None = None
    closed_until_ms: int | None = None
    latest_ms: int = 0
    append_ms: int = 0
    unreported: int = 0
    silent: bool = False


class Timeline:
    """The intervals of all tasks of one partition of `windows`. append_ms: the latest append time so far.

    interval_ms: an interval's length, made longer where a task's windows do not divide it.
    """

    def __init__(self, interval_ms: int, reported: Reported = lambda _task, _start_ms: None) -> None:
        self.append_ms = 0
        self._interval_ms = interval_ms
        self._reported = reported
        self._courses: dict[str, _Course] = {}
        self._checked_ms = 0

    def add(self, spec: TaskSpec, summary: WindowSummary, offset: int, append_ms: int) -> None:
        """Take the next summary. What comes when its interval is closed is counted as unreported."""
        self.append_ms = max(self.append_ms, append_ms)
        self._note_silence()
        first_ms = append_ms - min(spec.window_ms, self._interval_ms)
        length_ms = whole_windows_ms(self._interval_ms, spec.window_ms)
        course = self._courses.setdefault(spec.task, _Course(spec, length_ms, first_ms))
        self._close_reported(course, offset)
        start_ms = summary.start_ms - summary.start_ms % length_ms
        if course.closed_until_ms is not None and start_ms < course.closed_until_ms:
            course.unreported += 1
            if course.last is not None and course.last.fold.start_ms == start_ms:
                course.last.fold.add(summary)  # what the next interval is compared with is as complete as can be
        else:
            if start_ms not in course.open:
                fold = IntervalFold(start_ms, start_ms + length_ms, len(spec.reward_terms), len(spec.outcomes))
                course.open[start_ms] = _Span(fold, offset)
                course.unpassed.add(start_ms)
            course.open[start_ms].fold.add(summary)
        course.latest_ms = max(course.latest_ms, summary.end_ms)
        _note_passed(course, append_ms)
        course.append_ms = max(course.append_ms, append_ms)
        course.silent = False

    def looks_over(self, *, to_the_end: bool = False) -> bool:
        """Whether it is worth asking how far `ingest` has come; to_the_end: as no more windows are waited for."""
        return any(
            to_the_end or course.silent or min(course.open) + course.interval_ms <= course.latest_ms
            for course in self._courses.values()
            if course.open
        )

    def close(self, progress: IngestProgress, offset: int) -> list[ClosedInterval]:
        """Close what `ingest` is past; offset: of the next message, with all before `progress` added."""
        closed = []
        for task, course in list(self._courses.items()):
            self._close_reported(course, offset)
            emitted_ms = None if course.silent else course.latest_ms
            for start_ms in sorted(course.open):
                if not progress.passed(start_ms + course.interval_ms, course.spec.window_ms, emitted_ms):
                    break
                closed.append(_close(course, start_ms, Closing(offset, self.append_ms)))
            if course.silent and not course.open:
                del self._courses[task]
        return closed

    def hold(self) -> int | None:
        """Return the offset from which to read again after a restart; None: from the next message on.

        The last closed interval is held too: the next one is compared with it.
        """
        spans = (span for course in self._courses.values() for span in (*course.open.values(), course.last) if span)
        return min((span.first_offset for span in spans), default=None)

    def pending_ms(self) -> int | None:
        """Return the append time after which intervals yet to be closed may tell of what was appended.

        One interval is taken off: a task that is yet to come begins so far back at most.
        """
        emitted = min((course.emitted_ms for course in self._courses.values()), default=None)
        return None if emitted is None else emitted - self._interval_ms

    def _close_reported(self, course: _Course, offset: int) -> None:
        """Close again what was closed, and reported, before the message at `offset` was added."""
        for start_ms in sorted(course.open):
            closing = self._reported(course.spec.task, start_ms)
            if closing is None or closing.offset > offset:
                return
            _close(course, start_ms, closing)

    def _note_silence(self) -> None:
        """Once an interval of append time, look for tasks that have fallen silent: they must not hold the commit."""
        if self.append_ms // self._interval_ms <= self._checked_ms // self._interval_ms:
            return
        self._checked_ms = self.append_ms
        for task, course in list(self._courses.items()):
            course.silent = self.append_ms - course.append_ms >= IDLE_INTERVALS * self._interval_ms
            if course.silent and not course.open:
                del self._courses[task]


def _note_passed(course: _Course, append_ms: int) -> None:
    """Note when the stream passed intervals."""
    for start_ms in sorted(course.unpassed):
        span = course.open.get(start_ms)
        if span is not None and span.fold.end_ms > course.latest_ms - course.spec.window_ms:
            return
        course.unpassed.remove(start_ms)
        if span is not None:
            span.passed_ms = append_ms


def _close(course: _Course, start_ms: int, closing: Closing) -> ClosedInterval:
    """Close an open interval, the earliest one of its task."""
    span = course.open.pop(start_ms)
    previous = course.last.fold.totals() if course.last and course.last.fold.end_ms == start_ms else None
    passed_ms = closing.append_ms if span.passed_ms is None else span.passed_ms
    appended_ms = (course.emitted_ms, max(course.emitted_ms, passed_ms))
    closed = ClosedInterval(course.spec, span.fold.totals(), previous, course.unreported, appended_ms, closing)
    course.emitted_ms = appended_ms[1]
    course.last, course.closed_until_ms, course.unreported = span, span.fold.end_ms, 0
    return closed
