"""digest: reports in, one e-mail an audience and slot out; never twice.

    reports ─► slot due? ─► mails: due ─► sending ─► mailer ─► mails: sent, with the commit

The log is the state. Group `digest` on `reports` says which reports were in a digest to the settings' recipients;
`subscribers` says who else gets which task's, and when; `mails` is the outbox. Where several processes share the
partitions, each sends digests of its own part; one that was overtaken joins again.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from headrace.pipelines.report.addresses import TOKEN
from headrace.pipelines.report.compose import Drawn, Envelope
from headrace.pipelines.report.mails import Mails
from headrace.pipelines.report.outbox import Audience, Outbox
from headrace.pipelines.report.schedule import Schedule
from headrace.pipelines.report.subscribers import Subscribers
from headrace.pipelines.report.unsubscribing import unsubscribe_link
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.runtime.retry import Backoff
from headrace.pipelines.runtime.stop import Stop, paused
from headrace.pipelines.topics import REPORTS
from headrace.schemas.errors import CommitConflictError, UnavailableError
from headrace.schemas.ports import Clock, Log, Mailer
from headrace.schemas.records import Subscriber, subscriber_key

logger = logging.getLogger(__name__)

GROUP = "digest"
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 600.0


@dataclass(slots=True)
class Line:
    """An audience's outbox, when it is emptied and when tried again. of: the subscriber that it was made of."""

    outbox: Outbox
    schedule: Schedule | None
    of: Subscriber | None = None
    looked_at_ms: int | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(FIRST_WAIT_S, LONGEST_WAIT_S))
    retry_s: float = -math.inf
    failed: bool = False


