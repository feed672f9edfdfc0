"""digest: reports in, one e-mail a slot out; never twice.

    reports ─► slot due? ─► mails: due ─► sending ─► mailer ─► mails: sent, with the commit

The log is the state. Group `digest` on `reports` says which reports were in a digest; `mails` is the outbox. Where
several processes share the partitions, each sends a digest of its own part; one that was overtaken joins again.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator

from headrace.pipelines.report.compose import Envelope
from headrace.pipelines.report.outbox import Outbox
from headrace.pipelines.report.schedule import Schedule
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.runtime.retry import Backoff
from headrace.pipelines.runtime.stop import Stop, paused
from headrace.pipelines.topics import REPORTS
from headrace.schemas.errors import CommitConflictError, UnavailableError
from headrace.schemas.ports import Assigned, Clock, Log, Mailer

logger = logging.getLogger(__name__)

GROUP = "digest"
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 600.0


class Digest:
    """The job. Uses a log and a mailer, nothing else.

    tasks: whose reports are sent; None for all. One process is enough: a second one shares the partitions and sends a
    digest of its own part.
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
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._timer = timer
        self._schedule = schedule
        self._member = Member(
            log, GROUP, REPORTS, on_assign=self._assign, on_revoke=lambda _partition: self.outbox.forget()
        )
        self.outbox = Outbox(self._member, mailer, envelope, tasks)
        self._looked_at_ms: int | None = None
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
                self.step(timeout_s=1.0)
            except UnavailableError as error:
                stop.liveness.failed(error, "mail" if self.outbox.undelivered else "log")
                logger.warning("digest: %s; trying again", error)
                paused(stop, 1.0)
            else:
                if not self.outbox.undelivered:  # the mailer is asked again once its wait is over
                    stop.liveness.answered()

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """The commits of the partitions that this process has, by topic and partition; from any thread."""
        return self._member.positions

    def step(self, timeout_s: float = 0.0) -> list[str]:
        """Do what is due now; returns the ids of what was sent. Raises UnavailableError; the mail stays due.

        Where another process has gone on, this one does nothing, and joins again with the next step.
        """
        self._follow(timeout_s)
        if self._schedule is None or not self._member.offsets or self._timer() < self._retry_s:
            return []
        try:
            return list(self._due(self._schedule))
        except UnavailableError:
            self._retry_s = self._timer() + self._backoff.next_s()
            raise
        except CommitConflictError:
            self.outbox.forget()
            return []

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
        try:
            sent = list(self.outbox.recover())
            while ends := self.outbox.ends(None):
                sent += self.outbox.send(ends, None, self._clock())
        except CommitConflictError as error:
            raise CommitConflictError(
                "digest: another process sends digests of the same reports: no report is mailed twice; "
                "run it again for what is in none yet"
            ) from error
        return sent

    def _due(self, schedule: Schedule) -> Iterator[str]:
        yield from self.outbox.recover()
        slot_ms = schedule.latest(self._clock())
        # Append times never run back: a slot that had nothing (left) will never have anything.
        while slot_ms != self._looked_at_ms:
            ends = self.outbox.ends(slot_ms)
            if ends:
                yield from self.outbox.send(ends, slot_ms, self._clock())
            else:
                self._looked_at_ms = slot_ms
        self._backoff.reset()
        self._retry_s = -math.inf

    def _follow(self, timeout_s: float) -> None:
        """Take note of assignments. Messages themselves are read when a slot is due."""
        self._member.poll(1_000, timeout_s)

    def _assign(self, _event: Assigned) -> None:
        self.outbox.forget()
        self._looked_at_ms = None
