"""The digest job: when it sends, what it puts in the outbox, and that no crash makes it send twice."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from headrace.pipelines.report.compose import Envelope
from headrace.pipelines.report.job import GROUP, Digest
from headrace.pipelines.report.mails import Told
from headrace.pipelines.report.outbox import CRASHED
from headrace.pipelines.report.recipients import recipients
from headrace.pipelines.report.schedule import Schedule
from headrace.pipelines.topics import MAILS, REPORTS
from headrace.schemas.errors import CommitConflictError, SettingsError, UnavailableError
from headrace.schemas.ports import Record
from headrace.schemas.records import Fact, Facts, Mail, Narrative, Report, Sentence, Verdict
from headrace.sinks.files.mail import FileMailer
from headrace.sinks.sqlite.log import SqliteLog

ENVELOPE = Envelope("headrace <headrace@example.org>", ("boss@example.org",), "mailto:headrace@example.org")
HOUR = 3_600_000
NEW_YEAR = 1_767_225_600_000
"""2026-01-01T00:00Z."""


class Clock:
    def __init__(self) -> None:
        self.now = NEW_YEAR

    def __call__(self) -> int:
        return self.now


class Mailer:
    """Keeps what it was given; raises what it is told to, before or after it took the mail."""

    idempotent = False

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.before: BaseException | None = None
        self.after: BaseException | None = None
        self.verdicts: dict[str, Verdict] = {}

    def send(self, message: EmailMessage, digest_id: str, recipients: Sequence[str]) -> dict[str, Verdict]:
        if self.before:
            raise self.before
        self.sent.append((digest_id, message.as_bytes()))
        if self.after:
            raise self.after
        return {address: self.verdicts.get(address, Verdict("accepted")) for address in recipients}


class KillError(BaseException):
    """The process dies here."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> Iterator[SqliteLog]:
    log = SqliteLog(tmp_path / "log.db", clock)
    log.create(REPORTS, 2)
    log.create(MAILS, 1)
    yield log
    log.close()


def report(number: int, task: str = "cloud") -> Record:
    facts = Facts(task, f"v{number}", (Fact("version.policy", "this version", number, "version"),))
    narrative = Narrative("template", Sentence("{version.policy} serves now"), ())
    made = Report(f"{task}.version.{number}", task, "version", 0, 0, number, facts, narrative, {})
    return Record(REPORTS, made.report_id.encode(), msgspec.json.encode(made))


def states(log: SqliteLog) -> list[str]:
    batch = log.read(MAILS, 0, 0, 100)
    return [msgspec.json.decode(value, type=Mail).state for value in batch.values if value]


def job(log: SqliteLog, mailer: object, clock: Clock, cron: str | None = "0 8 * * *", **options: object) -> Digest:
    schedule = Schedule(cron) if cron else None
    return Digest(log, mailer, clock, ENVELOPE, schedule=schedule, **options)  # type: ignore[arg-type]


def test_a_slot_sends_what_came_before_it_once(log: SqliteLog, clock: Clock) -> None:
    mailer = Mailer()
    digest = job(log, mailer, clock)
    log.send([report(1), report(2)])
    assert digest.step() == []
    clock.now += 8 * HOUR + 1
    log.send([report(3)])
    assert digest.step() == [mailer.sent[0][0]]
    assert digest.step() == []
    assert b"v2 serves" in mailer.sent[0][1]
    assert b"v3 serves" not in mailer.sent[0][1]
    assert states(log) == ["due", "sending", "sent"]
    clock.now += 24 * HOUR
    digest.step()
    assert b"v3 serves" in mailer.sent[1][1]
    digest.close()


def test_after_a_long_downtime_there_is_one_digest_for_all_slots(log: SqliteLog, clock: Clock) -> None:
    mailer = Mailer()
    log.send([report(1)])
    clock.now += 100 * 24 * HOUR
    digest = job(log, mailer, clock)
    digest.step()
    digest.step()
    assert len(mailer.sent) == 1
    digest.close()


def test_without_reports_nothing_is_sent(log: SqliteLog, clock: Clock) -> None:
    digest = job(log, Mailer(), clock)
    clock.now += 30 * HOUR
    assert digest.step() == []
    assert states(log) == []
    digest.close()


