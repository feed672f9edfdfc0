"""One conversation with a mail server (RFC 5321): open, greet, secure, log in, hand over one message, part.

It has a deadline, so that a server that answers slowly at each step holds nobody up longer than one that hangs.
"""

import base64
import re
import smtplib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from typing_extensions import override

from headrace.schemas.errors import UnavailableError
from headrace.schemas.records import WORDS_MAX, Verdict
from headrace.sinks.smtp.target import Target

Reply = tuple[int, bytes]
END: Final = b".\r\n"
CONNECT_S: Final = 10.0
"""For each address of a host."""
PART_S: Final = 2.0
MOST_ANSWER_BYTES: Final = 1 << 20
"""Of a conversation: no server has so much to say."""
NOT_LOGGED_IN: Final = frozenset({530, 535, 538})


class _Lines:
    """A server's lines, each byte of them under the deadline: one that drips them gains no time by it."""

    def __init__(self, sock: socket.socket, remaining_s: Callable[[], float]) -> None:
        self._sock, self._remaining_s = sock, remaining_s
        self._held, self._left = b"", MOST_ANSWER_BYTES

    def readline(self, most: int) -> bytes:
        """Return a line, or what there is of it; raises OSError at the deadline, or for too many bytes."""
        while b"\n" not in self._held and len(self._held) < most:
            self._sock.settimeout(self._remaining_s())
            part = self._sock.recv(8_192)
            if not part:
                break
            self._left -= len(part)
            if self._left < 0:
                raise OSError(f"its answers have more than {MOST_ANSWER_BYTES} bytes")
            self._held += part
        end = min(self._held.find(b"\n") + 1 or len(self._held), most)
        line, self._held = self._held[:end], self._held[end:]
        return line

    def close(self) -> None:
        """Hold nothing: the socket is another's to close."""