class Digest:
    """The job. Uses a log and a mailer, nothing else.

    envelope: of the settings' recipients; its link to unsubscribe may hold `{token}`, which `key` signs. schedule:
    theirs; without one nothing goes by any. tasks: whose reports are sent; None for all. One process is enough: a
    second one shares the partitions and sends digests of its own part.
    """

    def __init__(
        self,
        log: Log,
        mailer: Mailer,
        clock: Clock,
        envelope: Envelope,
        *,
        schedule: Schedule | None = None,
        tasks: frozenset[str] | None = None,
        key: str = "",
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._timer = timer
        self._mailer = mailer
        self._envelope = envelope
        self._schedule = schedule
        self._tasks = tasks
        self._key = key
        self._member = Member(log, GROUP, REPORTS, on_assign=self._forget, on_revoke=self._forget)
        self._mails = Mails(log)
        self._subscribers = Subscribers(log)
        self._drawn: Drawn = {}
        self.outbox = self._outbox(Audience(envelope, tasks))
        self._lines = [Line(self.outbox, schedule)]
        self._ended = [0, 0]  # sent and refused by lines that are no more
        # By the timer: a clock that is set back must not keep a mail waiting.
        self._backoff, self._retry_s = Backoff(FIRST_WAIT_S, LONGEST_WAIT_S), -math.inf

    def close(self) -> None:
        """Leave the group."""
        self._member.close()

    def run(self, stop: Stop) -> None:
        """Send on schedule until a stop is requested; a dependency that is down is tried again."""
        while not stop.requested:
            stop.liveness.seen()
            try:
                for _ in self._steps(1.0):
                    stop.liveness.seen()
                    if stop.requested:
                        return
            except UnavailableError as error:
                stop.liveness.failed(error, "mail" if self._undelivered() else "log")
                logger.warning("digest: %s; trying again", error)
                paused(stop, 1.0)
            else:
                if not self._undelivered():  # the mailer is asked again once its wait is over
                    stop.liveness.answered()

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """The commits of the partitions that this process has, by topic and partition; from any thread."""
        return self._member.positions

    @property
    def sent(self) -> int:
        """Mails handed to the mailer; from any thread."""
        return self._ended[0] + sum(line.outbox.sent for line in self._lines)

    @property
    def refused(self) -> int:
        """Mails that were refused for good; from any thread."""
        return self._ended[1] + sum(line.outbox.refused for line in self._lines)

    @property
    def waiting(self) -> int:
        """Mails that are due and not sent yet; from any thread."""
        return sum(line.outbox.waiting for line in self._lines)

    def _undelivered(self) -> bool:
        return any(line.outbox.undelivered for line in self._lines)

    def step(self, timeout_s: float = 0.0) -> list[str]:
        """Do what is due now; returns the ids of what was sent. Raises UnavailableError; the mail stays due.

        Where another process has gone on, this one does nothing, and joins again with the next step.
        """
        return [digest_id for digest_id in self._steps(timeout_s) if digest_id]

    def _steps(self, timeout_s: float) -> Iterator[str]:
        """Do what is due now; yields the id of each mail that was sent, and "" after each audience."""
        self._follow(timeout_s)
        if self._schedule is None or not self._member.offsets or self._timer() < self._retry_s:
            return
        try:
            # Whose mail the mailer did not answer for comes last, so that it holds up nobody else's.
            for line in sorted(self._refreshed(), key=lambda one: one.failed):
                if self._timer() >= line.retry_s:
                    line.failed = True
                    yield from self._due(line)
                    line.failed = False
                    yield ""
        except UnavailableError:
            self._retry_s = self._timer() + self._backoff.next_s()
            raise
        except CommitConflictError:
            self._forget()
            return
        self._backoff.reset()
        self._retry_s = -math.inf

    def send_now(self, polls: int = 30) -> list[str]:
        """Send what is not in a digest yet, without a schedule; raises UnavailableError, the mail stays due.

        Raises CommitConflictError where another process sends the same meanwhile; no report is mailed twice by that.
        polls: of a second each, to wait for partitions when none is assigned yet.
        """
        self._follow(0.0)
        for _ in range(polls):
            if self._member.offsets:
                break
            self._follow(1.0)
        else:
            raise UnavailableError(f"digest: no partition of {REPORTS} was assigned in {polls} s; is another running?")
        sent: list[str] = []
        try:
            for line in self._refreshed():
                sent += line.outbox.recover()
                while not line.outbox.deferred and (ends := line.outbox.ends(None)):
                    sent += line.outbox.send(ends, None)
        except CommitConflictError as error:
            raise CommitConflictError(
                "digest: another process sends digests of the same reports: no report is mailed twice; "
                "run it again for what is in none yet"
            ) from error
        if later := [line.outbox.deferred for line in self._lines if line.outbox.deferred]:
            raise UnavailableError(f"digest: sent {len(sent)}, others are due and must wait: {'; '.join(later)}")
        return sent

    def _due(self, line: Line) -> Iterator[str]:
        assert line.schedule is not None
        outbox = line.outbox
        yield from outbox.recover()
        slot_ms = line.schedule.latest(self._clock())
        # Append times never run back: a slot that had nothing (left) will never have anything.
        while slot_ms != line.looked_at_ms and not outbox.deferred:
            ends = outbox.ends(slot_ms)
            if ends:
                yield from outbox.send(ends, slot_ms)
            else:
                line.looked_at_ms = slot_ms
        if outbox.deferred:
            line.retry_s = self._timer() + line.backoff.next_s()
        else:
            line.backoff.reset()

    def _refreshed(self) -> list[Line]:
        """Return the audiences, the settings' recipients first, as the subscribers stand now."""
        known = self._subscribers.refresh()
        self._drawn.clear()  # what many are sent at once is drawn once
        first, *others = self._lines
        self.outbox.audience = replace(self.outbox.audience, envelope=self._settings_envelope())
        wanted = {one.key: one for one in known.active() if self._tasks is None or one.task in self._tasks}
        present: dict[str, Line] = {}
        for line in others:
            key = line.outbox.audience.subscriber
            if line.of == wanted.get(key):
                present[key] = line
            else:
                self._ended = [self._ended[0] + line.outbox.sent, self._ended[1] + line.outbox.refused]
        self._lines = [first, *(present.get(key) or self._line(one) for key, one in wanted.items())]
        return self._lines

    def _settings_envelope(self) -> Envelope:
        recipients = self._subscribers.subscribed(self._envelope.recipients)
        if TOKEN in self._envelope.unsubscribe and len(recipients) == 1:
            self._subscribers.note(recipients[0], self._clock())
        return self._addressed("", recipients)

    def _line(self, one: Subscriber) -> Line:
        envelope = self._addressed(one.task, (one.address,))
        outbox = self._outbox(Audience(envelope, frozenset({one.task}), one.key, one.since))
        return Line(outbox, self._schedule and Schedule(one.cron, one.zone), one)

    def _addressed(self, task: str, recipients: tuple[str, ...]) -> Envelope:
        keys = [subscriber_key(task, one) for one in recipients]
        link = unsubscribe_link(self._envelope.unsubscribe, self._key, keys, self._envelope.sender)
        return replace(self._envelope, recipients=recipients, unsubscribe=link)

    def _outbox(self, audience: Audience) -> Outbox:
        return Outbox(self._member, self._mailer, self._mails, self._clock, audience, self._drawn)

    def _follow(self, timeout_s: float) -> None:
        """Take note of assignments. Messages themselves are read when a slot is due."""
        self._member.poll(1_000, timeout_s)

    def _forget(self, *_: object) -> None:
        for line in self._lines:
            line.outbox.forget()
            line.looked_at_ms = None