def test_once_sends_now_and_then_has_nothing_to_send(log: SqliteLog, clock: Clock) -> None:
    mailer = Mailer()
    log.send([report(1)])
    digest = job(log, mailer, clock, cron=None)
    assert len(digest.send_now()) == 1
    assert digest.send_now() == []
    digest.close()
    again = job(log, mailer, clock, cron=None)
    assert again.send_now() == []
    again.close()


def test_the_bytes_depend_on_the_log_alone_and_the_id_tells_logs_apart(tmp_path: Path, clock: Clock) -> None:
    """A mail folder that served an older log must not swallow the new log's first digest."""
    sent = []
    for name in ("a", "b"):
        log = SqliteLog(tmp_path / name, clock)
        log.create(REPORTS, 2)
        log.create(MAILS, 1)
        log.send([report(1), report(2)])
        mailer = Mailer()
        digest = job(log, mailer, clock, cron=None)
        digest.send_now()
        sent.append(mailer.sent)
        digest.close()
        log.close()
    ((first_id, first),), ((second_id, second),) = sent
    assert first_id != second_id
    codes = [digest_id.rpartition("-")[2].encode() for digest_id in (first_id, second_id)]
    without_codes = [
        re.sub(rb"=_[0-9a-f]{24}", b"=_", data.replace(code, b""))
        for data, code in zip((first, second), codes, strict=True)
    ]
    assert without_codes[0] == without_codes[1]


@pytest.mark.parametrize("after", [False, True], ids=["before the mail went out", "after the mail went out"])
def test_a_crash_while_sending_is_recorded_unknown_and_never_sent_twice(
    log: SqliteLog, clock: Clock, after: bool
) -> None:
    mailer = Mailer()
    mailer.before, mailer.after = (None, KillError()) if after else (KillError(), None)
    log.send([report(1)])
    digest = job(log, mailer, clock, cron=None)
    with pytest.raises(KillError):
        digest.send_now()
    digest.close()
    mailer.before = mailer.after = None
    again = job(log, mailer, clock, cron=None)
    assert again.send_now() == []
    again.close()
    assert len(mailer.sent) == (1 if after else 0)
    assert recipients(log, ["boss@example.org"])[0].last == Told(clock.now, CRASHED)
    assert states(log) == ["due", "sending", "unknown"]
    # The reports are not sent in a later digest either, for the mail may have arrived.
    log.send([report(2)])
    third = job(log, mailer, clock, cron=None)
    third.send_now()
    third.close()
    assert b"v1 serves" not in mailer.sent[-1][1]


def test_an_idempotent_mailer_is_asked_again_with_the_same_bytes(log: SqliteLog, clock: Clock, tmp_path: Path) -> None:
    files = FileMailer(tmp_path / "mail")

    class Killed:
        idempotent = True

        def send(self, message: EmailMessage, digest_id: str, recipients: Sequence[str]) -> dict[str, Verdict]:
            files.send(message, digest_id, recipients)
            raise KillError

    log.send([report(1)])
    digest = job(log, Killed(), clock, cron=None)
    with pytest.raises(KillError):
        digest.send_now()
    digest.close()
    (path,) = (tmp_path / "mail").glob("*.eml")
    before = path.read_bytes()
    clock.now += HOUR
    log.send([report(2)])
    mailer = Mailer()
    mailer.idempotent = True
    again = job(log, mailer, clock, cron=None)
    assert len(again.send_now()) == 2
    again.close()
    assert mailer.sent[0][1].replace(b"\n", b"\r\n").replace(b"\r\r", b"\r") == before
    assert states(log) == ["due", "sending", "sent", "due", "sending", "sent"]


def test_a_crash_when_due_sends_the_same_mail_later(log: SqliteLog, clock: Clock) -> None:
    mailer = Mailer()
    log.send([report(1)])
    mail = Mail("digest-now-x", "due", clock.now, {0: 1} if log.bounds(REPORTS, 0)[1] else {1: 1})
    log.send([Record(MAILS, b"digest-now-x", msgspec.json.encode(mail)), report(2)])
    digest = job(log, mailer, clock, cron=None)
    assert digest.send_now()[0] == "digest-now-x"
    assert b"v1 serves" in mailer.sent[0][1]
    assert b"v2 serves" not in mailer.sent[0][1]
    digest.close()


