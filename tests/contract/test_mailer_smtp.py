"""Mail by SMTP: what a server's answers mean, and that a mail never goes out in the clear, or twice."""

import base64
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

import pytest
from contract_smtp import DROP, HANG, PASSWORD, USER, Running, ca_file, server_context, smtp_server
from contract_urls import opened

from headrace.schemas.errors import SettingsError, UnavailableError
from headrace.schemas.records import WORDS_MAX, Verdict

TO = ["team@example.org", "boss@example.org"]


@pytest.fixture
def server() -> Iterator[Running]:
    with smtp_server() as running:
        yield running


def sent(server: Running, message: EmailMessage, to: list[str] = TO, timeout_s: int = 20) -> dict[str, Verdict]:
    return opened("mail", server.url(tls="off", timeout_s=timeout_s)).send(message, "daily", to)


def outcomes(verdicts: dict[str, Verdict]) -> list[str]:
    return [verdicts[address].state for address in TO]


def test_each_recipient_has_a_verdict_of_their_own(server: Running, message: EmailMessage) -> None:
    """One is taken; one is refused for good, with the server's words; one is asked for later."""
    server.behaviour.recipients = {"gone@example.org": "550 5.1.1 no such user", "full@example.org": "452 4.2.2 full"}
    verdicts = sent(server, message, ["team@example.org", "gone@example.org", "full@example.org"])
    assert verdicts["team@example.org"] == Verdict("accepted", "250 2.0.0 queued as 7F3A")
    assert verdicts["gone@example.org"] == Verdict("refused", "550 5.1.1 no such user")
    assert verdicts["full@example.org"] == Verdict("deferred", "452 4.2.2 full")
    assert server.behaviour.accepted == [["team@example.org"]]


def test_two_hundred_recipients_get_one_message(server: Running, message: EmailMessage) -> None:
    to = [f"reader-{number}@example.org" for number in range(200)]
    assert {verdict.state for verdict in sent(server, message, to).values()} == {"accepted"}
    assert server.behaviour.accepted == [to]


@pytest.mark.parametrize(
    ("command", "answer", "outcome"),
    [
        ("MAIL", "550 5.7.1 not you", "refused"),
        ("MAIL", "451 4.3.0 busy", "deferred"),
        ("RCPT", "550 nobody", "refused"),
        ("DATA", "554 5.5.1 no", "refused"),
        ("DATA", "451 4.3.0 busy", "deferred"),
        ("END", "554 5.6.0 spam", "refused"),
        ("END", "451 4.3.0 disk full", "deferred"),
        ("END", DROP, "unknown"),
        ("END", HANG, "unknown"),
    ],
)
def test_what_an_answer_means(server: Running, message: EmailMessage, command: str, answer: str, outcome: str) -> None:
    """4xx may be tried again, 5xx not; without an answer to the message's end nobody knows."""
    server.behaviour.at[command] = answer
    verdicts = sent(server, message, timeout_s=1 if answer == HANG else 20)
    assert outcomes(verdicts) == [outcome] * 2
    assert verdicts[TO[0]].words.startswith(answer if answer not in {DROP, HANG} else "no answer after")


@pytest.mark.parametrize(
    ("command", "answer"),
    [("MAIL", DROP), ("MAIL", HANG), ("RCPT", DROP), ("DATA", DROP), ("RCPT", "421 4.3.2 going down"),
     ("MAIL", "530 5.7.0 log in first")],
)  # fmt: skip
def test_before_the_messages_end_nothing_is_handed_over(
    server: Running, message: EmailMessage, command: str, answer: str
) -> None:
    server.behaviour.at[command] = answer
    with pytest.raises(UnavailableError, match=r"smtp://127\.0\.0\.1"):
        sent(server, message, timeout_s=1 if answer == HANG else 20)
    assert server.behaviour.arrived == []


