"""A real SMTP server on loopback that does as it is told: takes mail, refuses, hangs, drops the connection."""

# ruff: noqa: N802 aiosmtpd calls its hooks so

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

USER, PASSWORD = "ada", "s3cret/?@:"
HANG, DROP = "hang", "drop"


@cache
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(*names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*(names or ("127.0.0.1",))).configure_cert(context)
    return context


def ca_file(folder: Path) -> Path:
    path = folder / "ca.pem"
    authority().cert_pem.write_to_path(str(path))
    return path


class Behaviour:
    """What the server does next. Each answer is a status line, None for the usual one, HANG or DROP."""

    def __init__(self) -> None:
        self.arrived: list[bytes] = []
        self.accepted: list[list[str]] = []
        self.at: dict[str, str] = {}  # by command (EHLO, MAIL, DATA) and END, the answer to the message's end
        self.recipients: dict[str, str] = {}  # by address
        self.seen = threading.Event()

    async def told(self, server: SMTP, answer: str | None, usual: str) -> str:
        if answer == HANG:
            await asyncio.sleep(60)
        if answer == DROP:
            server.transport.abort()
            await asyncio.sleep(60)
        return answer or usual

    async def handle_MAIL(self, server: SMTP, _session: Any, envelope: Any, address: str, options: list[str]) -> str:
        answer = await self.told(server, self.at.get("MAIL"), "250 OK")
        if answer.startswith("250"):
            envelope.mail_from = address
        return answer

    async def handle_RCPT(self, server: SMTP, _session: Any, envelope: Any, address: str, options: list[str]) -> str:
        answer = await self.told(server, self.recipients.get(address, self.at.get("RCPT")), "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, _session: Any, envelope: Any) -> str:
        answer = self.at.get("END")
        if answer is None or answer in {HANG, DROP}:
            self.arrived.append(envelope.original_content)
            self.accepted.append(list(envelope.rcpt_tos))
        self.seen.set()
        return await self.told(server, answer, "250 2.0.0 queued as 7F3A")


class Server(SMTP):
    """Beside what its handler does: an answer to DATA itself."""

    async def smtp_DATA(self, arg: str) -> None:
        answer = self.event_handler.at.get("DATA")
        if answer is None:
            await super().smtp_DATA(arg)
        else:
            await self.push(await self.event_handler.told(self, answer, ""))


class Running:
    """A server that runs, and its URL."""

    def __init__(self, behaviour: Behaviour, place: str) -> None:
        self.behaviour = behaviour
        self.place = place

    def url(self, scheme: str = "smtp", user: str = "", **options: object) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"{scheme}://{user}{self.place}{'?' * bool(query)}{query}"


def _authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (USER.encode(), PASSWORD.encode()), handled=False)


@contextmanager
def smtp_server(
    *, tls: ssl.SSLContext | None = None, at_once: bool = False, auth: bool = False, port: int = 0
) -> Iterator[Running]:
    behaviour = Behaviour()
    options: dict[str, Any] = {"server_hostname": "mail.example", "enable_SMTPUTF8": False}
    if tls and not at_once:
        options |= {"tls_context": tls, "require_starttls": True}
    if auth:
        options |= {"authenticator": _authenticate, "auth_required": not at_once, "auth_require_tls": not at_once}

    class Made(Controller):
        def factory(self) -> SMTP:
            return Server(self.handler, **self.SMTP_kwargs)

        def _trigger_server(self) -> None:
            self._factory_invoked.set()  # nothing to be looked at with a connection of its own
            self.smtpd = self.factory()

    made = Made(behaviour, "127.0.0.1", port, ssl_context=tls if at_once else None, **options)
    made.start()
    assert made.server is not None
    try:
        yield Running(behaviour, f"127.0.0.1:{made.server.sockets[0].getsockname()[1]}")
    finally:
        with suppress(RuntimeError):
            made.stop()