def test_a_mailer_that_is_down_leaves_the_mail_due_and_is_tried_again(log: SqliteLog, clock: Clock) -> None:
    mailer = Mailer()
    mailer.before = UnavailableError("down")
    timer_s = 0.0
    digest = job(log, mailer, clock, timer=lambda: timer_s)
    log.send([report(1)])
    clock.now += 33 * HOUR
    for wait_s in (5.0, 10.0):
        with pytest.raises(UnavailableError):
            digest.step()
        assert states(log)[-3:] == ["due", "sending", "due"]
        timer_s += wait_s - 0.1
        clock.now += HOUR
        assert digest.step() == [], "it backs off, whatever the clock says"
        timer_s += 0.2
    mailer.before = None
    clock.now -= 4 * HOUR
    assert len(digest.step()) == 1, "a clock that was set back keeps no mail waiting"
    assert states(log)[-1] == "sent"
    digest.close()


def test_a_log_that_is_down_after_the_mail_went_out_sends_no_second_one(
    log: SqliteLog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailer = Mailer()
    log.send([report(1)])
    digest = job(log, mailer, clock, cron=None)
    record = digest.outbox._record

    def failing(mail: Mail, *rest: object) -> Mail:
        if mail.state == "sent":
            raise UnavailableError("down")
        return record(mail, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(digest.outbox, "_record", failing)
    with pytest.raises(UnavailableError):
        digest.send_now()
    monkeypatch.undo()
    digest.send_now()
    assert len(mailer.sent) == 1
    assert states(log) == ["due", "sending", "sent"]
    digest.close()


def test_what_is_no_report_or_another_tasks_is_passed_over(log: SqliteLog, clock: Clock) -> None:
    mailer = Mailer()
    log.send([Record(REPORTS, b"x", b"{"), report(1, "other")])
    digest = job(log, mailer, clock, cron=None, tasks=frozenset({"cloud"}))
    assert digest.send_now() == []
    assert sum(commit.offset for commit in log.committed(GROUP, REPORTS).values()) == 2
    digest.close()


def at(text: str, zone: str = "UTC", fold: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp() * 1000)


ZURICH = "Europe/Zurich"


@pytest.mark.parametrize(
    ("cron", "now", "slot"),
    [
        ("0 8 * * 1", at("2026-01-07T12:00", ZURICH), at("2026-01-05T08:00", ZURICH)),
        ("0 8 * * *", at("2026-07-01T08:00", ZURICH), at("2026-07-01T06:00")),
        ("0 8 * * *", at("2026-07-01T05:59"), at("2026-06-30T06:00")),
        # 2026-03-29: 02:00 to 03:00 does not exist; 02:30 is due when the gap is over.
        ("30 2 * * *", at("2026-03-29T00:59"), at("2026-03-28T01:30")),
        ("30 2 * * *", at("2026-03-29T01:00"), at("2026-03-29T01:00")),
        ("30 2 * * *", at("2026-03-30T00:30"), at("2026-03-30T00:30")),
        # 2026-10-25: 02:00 to 03:00 comes twice; 02:30 is due the first time, and only then.
        ("30 2 * * *", at("2026-10-25T02:29", ZURICH), at("2026-10-24T02:30", ZURICH)),
        ("30 2 * * *", at("2026-10-25T02:30", ZURICH), at("2026-10-25T00:30")),
        ("30 2 * * *", at("2026-10-25T02:45", ZURICH, fold=1), at("2026-10-25T00:30")),
        ("30 2 * * *", at("2026-10-25T12:00", ZURICH), at("2026-10-25T00:30")),
        ("30 2 * * *", at("2026-10-26T02:30", ZURICH), at("2026-10-26T01:30")),
        ("*/15 * * * *", at("2026-10-25T02:10", ZURICH, fold=1), at("2026-10-25T00:45")),
        ("@daily", at("2026-03-18T12:00", ZURICH), at("2026-03-18T00:00", ZURICH)),
        ("0 8 */2 * MON", at("2026-03-18T12:00", ZURICH), at("2026-03-17T08:00", ZURICH)),
        ("0 8 ? * sat-sun", at("2026-03-15T12:00", ZURICH), at("2026-03-15T08:00", ZURICH)),
        # Ranges that pass the field's end; 2026-03-16 is a Monday.
        ("0 8 * * FRI-MON", at("2026-03-19T12:00", ZURICH), at("2026-03-16T08:00", ZURICH)),
        ("0 8 * * FRI-MON", at("2026-03-20T12:00", ZURICH), at("2026-03-20T08:00", ZURICH)),
        ("0 8 * * 6-2,4", at("2026-03-20T12:00", ZURICH), at("2026-03-19T08:00", ZURICH)),
        ("0 8 * * 7-2", at("2026-03-21T12:00", ZURICH), at("2026-03-17T08:00", ZURICH)),
        ("0 8 * * 5-7", at("2026-03-16T07:00", ZURICH), at("2026-03-15T08:00", ZURICH)),
        ("0 22-2 * * *", at("2026-03-18T12:00", ZURICH), at("2026-03-18T02:00", ZURICH)),
        ("0 22-2 * * *", at("2026-03-18T22:30", ZURICH), at("2026-03-18T22:00", ZURICH)),
        ("0 21-2/2 * * *", at("2026-03-18T12:00", ZURICH), at("2026-03-18T01:00", ZURICH)),
        ("50-10/5 8 * * *", at("2026-03-18T08:49", ZURICH), at("2026-03-18T08:10", ZURICH)),
        ("0 8 30-2 * *", at("2026-03-18T12:00", ZURICH), at("2026-03-02T08:00", ZURICH)),
        ("0 8 1 NOV-FEB *", at("2026-03-18T12:00", ZURICH), at("2026-02-01T08:00", ZURICH)),
    ],
)
def test_slots_follow_local_time_over_clock_changes(cron: str, now: int, slot: int) -> None:
    assert Schedule(cron, ZURICH).latest(now) == slot


def test_slots_never_run_backwards() -> None:
    schedule = Schedule("*/20 1-3 * * *", ZURICH)
    for start in (at("2026-03-29T00:00"), at("2026-10-25T00:00")):
        slots = [schedule.latest(start + minute * 60_000) for minute in range(0, 300, 7)]
        assert slots == sorted(slots)


@pytest.mark.parametrize(
    ("cron", "zone"),
    [
        ("8 o'clock", "UTC"),
        ("0 0 30 2 *", "UTC"),
        ("0 8 * * *", "Mars/Base"),
        ("0 8 * * ? *", "UTC"),
        ("0 8 ? * 2 *", "UTC"),
        ("0 8 1 * * 2027", "UTC"),
        ("@", "UTC"),
        ("70-2 * * * *", "UTC"),
        ("0 22-24 * * *", "UTC"),
        ("0 22-2/0 * * *", "UTC"),
        ("0 8 * * FRI-MOON", "UTC"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_a_settings_error(cron: str, zone: str) -> None:
    with pytest.raises(SettingsError):
        Schedule(cron, zone)


def test_another_once_at_the_same_time_is_told_of(
    log: SqliteLog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one sends all between this one's look and its first commit."""
    mailer = Mailer()
    log.send([report(1)])
    late, early = job(log, mailer, clock, cron=None), job(log, mailer, clock, cron=None)
    ends = late.outbox.ends

    def overtaken(slot_ms: int | None) -> dict[int, int]:
        found = ends(slot_ms)
        early.send_now()
        return found

    monkeypatch.setattr(late.outbox, "ends", overtaken)
    with pytest.raises(CommitConflictError, match="no report is mailed twice; run it again"):
        late.send_now()
    assert len(mailer.sent) == 1
    assert states(log) == ["due", "sending", "sent"]
    monkeypatch.undo()
    assert late.send_now() == []
    late.close()
    early.close()


def test_seconds_come_first_where_there_are_six_fields() -> None:
    now = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
    latest = Schedule("30 0 8 * * *").latest(int(now.timestamp() * 1000))
    assert datetime.fromtimestamp(latest / 1000, UTC) == datetime(2026, 3, 4, 8, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(("day", "slot"), [(29, "2026-03-29T01:00:10"), (30, "2026-03-30T00:30:10")])
def test_a_second_changes_nothing_about_clock_changes(day: int, slot: str) -> None:
    now = datetime(2026, 3, day, 6, 0, 0, tzinfo=UTC)
    latest = Schedule("10 30 2 * * *", "Europe/Zurich").latest(int(now.timestamp() * 1000))
    assert datetime.fromtimestamp(latest / 1000, UTC) == datetime.fromisoformat(f"{slot}+00:00")
