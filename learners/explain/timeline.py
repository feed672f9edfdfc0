"""Which reporting intervals are over, by event time: window summaries in log order in, closed intervals out.

What closes an interval depends on the log alone, never on batches, restarts or the wall clock. To go on after a
restart, read again from `hold()`: every interval that was not reported comes out as it would have.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from headrace.learners.explain.interval import IntervalFold, Totals
from headrace.schemas.records import TaskSpec, WindowSummary

IDLE_INTERVALS = 2
"""A task that has told nothing for so long, by append time, is closed and no longer waited for."""


@dataclass(frozen=True, slots=True, eq=False)
class ClosedInterval:
    """An interval that is over.

    unreported: windows told (again) too late for their own interval's report, since the last one closed.
    """

    spec: TaskSpec
    current: Totals
    previous: Totals | None
    unreported: int


@dataclass(slots=True)
class _Span:
    """An interval under way; first_offset: of the first message that belongs to it."""

    fold: IntervalFold
    first_offset: int


@dataclass(slots=True)
class _Course:
    """One task: its open intervals by start, its last closed one, and how far its stream has come."""

    spec: TaskSpec
    open: dict[int, _Span] = field(default_factory=dict)
    last: _Span | None = None
    closed_until_ms: int | None = None
    latest_ms: int = 0
    append_ms: int = 0
    unreported: int = 0


class Timeline:
    """The intervals of all tasks of one partition of `windows`."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._courses: dict[str, _Course] = {}
        self._checked_ms = 0

    def add(self, spec: TaskSpec, summary: WindowSummary, offset: int, append_ms: int) -> list[ClosedInterval]:
        """Take the next summary; returns what it closed.

        An interval is closed by a window that ends one window length after it, so that windows which other
        workers tell a little later are in it too. What comes later still is counted as unreported.
        """
        closed = list(self._close_idle(append_ms))
        course = self._courses.setdefault(spec.task, _Course(spec))
        start_ms = summary.start_ms - summary.start_ms % self._interval_ms
        if course.closed_until_ms is not None and start_ms < course.closed_until_ms:
            course.unreported += 1
            if course.last is not None and course.last.fold.start_ms == start_ms:
                course.last.fold.add(summary)  # what the next interval is compared with is as complete as can be
        else:
            end_ms = start_ms + self._interval_ms
            fold = IntervalFold(start_ms, end_ms, len(spec.reward_terms))
            course.open.setdefault(start_ms, _Span(fold, offset)).fold.add(summary)
        course.latest_ms = max(course.latest_ms, summary.end_ms)
        course.append_ms = max(course.append_ms, append_ms)
        closed += self._close(course, course.latest_ms - spec.window_ms)
        return closed

    def hold(self) -> int | None:
        """Return the offset from which to read again after a restart; None: from the next message on.

        The last closed interval is held too: the next one is compared with it.
        """
        spans = [
            span
            for course in self._courses.values()
            for span in (*course.open.values(), *([course.last] if course.last else []))
        ]
        return min((span.first_offset for span in spans), default=None)

    def earliest_ms(self) -> int | None:
        """Return the start of the earliest open interval."""
        return min((start for course in self._courses.values() for start in course.open), default=None)

    def _close(self, course: _Course, until_ms: int) -> Iterator[ClosedInterval]:
        """Close the open intervals that end at or before `until_ms`, the earliest first."""
        for start_ms in sorted(course.open):
            span = course.open[start_ms]
            if span.fold.end_ms > until_ms:
                return
            del course.open[start_ms]
            follows = course.last is not None and course.last.fold.end_ms == start_ms
            previous = course.last.fold.totals() if course.last is not None and follows else None
            yield ClosedInterval(course.spec, span.fold.totals(), previous, course.unreported)
            course.last, course.closed_until_ms, course.unreported = span, span.fold.end_ms, 0

    def _close_idle(self, append_ms: int) -> Iterator[ClosedInterval]:
        """Once an interval of append time, close tasks that have fallen silent: they must not hold the commit."""
        if append_ms // self._interval_ms <= self._checked_ms // self._interval_ms:
            return
        self._checked_ms = append_ms
        for task, course in list(self._courses.items()):
            if append_ms - course.append_ms >= IDLE_INTERVALS * self._interval_ms:
                yield from self._close(course, max(course.open, default=0) + self._interval_ms)
                del self._courses[task]
