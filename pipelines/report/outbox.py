"""The outbox: a digest's mail is due, sending, then sent, refused or unknown; each step is a record on `mails`.

A mail pins its content (`Mail.ends`) and its date, so a restart composes the same bytes. Where an audience has got to
is the commit on `reports` for the settings' recipients, and for a subscriber the ends of its own mails: both move in
the transaction that records how a mail ended. What is found `sending` at a start may or may not have gone out: an
idempotent mailer is asked again, for any other it is recorded `unknown` and left to a person.

Each record is fenced by a commit: a process that was overtaken is refused. Where several processes share the
partitions, what is in a mail that is found `sending` waits until one of them has all of that mail's partitions.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from msgspec.structs import replace

from headrace.pipelines.report.compose import Drawn, Envelope, compose
from headrace.pipelines.report.mails import Mails
from headrace.pipelines.runtime.member import Member
from headrace.pipelines.topics import MAILS, REPORTS, partition_messages, records
from headrace.schemas.errors import UnavailableError
from headrace.schemas.ports import Clock, Commit, Mailer, Record
from headrace.schemas.records import WORDS_MAX, Mail, MailState, Report, Verdict, VerdictState, mailbox

logger = logging.getLogger(__name__)

MAX_REPORTS = 200
"""Reports of a partition in one digest; more wait for the next one, which follows at once."""

CRASHED = Verdict("unknown", "the process ended while it was sent")
GIVE_UP_MS = 86_400_000
"""How long a recipient whose server asks for later is asked again. Its next digests wait meanwhile."""


@dataclass(frozen=True, slots=True)
class Audience:
    """To whom a digest goes, and of which reports.

    tasks: None for all. subscriber: its key, "" for the settings' recipients. since: by partition, where a
    subscriber begins.
    """

    envelope: Envelope
    tasks: frozenset[str] | None = None
    subscriber: str = ""
    since: Mapping[int, int] = field(default_factory=dict)


class Outbox:
    """An audience's mails, as far as a member of the group has their partitions."""

    def __init__(
        self, member: Member, mailer: Mailer, mails: Mails, clock: Clock, audience: Audience, drawn: Drawn
    ) -> None:
        self.sent = self.refused = 0
        self.undelivered = False  # whether the mailer did not answer the last time that it was asked
        self.deferred = ""  # why the first open mail must wait: what a recipient's server said
        self._member = member
        self._mailer = mailer
        self._mails = mails
        self._clock = clock
        self._drawn = drawn  # what audiences of the same reports share
        self.audience = audience
        self._open: list[Mail] | None = None  # None: the log is yet to be asked
        self._held: set[int] = set()  # partitions whose next reports may have gone out already
        self._passed: dict[int, int] = {}  # of a subscriber: before these offsets nothing is left to send
        self._settled: Mail | None = None  # how the last mail ended, which the log may not know yet

    @property
    def waiting(self) -> int:
        """Mails that are due and not sent yet; from any thread."""
        return len(self._open or ())

    def forget(self) -> None:
        """Ask the log again which mails are open: another process may have gone on."""
        self._open = None
        self._passed.clear()
        self.undelivered = False

    def recover(self) -> Iterator[str]:
        """Finish what a start found, or what could not be handed over the last time; yields the ids of what is sent.

        It ends early, with `deferred` set, where a recipient's server asks for later.
        """
        self.deferred = ""
        if self._open is None:
            self._open = self._ours(self._mails.refresh().open(self.audience.subscriber))
        while self._open:
            mail = self._open[0]
            sent = False
            if self._settled and mail.digest_id == self._settled.digest_id:
                self._record(self._settled, mail.ends)
            elif mail.state == "sending" and not self._mailer.idempotent:
                logger.error("digest %s: a crash while it was sent; it is not sent again", mail.digest_id)
                verdicts = mail.verdicts | dict.fromkeys(self._left(mail), CRASHED)
                self._record(replace(mail, state="unknown", verdicts=verdicts), mail.ends)
            else:
                mail = self._deliver(mail)
                if mail.state == "due":
                    return
                sent = mail.state == "sent"
            self._open.pop(0)
            if sent:
                yield mail.digest_id

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
        for partition in sorted(self._member.offsets):
            if partition in self._held:
                continue
            batch = self._member.log.read(REPORTS, partition, self._begin(partition), MAX_REPORTS)
            before = len(batch) if slot_ms is None else int((batch.append_ts < slot_ms).sum())
            if before:
                ends[partition] = int(batch.offsets[before - 1]) + 1
        return ends

    def send(self, ends: dict[int, int], slot_ms: int | None) -> Iterator[str]:
        """Make a digest of the reports up to the ends due, then deliver it; yields its id."""
        reports = self._reports(ends)
        if not reports or not self.audience.envelope.recipients:
            self._commit(ends, ends)
            return
        subscriber = self.audience.subscriber
        topic, tasks = self._member.log.topic(REPORTS).identity, {one.task for one in reports}
        mail = Mail(identity(topic, tasks, slot_ms, ends, subscriber), "due", self._clock(), ends, subscriber)
        self._record(mail)
        self._open = [mail]
        yield from self.recover()

    def _deliver(self, mail: Mail) -> Mail:
        """Hand a mail over, and return it in the state that it is in then; `due` where it must wait."""
        reports = self._reports(mail.ends)
        if not reports:
            logger.error("digest %s: its reports are gone, or in other digests; it is not sent", mail.digest_id)
            return self._record(replace(mail, state="unknown"), mail.ends)
        message = compose(reports, mail.digest_id, mail.ts, self.audience.envelope, self._drawn)
        if mail.state == "due":
            self._remember(self._record(replace(mail, state="sending")))
        self.undelivered = True
        left = self._left(mail)
        try:
            verdicts = self._mailer.send(message, mail.digest_id, left) if left else {}
        except UnavailableError:
            # An adapter says so only when nothing was handed over.
            self._remember(replace(mail, state="due"))
            self._record(replace(mail, state="due"))
            raise
        self.undelivered = False
        return self._settle(replace(mail, verdicts=mail.verdicts | verdicts))

    def _left(self, mail: Mail) -> list[str]:
        """Return the recipients that have no verdict yet, or whose server asked for later."""
        addresses = dict.fromkeys(map(mailbox, self.audience.envelope.recipients))
        return [one for one in addresses if one not in mail.verdicts or mail.verdicts[one].state == "deferred"]

    def _settle(self, mail: Mail) -> Mail:
        """Record what became of a mail that was handed over, and return it so."""
        mail = settled(mail, self._clock())
        for address, verdict in mail.verdicts.items():
            if verdict.state != "accepted":
                logger.warning("digest %s: %s: %s: %s", mail.digest_id, address, verdict.state, verdict.words)
        if mail.state == "due":
            self.deferred = "; ".join(f"{a}: {v.words}" for a, v in mail.verdicts.items() if v.state == "deferred")
            self._remember(mail)  # who has it already gets no second one, should the log be down now
            return self._record(mail)
        # From here on a log that is down must not bring about a second mail.
        self._settled = mail
        self.sent += mail.state == "sent"
        self.refused += mail.state == "refused"
        self._record(mail, mail.ends)
        logger.info("digest %s: %s", mail.digest_id, mail.state)
        return mail

    def _remember(self, mail: Mail) -> None:
        """Note the first open mail's state in memory, for a retry in this process."""
        self._open = [mail, *(self._open or [])[1:]]

    def _record(self, mail: Mail, ends: Mapping[int, int] | None = None) -> Mail:
        """Append the mail's state; with `ends`, move on to them in the same transaction."""
        self._commit(mail.ends, ends or {}, [Record(MAILS, mail.digest_id.encode(), msgspec.json.encode(mail))])
        return mail

    def _commit(self, partitions: Iterable[int], ends: Mapping[int, int], outputs: Iterable[Record] = ()) -> None:
        """Commit. Where nothing moves the old offset is committed again: that fences a second process.

        It never moves back: a mail that is found late may have its reports in other digests.
        """
        moved = {} if self.audience.subscriber else ends
        commits = {p: Commit(max(moved.get(p, 0), self._member.offsets[p])) for p in partitions}
        self._member.commit(commits, list(outputs))
        for partition, commit in commits.items():
            self._member.advance(partition, commit.offset)
        self._passed.update({p: max(end, self._passed.get(p, 0)) for p, end in ends.items()})

    def _begin(self, partition: int) -> int:
        """Return the offset from which on reports are in none of the audience's mails."""
        audience = self.audience
        if not audience.subscriber:
            return self._member.offsets[partition]
        known = (audience.since, self._mails.ends(audience.subscriber), self._passed)
        return max(ends.get(partition, 0) for ends in known)

    def _reports(self, ends: Mapping[int, int]) -> list[Report]:
        """Read the audience's reports up to `ends` that are in none of its mails; what is no report is passed over."""
        batches = (
            batch
            for partition, end in sorted(ends.items())
            for batch in partition_messages(self._member.log, REPORTS, partition, self._begin(partition), end)
        )
        tasks = self.audience.tasks
        return [report for report in records(batches, Report) if tasks is None or report.task in tasks]


