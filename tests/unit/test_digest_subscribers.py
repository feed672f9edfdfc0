"""Digests by subscriber: a schedule, a mail and a token each; what a server refuses; who unsubscribes."""
# ruff: noqa: F811 fixtures of another module

import re
from collections.abc import Sequence
from dataclasses import replace
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from itertools import product

import msgspec
import pytest
from test_digest_job import ENVELOPE, HOUR, Clock, Mailer, clock, job, log, report, states  # noqa: F401 fixtures
from test_explain_samples import version_report

from headrace.pipelines.report import render, subscribers
from headrace.pipelines.report.job import GROUP, Digest
from headrace.pipelines.report.mails import Mails
from headrace.pipelines.report.recipients import recipients
from headrace.pipelines.report.schedule import Schedule
from headrace.pipelines.report.subscribers import Subscribers
from headrace.pipelines.report.unsubscribing import parse_key, sign, verify
from headrace.pipelines.topics import MAILS, REPORTS, SUBSCRIBERS
from headrace.schemas.errors import InvalidTokenError, SettingsError, UnavailableError
from headrace.schemas.ports import Record
from headrace.schemas.records import Mail, Report, Subscriber, Verdict
from headrace.sinks.sqlite.log import SqliteLog

KEY = "k" * 32
LINKED = replace(ENVELOPE, unsubscribe="https://example.org/unsubscribe/{token}")


@pytest.fixture(autouse=True)
def topic(log: SqliteLog) -> None:
    log.create(SUBSCRIBERS, 1)


