"""digest: reports in, one e-mail a slot out; never twice.

    reports ─► slot due? ─► mails: due ─► sending ─► mailer ─► mails: sent, with the commit

The log is the state. Group `digest` on `reports` says which reports were in a digest; `mails` is the outbox.
A mail pins its content (`Mail.ends`) and its date, so a restart composes the same bytes. The commit moves in
the same transaction that records `sent` (or `unknown`). What is found `sending` at a start may or may not have
gone out: an idempotent mailer is asked again, for any other it is recorded `unknown` and left to a person.

Each record is fenced by a commit: a process that was overtaken is refused, and joins again. Where several processes
share the partitions, each sends a digest of its own part; but what is in a mail that is found `sending` waits until one
of them has all of that mail's partitions.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
from cronsim import CronSim, CronSimError

from headrace.pipelines.report.compose import Envelope, compose
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.topics import MAILS, REPORTS, newest, partition_messages, records
from headrace.schemas.errors import CommitConflictError, SettingsError, UnavailableError
from headrace.schemas.ports import Assigned, Clock, Commit, Log, Mailer, Record
from headrace.schemas.records import Mail, Report

logger = logging.getLogger(__name__)

GROUP = "digest"
MAX_REPORTS = 200
"""Reports of a partition in one digest; more wait for the next one, which follows at once."""
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 600.0
_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

State = Literal["due", "sending", "sent", "unknown"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression of five fields, or `@daily` and its like, in an IANA time zone.

    Local times that a clock change skips are due when it is over; those that it repeats are due the first time.
    """

    cron: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        """Raise SettingsError for what is no cron expression, never comes, or is in no time zone."""
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError) as error:
            raise SettingsError(f"time zone {self.zone!r} is unknown; write it as in Europe/Zurich") from error
        remedy = "five fields, as in `0 8 * * 1`: Mondays at 8:00"
        try:
            came = next(self._slots(datetime(2026, 1, 1, tzinfo=UTC)), None)
        except (CronSimError, ValueError) as error:
            raise SettingsError(f"schedule {self.cron!r} is no cron expression ({error}); it has {remedy}") from error
        if came is None:
            raise SettingsError(f"schedule {self.cron!r} never comes; it has {remedy}")

    def latest(self, now_ms: int) -> int:
        """Return the last slot at or before `now_ms`, both in ms UTC."""
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        return next(int(slot.timestamp() * 1000) for slot in self._slots(now) if slot <= now)

    def _slots(self, now: datetime) -> Iterator[datetime]:
        """Return the slots before some three hours from now, the last first: a local time may come twice until then."""
        minute, hour, *days = _NAMED.get(self.cron, self.cron).upper().split()
        if len(days) != 3:
            raise ValueError("wrong number of fields")
        # CronSim heeds clock changes, as Debian's cron does, only where neither of these begins with a star.
        # Where both days are restricted, either is enough; a star with a step restricts too.
        day, month, weekday = days[0].replace("*/", "1-31/"), days[1], days[2].replace("*/", "0-6/")
        fields = (minute.replace("*", "0-59"), hour.replace("*", "0-23"), day, month, weekday)
        cron = " ".join(fields).replace("?", "*").replace("-SUN", "-7")
        return CronSim(cron, now.astimezone(ZoneInfo(self.zone)) + timedelta(hours=3), reverse=True)