def test_nobody_listens(message: EmailMessage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        mailer = opened("mail", f"smtp://127.0.0.1:{taken.getsockname()[1]}?tls=off")
        with pytest.raises(UnavailableError, match=r"connect: .*refused"):
            mailer.send(message, "daily", TO)


@pytest.mark.parametrize(
    ("line", "every_s", "words"),
    [(b"2", 0.2, "timed out|no end"), (b"220-hi\r\n", 0.2, "timed out|no end"), (b"220-hi\r\n" * 1_000, 0.0, "bytes")],
    ids=["bytes that drip", "lines that drip", "lines without end"],
)
def test_a_greeting_that_never_ends_holds_nobody_up(
    message: EmailMessage, line: bytes, every_s: float, words: str
) -> None:
    def greet() -> None:
        with suppress(OSError), listener.accept()[0] as client:
            while True:
                client.sendall(line)
                time.sleep(every_s)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        mailer = opened("mail", f"smtp://127.0.0.1:{listener.getsockname()[1]}?tls=off&timeout_s=1")
        with pytest.raises(UnavailableError, match=words):
            mailer.send(message, "daily", TO)
        thread.join(timeout=10)  # it ends when nobody listens any more
        assert not thread.is_alive()


def test_what_a_server_says_is_printable_and_bounded(server: Running, message: EmailMessage) -> None:
    server.behaviour.at["RCPT"] = f"550 \x1b[31mred\x07 {'x' * 400}"
    words = sent(server, message)[TO[0]].words
    assert words.isprintable()
    assert words.startswith("550 [31mred x")
    assert len(words) == WORDS_MAX


def test_dots_and_long_lines_arrive_as_they_were_written(server: Running) -> None:
    body = f".\n..\n.bcc: x\n{'long ' * 2_000}\nend\n"
    mail = EmailMessage(policy=SMTP)
    mail["Subject"], mail["From"], mail["To"] = "x", "h@example.org", "Zoë Müller <team@example.org>"
    mail.set_content(body, cte="quoted-printable")
    sent(server, mail)
    (data,) = server.behaviour.arrived
    assert data.isascii()
    assert max(map(len, data.split(b"\r\n"))) <= 998
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", data)
    arrived = message_from_bytes(data, policy=SMTP)
    assert arrived.get_content().replace("\r\n", "\n") == body
    assert arrived["To"] == "Zoë Müller <team@example.org>"


@pytest.mark.parametrize(("scheme", "at_once"), [("smtp", False), ("smtps", True)])
def test_tls_and_a_password(tmp_path: Path, message: EmailMessage, scheme: str, at_once: bool) -> None:
    """STARTTLS or TLS at once; the password may hold any ASCII; who runs there is told."""
    with smtp_server(tls=server_context(), at_once=at_once, auth=True) as server:
        login = f"{USER}:{PASSWORD.replace('/', '%2F').replace('?', '%3F').replace('@', '%40')}@"
        mailer = opened("mail", server.url(scheme, login, ca_file=ca_file(tmp_path)))
        assert mailer.about().startswith("mail.example ")
        assert outcomes(mailer.send(message, "daily", TO)) == ["accepted"] * 2


def test_a_wrong_password_is_told_without_it(tmp_path: Path, message: EmailMessage) -> None:
    with smtp_server(tls=server_context(), auth=True) as server:
        mailer = opened("mail", server.url("smtp", f"{USER}:wr0ng@", ca_file=ca_file(tmp_path)))
        with pytest.raises(UnavailableError, match=r"user and password were refused: 535 .*HEADRACE_MAIL_FILE") as told:
            mailer.send(message, "daily", TO)
    shown = f"{told.value} {told.value.__cause__} {mailer!r} {mailer._target!r}"
    assert "wr0ng" not in shown
    assert base64.b64encode(b"wr0ng").decode() not in shown


@pytest.mark.parametrize(
    ("names", "own_ca", "words"),
    [(("mail.example",), True, "not good for 127.0.0.1: IP address mismatch"), ((), False, r"not good .* certificate")],
)
@pytest.mark.parametrize(("scheme", "at_once"), [("smtp", False), ("smtps", True)])
def test_a_server_that_cannot_prove_who_it_is_gets_nothing(
    tmp_path: Path, message: EmailMessage, names: tuple[str], own_ca: bool, words: str, scheme: str, at_once: bool
) -> None:
    with smtp_server(tls=server_context(*names), at_once=at_once) as server:
        url = server.url(scheme, **({"ca_file": ca_file(tmp_path)} if own_ca else {}))
        with pytest.raises(UnavailableError, match=words):
            opened("mail", url).send(message, "daily", TO)
        assert server.behaviour.arrived == []


def test_a_server_without_starttls_gets_nothing(server: Running, message: EmailMessage) -> None:
    with pytest.raises(UnavailableError, match="no STARTTLS, and nothing is sent in the clear"):
        opened("mail", server.url()).send(message, "daily", TO)
    assert server.behaviour.arrived == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("smtp://mail.example.org?tls=off", "only smtp:// on this machine"),
        ("smtps://127.0.0.1?tls=off", "only smtp:// on this machine"),
        ("smtp://127.0.0.1?tls=maybe", "tls is 'maybe'"),
        ("smtp://h:0", "write smtp://host"),
        ("smtp://h:70000", "write smtp://host"),
        ("smtp://a,b", "write smtp://host"),
        ("smtp:file", "write smtp://host"),
        ("smtp://h/path", "write smtp://host"),
        ("smtp://h?timeout_s=0", "1 to 55"),
        ("smtp://h?timeout_s=x", "whole number"),
        ("smtp://h?ca_file=/none.pem", "ca_file can't be used"),
        ("smtp://:s3cret@h", "must be there and ASCII"),
        ("smtp://u:p%C3%A9s3cret@h", "must be there and ASCII"),
    ],
)
def test_a_url_that_cannot_be_used(url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as told:
        opened("mail", url)
    assert "s3cret" not in str(told.value)