class Office(Mailer):
    """Keeps to whom each mail went, and what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.mails: list[tuple[list[str], EmailMessage]] = []

    def send(self, message: EmailMessage, digest_id: str, recipients: Sequence[str]) -> dict[str, Verdict]:
        self.mails.append(([*recipients], message_from_bytes(message.as_bytes(), policy=SMTP)))  # type: ignore[arg-type]
        return super().send(message, digest_id, recipients)

    def told(self, address: str) -> list[int]:
        """The versions that went to an address, in order."""
        texts = [str(mail.get_body(("plain",))) for to, mail in self.mails if to == [address]]
        return [int(number) for text in texts for number in sorted(set(re.findall(r"v(\d+) serves", text)))]


def add(
    log: SqliteLog, address: str, cron: str, zone: str = "UTC", task: str = "cloud", *, again: bool = False
) -> None:
    subscribers.add(log, Subscriber(task, address, "active", 0, "ada", cron, zone), again=again)


def linked(log: SqliteLog, office: Office, clock: Clock) -> Digest:
    return Digest(log, office, clock, LINKED, schedule=Schedule("0 8 * * *"), key=KEY)


def test_each_is_sent_by_their_own_schedule_and_zone(log: SqliteLog, clock: Clock) -> None:
    """8:00 in Auckland is 19:00 UTC the day before, in Zurich 7:00; each report comes once to each, of their task."""
    office = Office()
    log.send([report(1)])
    add(log, "zurich@example.org", "0 8 * * *", "Europe/Zurich")
    add(log, "auckland@example.org", "0 8 * * *", "Pacific/Auckland")
    add(log, "other@example.org", "0 8 * * *", task="valve")
    log.send([report(2), report(9, "valve")])
    digest = job(log, office, clock)
    came: list[tuple[int, list[str]]] = []
    for hour in range(1, 49):
        clock.now += HOUR
        digest.step()
        came += [(hour, to) for to, _ in office.mails[len(came) :]]
        if hour == 24:
            log.send([report(3)])
    assert came == [
        (7, ["zurich@example.org"]), (8, ["boss@example.org"]), (8, ["other@example.org"]),
        (19, ["auckland@example.org"]),
        (31, ["zurich@example.org"]), (32, ["boss@example.org"]), (43, ["auckland@example.org"]),
    ]  # fmt: skip
    assert office.told("zurich@example.org") == [2, 3], "what was reported before is not sent"
    assert office.told("auckland@example.org") == [2, 3]
    assert len({mail["Message-ID"] for _, mail in office.mails}) == len(came)
    digest.close()
    again = job(log, office, clock)
    assert again.step() == [], "a restart sends nothing twice"
    again.close()


def test_another_schedule_holds_at_once_and_loses_nothing(log: SqliteLog, clock: Clock) -> None:
    office = Office()
    add(log, "ada@example.org", "0 8 15 * *")
    log.send([report(1)])
    digest = job(log, office, clock)
    clock.now += 30 * HOUR
    digest.step()
    assert office.told("ada@example.org") == []
    add(log, "Ada <ADA@example.org>", "@hourly")
    digest.step()
    assert office.told("ada@example.org") == [1]
    subscribers.remove(log, "cloud", "ada@example.org", 0, "ada")
    log.send([report(2)])
    clock.now += HOUR
    digest.step()
    assert office.told("ada@example.org") == [1]
    with pytest.raises(SettingsError, match=r"ada@example.org has no digests of cloud"):
        subscribers.remove(log, "cloud", "ada@example.org", 0, "ada")
    digest.close()


def test_one_click_ends_one_subscription(log: SqliteLog, clock: Clock) -> None:
    """Of who was added, and of a lone recipient of the settings; a second click and a removal change nothing."""
    office = Office()
    add(log, "ada@example.org", "0 8 * * *")
    log.send([report(1)])
    digest = linked(log, office, clock)
    clock.now += 9 * HOUR
    digest.step()
    for to, mail in office.mails:
        (token,) = re.findall(r"^<https://example.org/unsubscribe/(.*)>$", mail["List-Unsubscribe"])
        assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        assert "@" not in token
        assert subscribers.subscriber_of(log, KEY, token).state == "active"
        for _ in range(2):
            one = subscribers.unsubscribe(log, clock, KEY, token)
            assert ([one.address], one.state, one.who) == (to, "unsubscribed", "reader")
    log.send([report(2)])
    clock.now += 24 * HOUR
    assert digest.step() == []
    assert sum(commit.offset for commit in log.committed(GROUP, REPORTS).values()) == 2, "nobody waits for it"
    with pytest.raises(SettingsError, match="has unsubscribed from cloud: --again"):
        add(log, "ada@example.org", "0 8 * * *")
    add(log, "ada@example.org", "0 8 * * *", again=True)
    assert [one.state for one in Subscribers(log).refresh().active()] == ["active"]
    digest.close()


def test_a_mail_to_several_has_no_ones_token(log: SqliteLog, clock: Clock) -> None:
    office = Office()
    log.send([report(1)])
    both = replace(LINKED, recipients=("boss@example.org", "ops@example.org"))
    digest = Digest(log, office, clock, both, key=KEY)
    digest.send_now()
    assert office.mails[0][1]["List-Unsubscribe"] == "<mailto:headrace@example.org?subject=unsubscribe>"
    digest.close()


def test_a_token_is_taken_from_nobody_else(log: SqliteLog, clock: Clock) -> None:
    add(log, "ada@example.org", "0 8 * * *")
    token = sign(KEY, "cloud/ada@example.org")
    assert len(token) == 47
    assert sign(KEY, "cloud/bob@example.org") != token
    changed = [token[:place] + ("0" if token[place] != "0" else "1") + token[place + 1 :] for place in range(46)]
    wrong = [
        *changed,
        "",
        token[:-1],
        token + "A",
        token.upper(),
        "../" + token,
        "\0",
        sign("x" * 32, "cloud/ada@example.org"),
    ]
    for one in [*wrong, sign(KEY, "cloud/none@example.org")]:
        with pytest.raises(InvalidTokenError):
            subscribers.unsubscribe(log, clock, KEY, one)
    with pytest.raises(InvalidTokenError):
        verify("", sign("", "cloud/ada@example.org"))
    with pytest.raises(SettingsError, match=r"it needs 32 printable ones.*openssl rand -hex 32"):
        parse_key("short")
    assert Subscribers(log).refresh().by_key["cloud/ada@example.org"].state == "active"


def last(log: SqliteLog) -> Mail:
    return [msgspec.json.decode(value, type=Mail) for value in log.read(MAILS, 0, 0, 100).values if value][-1]


def test_who_has_the_mail_gets_no_second_one_while_another_is_deferred(log: SqliteLog, clock: Clock) -> None:
    """The rest of the readers is served meanwhile; after a day the one who is still deferred counts as refused."""
    office, timer = Office(), [0.0]
    office.verdicts = {"full@example.org": Verdict("deferred", "452 4.2.2 full")}
    envelope = replace(ENVELOPE, recipients=("boss@example.org", "full@example.org"))
    add(log, "ada@example.org", "0 8 * * *")
    log.send([report(1)])
    digest = Digest(log, office, clock, envelope, schedule=Schedule("0 8 * * *"), timer=lambda: timer[0])
    clock.now += 9 * HOUR
    digest.step()
    assert [to for to, _ in office.mails] == [["boss@example.org", "full@example.org"], ["ada@example.org"]]
    assert digest.step() == [], "it waits"
    digest.close()
    digest = Digest(log, office, clock, envelope, schedule=Schedule("0 8 * * *"), timer=lambda: timer[0])
    digest.step()
    assert office.mails[2:][0][0] == ["full@example.org"], "after a restart too"
    assert office.mails[2][1]["Message-ID"] == office.mails[0][1]["Message-ID"]
    clock.now += 25 * HOUR
    timer[0] += 1_000.0
    assert len(digest.step()) == 1
    mail = last(log)
    assert mail.state == "sent"
    assert mail.verdicts["full@example.org"] == Verdict("refused", "given up after a day: 452 4.2.2 full")
    digest.close()


def test_once_says_who_must_wait(log: SqliteLog, clock: Clock) -> None:
    office = Office()
    office.verdicts = {"boss@example.org": Verdict("deferred", "451 busy")}
    log.send([report(1)])
    digest = job(log, office, clock, cron=None)
    with pytest.raises(UnavailableError, match=r"sent 0, others are due and must wait: boss@example.org: 451 busy"):
        digest.send_now()
    digest.close()


@pytest.mark.parametrize(("state", "then"), [("refused", "refused"), ("unknown", "unknown")])
def test_what_is_refused_or_unknown_is_not_sent_again(log: SqliteLog, clock: Clock, state: str, then: str) -> None:
    office = Office()
    office.verdicts = {"boss@example.org": Verdict(state, "550 no such user")}  # type: ignore[arg-type]
    log.send([report(1)])
    digest = job(log, office, clock, cron=None)
    assert digest.send_now() == []
    assert states(log) == ["due", "sending", then]
    (boss,) = recipients(log, ["Boss <boss@example.org>"])
    assert boss.bounced is (state == "refused")
    office.verdicts = {}
    log.send([report(2)])
    assert len(digest.send_now()) == 1
    (boss,) = recipients(log, ["boss@example.org"])
    assert (boss.bounced, boss.refused is not None) == (False, state == "refused")
    digest.close()


def test_a_recipient_at_whom_the_server_breaks_off_holds_up_nobody_else(log: SqliteLog, clock: Clock) -> None:
    class Breaking(Office):
        def send(self, message: EmailMessage, digest_id: str, recipients: Sequence[str]) -> dict[str, Verdict]:
            if recipients == ["bob@example.org"]:
                raise UnavailableError("421")
            return super().send(message, digest_id, recipients)

    office, timer = Breaking(), [0.0]
    for name in ("ada", "bob", "eve"):
        add(log, f"{name}@example.org", "0 8 * * *")
    log.send([report(1)])
    digest = job(log, office, clock, timer=lambda: timer[0])
    clock.now += 9 * HOUR
    for _ in range(2):
        with pytest.raises(UnavailableError):
            digest.step()
        timer[0] += 1_000.0
    assert [to[0][:3] for to, _ in office.mails] == ["bos", "ada", "eve"]
    digest.close()


def test_what_many_are_sent_is_drawn_once(log: SqliteLog, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    image, drawn = render.image, []

    def counted(report: Report, name: str, *, dpi: int) -> render.Image:
        drawn.append((report.report_id, name, dpi))
        return image(report, name, dpi=dpi)

    monkeypatch.setattr(render, "image", counted)
    office = Office()
    for name in ("ada", "bob", "eve"):
        add(log, f"{name}@example.org", "0 8 * * *")
    made = version_report()
    log.send([Record(REPORTS, made.report_id.encode(), msgspec.json.encode(made))])
    digest = job(log, office, clock, cron=None)
    assert len(digest.send_now()) == 4
    assert len(drawn) == len(set(drawn)) > 2
    assert len({sum(part.get_content_type() == "image/png" for part in mail.walk()) for _, mail in office.mails}) == 1
    digest.close()


def test_an_older_log_has_no_subscribers(tmp_path, clock: Clock) -> None:
    old = SqliteLog(tmp_path / "old.db", clock)
    old.create(REPORTS, 1)
    old.create(MAILS, 1)
    old.send([report(1)])
    office = Office()
    digest = job(old, office, clock, cron=None)
    assert len(digest.send_now()) == 1
    digest.close()
    old.close()


@pytest.mark.parametrize(("write", "kind"), [*product(range(1, 5), ("before", "after"))])
def test_a_kill_at_any_write_of_a_subscribers_mail_sends_it_once_at_most(
    log: SqliteLog,
    clock: Clock,
    write: int,
    kind: str,
) -> None:
    """Killed before or after each commit; the next process settles it, and the next report comes."""

    class KillError(BaseException):
        pass

    office = Office()
    add(log, "ada@example.org", "@hourly")
    digest = job(log, office, clock, tasks=frozenset({"cloud"}))
    digest._envelope = digest.outbox.audience.envelope
    log.send([report(1)])
    commit, count = digest._member.subscription.commit, [0]

    def killed(*arguments: object) -> None:
        count[0] += 1
        if count[0] == write and kind == "before":
            raise KillError
        commit(*arguments)  # type: ignore[arg-type]
        if count[0] == write:
            raise KillError

    digest.step()
    digest._member.subscription.commit = killed  # type: ignore[method-assign]
    clock.now += HOUR
    try:
        digest.step()
    except KillError:
        assert write < 4
    digest.close()
    again = job(log, office, clock)
    again.step()
    log.send([report(2)])
    clock.now += HOUR
    again.step()
    assert office.told("ada@example.org") in ([1, 2], [2])
    assert (office.told("ada@example.org") == [2]) == ((write, kind) == (2, "after"))
    mails = Mails(log).refresh()
    assert mails.open("cloud/ada@example.org") == []
    assert mails.last["ada@example.org"].verdict.state == "accepted"
    again.close()