def settled(mail: Mail, now_ms: int) -> Mail:
    """Return a mail with the state that its verdicts mean. A recipient that was deferred for too long is refused."""
    verdicts = dict(mail.verdicts)
    if now_ms - mail.ts > GIVE_UP_MS:
        for address, verdict in verdicts.items():
            if verdict.state == "deferred":
                verdicts[address] = Verdict("refused", f"given up after a day: {verdict.words}"[:WORDS_MAX])
    found = {verdict.state for verdict in verdicts.values()}
    states: tuple[tuple[VerdictState, MailState], ...] = (
        ("deferred", "due"),
        ("unknown", "unknown"),
        ("accepted", "sent"),
    )
    state: MailState = next((state for said, state in states if said in found), "refused")
    return replace(mail, state=state, verdicts=verdicts)


def identity(
    log_identity: str, tasks: set[str], slot_ms: int | None, ends: Mapping[int, int], subscriber: str = ""
) -> str:
    """Return a digest's id: it depends on its log, tasks, slot, last reports' offsets and subscriber alone."""
    content = json.dumps([log_identity, sorted(tasks), slot_ms, sorted(ends.items())]) + subscriber
    when = "now" if slot_ms is None else f"{datetime.fromtimestamp(slot_ms / 1000, UTC):%Y%m%dT%H%MZ}"
    return f"digest-{when}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
