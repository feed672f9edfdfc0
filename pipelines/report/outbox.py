"""The outbox: a digest's mail is due, sending, then sent or unknown; each step is a record on `mails`.

A mail pins its content (`Mail.ends`) and its date, so a restart composes the same bytes. The commit on `reports`
moves in the same transaction that records `sent` (or `unknown`). What is found `sending` at a start may or may not
have gone out: an idempotent mailer is asked again, for any other it is recorded `unknown` and left to a person.

Each record is fenced by a commit: a process that was overtaken is refused. Where several processes share the
partitions, what is in a mail that is found `sending` waits until one of them has all of that mail's partitions.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Literal

import msgspec

from headrace.pipelines.report.compose import Envelope, compose
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.topics import MAILS, REPORTS, newest, partition_messages, records
from headrace.schemas.errors import UnavailableError
from headrace.schemas.ports import Commit, Mailer, Record
from headrace.schemas.records import Mail, Report

logger = logging.getLogger(__name__)

MAX_REPORTS = 200
"""Reports of a partition in one digest; more wait for the next one, which follows at once."""

State = Literal["due", "sending", "sent", "unknown"]


class Outbox:
    """The mails of the partitions that a member of the group has. tasks: whose reports are sent; None for all."""

    def __init__(self, member: Member, mailer: Mailer, envelope: Envelope, tasks: frozenset[str] | None) -> None:
        self.sent = 0
        self.undelivered = False  # whether the mailer did not answer the last time that it was asked
        self._member = member
        self._mailer = mailer
        self._envelope = envelope
        self._tasks = tasks
        self._open: list[Mail] | None = None  # None: the log is yet to be asked
        self._held: set[int] = set()  # partitions whose next reports may have gone out already
        self._handed_over = ""

    @property
    def waiting(self) -> int:
        """Mails that are due and not sent yet; from any thread."""
        return len(self._open or ())

    def forget(self) -> None:
        """Ask the log again which mails are open: another process may have gone on."""
        self._open = None
        self.undelivered = False

    def recover(self) -> Iterator[str]:
        """Finish what a start found, or what could not be handed over the last time; yields the ids of what is sent."""
        if self._open is None:
            mails = newest(self._member.log, MAILS, Mail).values()
            self._open = self._ours([mail for mail in mails if mail.state in {"due", "sending"}])
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
        mine = self._member.offsets.keys()
        shared = [
            mail for mail in mails if mail.state == "sending" and mail.ends.keys() & mine and mail.ends.keys() - mine
        ]
        self._held = {partition for mail in shared for partition in mail.ends}
        for mail in shared:
            what = "it was being sent, and several processes share its partitions: their reports wait until one has all"
            logger.warning("digest %s: %s of %s", mail.digest_id, what, sorted(mail.ends))
        return [mail for mail in mails if mail.ends.keys() <= mine]

    def ends(self, slot_ms: int | None) -> dict[int, int]:
        """Return, by partition with any, where the reports end that were appended before the slot."""
        ends = {}
        for partition, commit in sorted(self._member.offsets.items()):
            if partition in self._held:
                continue
            batch = self._member.log.read(REPORTS, partition, commit, MAX_REPORTS)
            before = len(batch) if slot_ms is None else int((batch.append_ts < slot_ms).sum())
            if before:
                ends[partition] = int(batch.offsets[before - 1]) + 1
        return ends

    def send(self, ends: dict[int, int], slot_ms: int | None, now_ms: int) -> Iterator[str]:
        """Make a digest of the reports up to the ends due, then deliver it; yields its id."""
        reports = self._reports(ends)
        if not reports:
            self._commit(ends, ends)
            return
        digest_id = identity(self._member.log.topic(REPORTS).identity, {one.task for one in reports}, slot_ms, ends)
        self._open = [self._record(Mail(digest_id, "due", now_ms, ends), "due")]
        yield from self.recover()

    def _deliver(self, mail: Mail) -> Iterator[str]:
        reports = self._reports(mail.ends)
        if not reports:
            logger.error("digest %s: its reports are gone, or in other digests; it is not sent", mail.digest_id)
            self._record(mail, "unknown", mail.ends)
            return
        message = compose(reports, mail.digest_id, mail.ts, self._envelope)
        if mail.state == "due":
            self._remember(self._record(mail, "sending"))
        self.undelivered = True
        try:
            self._mailer.send(message, mail.digest_id)
        except UnavailableError:
            # An adapter says so only when nothing was handed over.
            self._remember(msgspec.structs.replace(mail, state="due"))
            self._record(mail, "due")
            raise
        self.undelivered = False
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
        self._commit(mail.ends, ends or {}, [Record(MAILS, mail.digest_id.encode(), msgspec.json.encode(mail))])
        return mail

    def _commit(self, partitions: Iterable[int], ends: Mapping[int, int], outputs: Iterable[Record] = ()) -> None:
        """Commit. Where nothing moves the old offset is committed again: that fences a second process.

        It never moves back: a mail that is found late may have its reports in other digests.
        """
        commits = {p: Commit(max(ends.get(p, 0), self._member.offsets[p])) for p in partitions}
        self._member.commit(commits, list(outputs))
        for partition, commit in commits.items():
            self._member.advance(partition, commit.offset)

    def _reports(self, ends: Mapping[int, int]) -> list[Report]:
        """Read the reports between the commit and `ends`; what is no report is passed over."""
        batches = (
            batch
            for partition, end in sorted(ends.items())
            for batch in partition_messages(self._member.log, REPORTS, partition, self._member.offsets[partition], end)
        )
        return [r for r in records(batches, Report) if self._tasks is None or r.task in self._tasks]


def identity(log_identity: str, tasks: set[str], slot_ms: int | None, ends: Mapping[int, int]) -> str:
    """Return a digest's id: it depends on its log, its tasks, its slot and its last reports' offsets alone."""
    content = json.dumps([log_identity, sorted(tasks), slot_ms, sorted(ends.items())])
    when = "now" if slot_ms is None else f"{datetime.fromtimestamp(slot_ms / 1000, UTC):%Y%m%dT%H%MZ}"
    return f"digest-{when}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
