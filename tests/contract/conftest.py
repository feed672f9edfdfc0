"""The backends that the contract suites run over: one entry per adapter and port; the suites know no other name.

Each fixture gives a function that opens one more handle on the same storage, which is empty when a test begins.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import contract_cassandra
import contract_redis
import pytest
from contract_outbox import Outbox
from contract_urls import clock, opened
from model import MemoryLog

from headrace.schemas.ports import Cache, Index, Log, PolicyStore


def _mail_server(folder: Path, stack: ExitStack) -> Outbox:
    from contract_smtp import ca_file, server_context, smtp_server  # noqa: PLC0415 needed by none but mail's tests

    server = stack.enter_context(smtp_server(tls=server_context()))
    return Outbox(opened("mail", server.url(ca_file=ca_file(folder))), lambda: server.behaviour.arrived)


def _mail_files(folder: Path, _stack: ExitStack) -> Outbox:
    return Outbox(
        opened("mail", f"file://{folder}/mail"),
        lambda: [p.read_bytes() for p in sorted((folder / "mail").glob("*.eml"))],
    )


# Each opens one more handle. folder: the test's own. fixture: gives a fixture by its name, such as a server.
Fixture = Callable[[str], Any]
# Kafka's group gives away what a member has that does not poll for so long, so that another one can overtake it.
IMPATIENT = "session.timeout.ms=3000&max.poll.interval.ms=3000&heartbeat.interval.ms=500"
LOGS: dict[str, Callable[[Path, Fixture], Log]] = {
    "sqlite": lambda folder, _: opened("log", f"sqlite://{folder}/log.db"),
    "kafka": lambda _, fixture: opened("log", f"{fixture('kafka').url}?{IMPATIENT}"),
    "model": lambda _, fixture: fixture("model_log"),
}
INDEXES: dict[str, Callable[[Path, Fixture], Index]] = {
    "sqlite": lambda folder, _: opened("index", f"sqlite://{folder}/index.db"),
    "cassandra": lambda folder, fixture: contract_cassandra.open_backend("index", fixture("cassandra"), folder),
}
CACHES: dict[str, Callable[[Path, Fixture], Cache]] = {
    "memory": lambda *_: opened("cache", "memory:?bytes=1048576"),
    "redis": lambda folder, fixture: contract_redis.open_cache(fixture("redis"), folder),
}
POLICY_STORES: dict[str, Callable[[Path, Fixture], PolicyStore]] = {
    "files": lambda folder, _: opened("policies", f"file://{folder}/policies"),
    "cassandra": lambda folder, fixture: contract_cassandra.open_backend("policies", fixture("cassandra"), folder),
}
MAILERS: dict[str, Callable[[Path, ExitStack], Outbox]] = {"files": _mail_files, "smtp": _mail_server}


def _opener(open_one: Callable[[Path, Fixture], Any], folder: Path, fixture: Fixture) -> Iterator[Callable[[], Any]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(open_one(folder, fixture)))


@pytest.fixture
def model_log() -> MemoryLog:
    """The log that the crash model of `tests/flows` rests on: its handles are one object."""
    return MemoryLog(clock())


@pytest.fixture(params=LOGS)
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Log]]:
    yield from _opener(LOGS[request.param], tmp_path, request.getfixturevalue)


@pytest.fixture
def log(open_log: Callable[[], Log]) -> Log:
    return open_log()


@pytest.fixture(params=INDEXES)
def open_index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Index]]:
    yield from _opener(INDEXES[request.param], tmp_path, request.getfixturevalue)


@pytest.fixture
def index(open_index: Callable[[], Index]) -> Index:
    return open_index()


@pytest.fixture(params=CACHES)
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cache]:
    with closing(CACHES[request.param](tmp_path, request.getfixturevalue)) as opened:
        yield opened


@pytest.fixture(params=POLICY_STORES)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], PolicyStore]]:
    yield from _opener(POLICY_STORES[request.param], tmp_path, request.getfixturevalue)


@pytest.fixture(params=MAILERS)
def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outbox]:
    with ExitStack() as stack:
        yield MAILERS[request.param](tmp_path, stack)


@pytest.fixture
def name() -> str:
    """A name that no other test has used: for a topic, a group, a task."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def message() -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = "cloud: +4.2 % · prüfen"
    mail["From"] = "headrace@example.org"
    mail["To"] = "team@example.org"
    mail.set_content("Das Ergebnis ist größer.\n")
    mail.add_alternative("<p>größer</p>", subtype="html")
    return mail