class Digest:
    """The job. Uses a log and a mailer, nothing else.

    tasks: whose reports are sent; None for all. One process is enough: a second one shares the partitions and sends
    a digest of its own part.
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
        self._log = log
        self._mailer = mailer
        self._clock = clock
        self._timer = timer
        self._envelope = envelope
        self._schedule = schedule
        self._tasks = tasks
        self.sent = 0
        self._member = Member(log, GROUP, REPORTS, on_assign=self._assign, on_revoke=self._revoke)
        self._commits = self._member.offsets
        self._open: list[Mail] | None = None
        self._held: set[int] = set()  # partitions whose next reports may have gone out already
        self._handed_over = ""
        self._looked_at_ms: int | None = None
        # By the timer: a clock that is set back must not keep a mail waiting.
        self._retry_s, self._wait_s = -math.inf, FIRST_WAIT_S

    def close(self) -> None:
        """Leave the group."""
        self._member.close()

    def run(self, stop: Stop) -> None:
        """Send on schedule until a stop is requested; a dependency that is down is tried again."""
        while not stop.requested:
            stop.pulse.beat()
            try:
                self.step(timeout_s=1.0)
            except UnavailableError as error:
                stop.pulse.failed(error)
                logger.warning("digest: %s; trying again", error)
                time.sleep(1.0)
            else:
                stop.pulse.answered()

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """The commits of the partitions that this process has, by topic and partition; from any thread."""
        return self._member.positions

    @property
    def waiting(self) -> int:
        """Mails that are due and not sent yet; from any thread."""
        return len(self._open or ())

    def step(self, timeout_s: float = 0.0) -> list[str]:
        """Do what is due now; returns the ids of what was sent. Raises UnavailableError; the mail stays due.

        Where another process has gone on, this one does nothing, and joins again with the next step.
        """
        self._follow(timeout_s)
        if self._schedule is None or not self._commits or self._timer() < self._retry_s:
            return []
        try:
            return list(self._due(self._schedule))
        except UnavailableError:
            self._retry_s = self._timer() + self._wait_s
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
            raise
        except CommitConflictError:
            self._open = None
            return []

    def send_now(self, polls: int = 30) -> list[str]:
        """Send what is not in a digest yet, without a schedule; raises UnavailableError, the mail stays due.

        Raises CommitConflictError where another process sends the same meanwhile; no report is mailed twice by that.
        polls: of a second each, to wait for partitions when none is assigned yet.
        """
        self._follow(0.0)
        for _ in range(polls):
            if self._commits:
                break
            self._follow(1.0)
        else:
            raise UnavailableError(f"digest: no partition of {REPORTS} was assigned in {polls} s; is another running?")
        try:
            sent = list(self._recover())
            while ends := self._ends(None):
                sent += self._start(ends, None)
        except CommitConflictError as error:
            raise CommitConflictError(
                "digest: another process sends digests of the same reports: no report is mailed twice; "
                "run it again for what is in none yet"
            ) from error
        return sent

    def _due(self, schedule: Schedule) -> Iterator[str]:
        yield from self._recover()
        slot_ms = schedule.latest(self._clock())
        # Append times never run back: a slot that had nothing (left) will never have anything.
        while slot_ms != self._looked_at_ms:
            ends = self._ends(slot_ms)
            if ends:
                yield from self._start(ends, slot_ms)
            else:
                self._looked_at_ms = slot_ms
        self._retry_s, self._wait_s = -math.inf, FIRST_WAIT_S

    def _follow(self, timeout_s: float) -> None:
        """Take note of assignments. Messages themselves are read when a slot is due."""
        self._member.poll(1_000, timeout_s)

    def _assign(self, _event: Assigned) -> None:
        self._open, self._looked_at_ms = None, None

    def _revoke(self, _partition: int) -> None:
        self._open = None

    def _recover(self) -> Iterator[str]:
        """Finish what a start found in the outbox, or what could not be handed over the last time."""
        if self._open is None:
            self._open = self._ours(self._outbox())
        while self._open:
            mail = self._open[0]
            if mail.digest_id == self._handed_over:
                self._record(mail, "sent", mail.ends)
            elif mail.state == "sending" and not self._mailer.idempotent:
                logger.error("digest %s: a crash while it was sent; it is not sent again", mail.digest_id)
                self._record(mail, "unknown", mail.ends)
            else:
                yield from self._deliver(mail)
            self._open.pop(0)

    def _ours(self, mails: list[Mail]) -> list[Mail]:
        """Return the mails whose partitions this process has, and hold what one that it shares may have sent."""
        mine = self._commits.keys()
        shared = [
            mail for mail in mails if mail.state == "sending" and mail.ends.keys() & mine and mail.ends.keys() - mine
        ]
        self._held = {partition for mail in shared for partition in mail.ends}
        for mail in shared:
            what = "it was being sent, and several processes share its partitions: their reports wait until one has all"
            logger.warning("digest %s: %s of %s", mail.digest_id, what, sorted(mail.ends))
        return [mail for mail in mails if mail.ends.keys() <= mine]

    def _outbox(self) -> list[Mail]:
        """Return the mails whose last state is due or sending."""
        mails = newest(self._log, MAILS, Mail)
        return [mail for mail in mails.values() if mail.state in {"due", "sending"}]

    def _ends(self, slot_ms: int | None) -> dict[int, int]:
        """Return, by partition with any, where the reports end that were appended before the slot."""
        ends = {}
        for partition, commit in sorted(self._commits.items()):
            if partition in self._held:
                continue
            batch = self._log.read(REPORTS, partition, commit, MAX_REPORTS)
            before = len(batch) if slot_ms is None else int((batch.append_ts < slot_ms).sum())
            if before:
                ends[partition] = int(batch.offsets[before - 1]) + 1
        return ends

    def _start(self, ends: dict[int, int], slot_ms: int | None) -> Iterator[str]:
        """Make a digest due, then deliver it."""
        reports = self._reports(ends)
        if not reports:
            self._commit(ends)
            return
        log_identity = self._log.topic(REPORTS).identity
        digest_id = identity(log_identity, {report.task for report in reports}, slot_ms, ends)
        mail = self._record(Mail(digest_id, "due", self._clock(), ends), "due")
        self._open = [mail]
        yield from self._recover()

    def _deliver(self, mail: Mail) -> Iterator[str]:
        reports = self._reports(mail.ends)
        if not reports:
            logger.error("digest %s: its reports are gone, or in other digests; it is not sent", mail.digest_id)
            self._record(mail, "unknown", mail.ends)
            return
        message = compose(reports, mail.digest_id, mail.ts, self._envelope)
        if mail.state == "due":
            self._remember(self._record(mail, "sending"))
        try:
            self._mailer.send(message, mail.digest_id)
        except UnavailableError:
            # An adapter says so only when nothing was handed over.
            self._remember(msgspec.structs.replace(mail, state="due"))
            self._record(mail, "due")
            raise
        # From here on a log that is down must not bring about a second mail.
        self._handed_over = mail.digest_id
        self.sent += 1
        self._record(mail, "sent", mail.ends)
        logger.info("digest %s sent: %s", mail.digest_id, message["Subject"])
        yield mail.digest_id

    def _remember(self, mail: Mail) -> None:
        """Note the first open mail's state in memory, for a retry in this process."""
        self._open = [mail, *(self._open or [])[1:]]

    def _record(self, mail: Mail, state: State, ends: Mapping[int, int] | None = None) -> Mail:
        """Append the mail's new state; with `ends`, move the commit in the same transaction."""
        mail = msgspec.structs.replace(mail, state=state)
        self._commit(ends or {}, [Record(MAILS, mail.digest_id.encode(), msgspec.json.encode(mail))], mail)
        return mail

    def _commit(self, ends: Mapping[int, int], outputs: Iterable[Record] = (), mail: Mail | None = None) -> None:
        """Commit. Where nothing moves the old offset is committed again: that fences a second process.

        It never moves back: a mail that is found late may have its reports in other digests.
        """
        partitions = mail.ends if mail else ends
        commits = {p: Commit(max(ends.get(p, 0), self._commits[p])) for p in partitions}
        self._member.commit(commits, list(outputs))
        for partition, commit in commits.items():
            self._member.advance(partition, commit.offset)

    def _reports(self, ends: Mapping[int, int]) -> list[Report]:
        """Read the reports between the commit and `ends`; what is no report is passed over."""
        batches = (
            batch
            for partition, end in sorted(ends.items())
            for batch in partition_messages(self._log, REPORTS, partition, self._commits[partition], end)
        )
        return [r for r in records(batches, Report) if self._tasks is None or r.task in self._tasks]


def identity(log_identity: str, tasks: set[str], slot_ms: int | None, ends: Mapping[int, int]) -> str:
    """Return a digest's id: it depends on its log, its tasks, its slot and its last reports' offsets alone."""
    content = json.dumps([log_identity, sorted(tasks), slot_ms, sorted(ends.items())])
    when = "now" if slot_ms is None else f"{datetime.fromtimestamp(slot_ms / 1000, UTC):%Y%m%dT%H%MZ}"
    return f"digest-{when}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