class Conversation(smtplib.SMTP):
    """smtplib's commands under a deadline. Every failure before the message's end is an UnavailableError."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._renew()
        self.greeting = ""
        super().__init__(local_hostname=_own_name(), timeout=target.timeout_s)
        self._host = target.host  # what the certificate must be for

    def _get_socket(self, host: str, port: int, _timeout: float) -> socket.socket:
        plain = socket.create_connection((host, port), min(CONNECT_S, self.remaining_s()))
        context = self._target.tls if self._target.at_once else None
        return context.wrap_socket(plain, server_hostname=host) if context else plain

    def _renew(self) -> None:
        self._deadline_s = time.monotonic() + self._target.timeout_s

    def remaining_s(self) -> float:
        """Return what is left of the deadline; raises TimeoutError where nothing is."""
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"no end within {self._target.timeout_s} s")
        return left_s

    @override
    def send(self, s: bytes | str) -> None:  # type: ignore[override]
        if self.sock is not None:
            self.sock.settimeout(self.remaining_s())
        super().send(s)

    @override
    def getreply(self) -> Reply:
        if self.sock is not None and self.file is None:  # a new connection, or one that has just been secured
            self.file = _Lines(self.sock, self.remaining_s)
        return super().getreply()

    def begin(self) -> None:
        """Connect, secure and log in. greeting: what the server said first. Raises UnavailableError."""
        with self.failures("connect"):
            code, greeting = self.connect(self._target.host, self._target.port)
            self.expect(code, greeting, "greeting")
        with self.failures("EHLO"):
            self.expect(*self.ehlo(), "EHLO")
        if self._target.tls and not self._target.at_once:
            self._secure(self._target.tls)
        if self._target.user is not None:
            self._log_in(self._target.user, self._target.password)
        self.greeting = self.words(greeting)

    def _secure(self, context: ssl.SSLContext) -> None:
        with self.failures("STARTTLS"):
            if not self.has_extn("starttls"):
                raise UnavailableError(
                    f"{self._target.shown}: it offers no STARTTLS, and nothing is sent in the clear: use smtps://, or "
                    "another server"
                )
            self.expect(*self.starttls(context=context), "STARTTLS")
            self.expect(*self.ehlo(), "EHLO")

    def _log_in(self, user: str, password: str) -> None:
        with self.failures("log in"):
            self.login(user, password)

    def hand_over(self, sender: str, recipients: list[str], data: bytes) -> dict[str, Verdict]:
        """Send the message, lines ended by CRLF; return each recipient's verdict. Raises UnavailableError."""
        with self.failures("MAIL"):
            code, words = self.mail(sender, [f"size={len(data)}"] if self.has_extn("size") else [])
            if code in NOT_LOGGED_IN:
                self.expect(code, words, "a mail without user and password, as in smtp://USER:PASSWORD@HOST,")
        if (refused := self._refused(code, words)) is not None:
            return dict.fromkeys(recipients, refused)
        verdicts: dict[str, Verdict | None] = {}
        for address in recipients:
            with self.failures("RCPT"):
                verdicts[address] = self._refused(*self.rcpt(address))
        if None in verdicts.values():
            reached = self._deliver(data)
            return {address: verdict or reached for address, verdict in verdicts.items()}
        return {address: verdict for address, verdict in verdicts.items() if verdict}

    def _deliver(self, data: bytes) -> Verdict:
        """Send DATA. Until its end goes out nothing can have been delivered; from then on only an answer tells."""
        with self.failures("DATA"):
            code, words = self.docmd("DATA")
            if code != 354:
                return self._refused(code, words, good=354) or Verdict("refused", self.words(words))
            self.send(re.sub(rb"(?m)^\.", b"..", data if data.endswith(b"\r\n") else data + b"\r\n"))
            self._renew()
        try:
            self.send(END)
            code, words = self.getreply()
        except (OSError, smtplib.SMTPException) as error:
            return Verdict("unknown", self.words(f"no answer after the message's end: {error}".encode()))
        return self._refused(code, words) or Verdict("accepted", self.words(f"{code} ".encode() + words))

    def _refused(self, code: int, words: bytes, good: int = 250) -> Verdict | None:
        """Return the verdict of an answer that is not the good one (or its like); raises UnavailableError at 421."""
        if code == good or (good == 250 and 200 <= code < 300):
            return None
        told = self.words(f"{code} ".encode() + words)
        if code == 421:
            raise UnavailableError(f"{self._target.shown}: it closes the connection: {told}")
        return Verdict("refused" if 500 <= code < 600 else "deferred", told)

    def expect(self, code: int, words: bytes, what: str) -> None:
        """Raise UnavailableError unless an answer is a good one."""
        if not 200 <= code < 300:
            told = self.words(f"{code} ".encode() + words)
            raise UnavailableError(f"{self._target.shown}: {what} was refused: {told}")

    @contextmanager
    def failures(self, what: str) -> Iterator[None]:
        """Map what goes wrong with the connection to UnavailableError."""
        try:
            yield
        except smtplib.SMTPAuthenticationError as error:
            told = self.words(f"{error.smtp_code} ".encode() + _bytes(error.smtp_error))
            raise UnavailableError(
                f"{self._target.shown}: user and password were refused: {told}; correct them in HEADRACE_MAIL or the "
                "file that HEADRACE_MAIL_FILE names"
            ) from None  # the error's own text may echo the password
        except ssl.SSLCertVerificationError as error:
            raise UnavailableError(
                f"{self._target.shown}: its certificate is not good for {self._target.host}: {error.verify_message}; "
                "ca_file=PATH names another authority"
            ) from error
        except (OSError, ValueError, smtplib.SMTPException) as error:
            raise UnavailableError(f"{self._target.shown}: {what}: {self.words(str(error).encode())}") from None

    def words(self, text: bytes) -> str:
        """Return what a server said as one printable line, bounded, without our password should it echo that."""
        told = text.decode("utf-8", "replace")
        for secret in self._secrets():
            told = told.replace(secret, "***")
        return " ".join("".join(c if c.isprintable() else " " for c in told).split())[:WORDS_MAX]

    def _secrets(self) -> Iterator[str]:
        user, password = self._target.user, self._target.password
        if password:
            yield from (_base64(f"\0{user}\0{password}"), _base64(password), password)

    def part(self) -> None:
        """Say goodbye, if anyone listens, and close."""
        self._deadline_s = min(self._deadline_s, time.monotonic() + PART_S)
        with suppress(OSError, smtplib.SMTPException):
            self.docmd("QUIT")
        self.close()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def _own_name() -> str:
    """Return this machine's name as EHLO has it, without asking the network for it."""
    name = socket.gethostname()
    return name if re.fullmatch(r"[A-Za-z0-9.-]+", name) else "localhost"
