"""Mail by a real SMTP server: what docs/mail.md tells a reader to type, one message as received, and a kill."""

import json
import re
import shlex
import signal
import subprocess
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path

import msgspec
import pytest
from contract_smtp import HANG, PASSWORD, USER, ca_file, server_context, smtp_server
from shell import ENVIRONMENT, HEADRACE, VALVE, Shell
from test_digest_job import report

from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import open_services, subscriber_of, unsubscribe

GUIDE = (Path(__file__).parents[2] / "docs" / "mail.md").read_text()


def blocks(language):
    return [block.splitlines() for block in re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)]


def reported(folder, *numbers):
    with open_services(read_settings({"log": f"sqlite://{folder}/.headrace/log.db"})) as services:
        services.log.send([report(number, "valve") for number in numbers])


@pytest.fixture
def office(tmp_path, monkeypatch):
    """A folder with the guide's task file and authority, and a shell in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "valve.json").write_text(json.dumps(VALVE))
    ca_file(tmp_path)
    return Shell(tmp_path)


def words(line, server):
    """A command's words, where the guide's server is the one that runs here."""
    place = f"{USER}:{PASSWORD.replace('/', '%2F').replace('?', '%3F').replace('@', '%40')}@{server.place}"
    return shlex.split(line.replace("ada:s3cret@mail.example.org", place))[1:]


def test_the_guide(office, tmp_path, monkeypatch):
    """Each command works; the mail that arrives has the link, which ends the digests of whom it went to."""
    sending, readers = blocks("sh")
    (linked,) = blocks("console")
    with smtp_server(tls=server_context(), auth=True) as server:
        init, task, once = sending
        for line in (init, task):
            office.here(*words(line, server))
        reported(tmp_path, 1)
        office(*words(once, server))
        assert server.behaviour.accepted == [["team@example.org"]]
        for line in readers:
            office.here(*words(line, server))
        rows = office.lines("digest", "list", "--task", "valve")
        assert [(one["subscriber"]["address"], one["subscriber"]["state"]) for one in rows] == [
            ("Ada <ada@example.org>", "active"),
            ("grace@example.org", "removed"),
        ]
        reported(tmp_path, 2)
        key, run = linked
        assert key == 'export HEADRACE_DIGEST_KEY="$(openssl rand -hex 32)"'
        environment = {"HEADRACE_DIGEST_KEY": "0123456789abcdef" * 4, "HEADRACE_MAIL": words(once, server)[4]}
        office(*words(run, server), "--once", "--to", "none", environment=environment)
        message = message_from_bytes(server.behaviour.arrived[-1], policy=SMTP)
    assert message["To"] == "Ada <ada@example.org>"
    (token,) = re.findall(r"^<https://headrace.example.org/unsubscribe/(\S+)>$", message["List-Unsubscribe"])
    assert "https://headrace.example.org/reports/valve.version.2" in message.get_body(("plain",)).get_content()
    assert b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in server.behaviour.arrived[-1]
    monkeypatch.setenv("HEADRACE_DIGEST_KEY", environment["HEADRACE_DIGEST_KEY"])
    with open_services(read_settings()) as services:
        assert subscriber_of(services, token).state == "active"
        assert unsubscribe(services, token).state == "unsubscribed"
    assert "has unsubscribed" in office("digest", "add", "valve", "ada@example.org", code=1).stderr.decode()


def test_a_bounce_is_told(office, tmp_path):
    office.json("init")
    office.json("task", "add", "valve.json")
    reported(tmp_path, 1)
    with smtp_server() as server:
        server.behaviour.recipients["gone@example.org"] = "550 5.1.1 no \x1b[31msuch user"
        mail = ["--mail", server.url(tls="off")]
        to = ["--to", "gone@example.org", "--to", "boss@example.org"]
        office("run", "digest", "--once", *mail, *to)
        office.folder.joinpath("to").write_text("gone@example.org, boss@example.org")
        told = office("doctor", *mail, code=1, environment={"HEADRACE_DIGEST_TO_FILE": "to"}).stdout.decode()
    assert re.search(
        r"^WRONG +digests +gone@example.org refused its last digest: 550 5.1.1 no \[31msuch user → ", told, re.MULTILINE
    )
    assert "mail.example Python SMTP" in told


def test_a_kill_between_the_messages_end_and_its_answer(office, tmp_path):
    """The restart records the mail as unknown, and sends nothing twice; the next report comes."""
    office.json("init")
    office.json("task", "add", "valve.json")
    reported(tmp_path, 1)
    with smtp_server() as server:
        server.behaviour.at["END"] = HANG
        command = ["run", "digest", "--once", "--mail", server.url(tls="off"), "--to", "boss@example.org"]
        with subprocess.Popen([HEADRACE, *command], cwd=tmp_path, env=ENVIRONMENT) as process:
            assert server.behaviour.seen.wait(60)
            process.send_signal(signal.SIGKILL)
        del server.behaviour.at["END"]
        office(*command)
        office(*command)
        reported(tmp_path, 2)
        office(*command)
        told = [re.findall(rb"v(\d+) serves", data)[0] for data in server.behaviour.arrived]
    assert told == [b"1", b"2"]
    with open_services(read_settings()) as services:
        values = services.log.read("mails", 0, 0, 100).values
    assert [msgspec.json.decode(value)["state"] for value in values] == [
        "due", "sending", "unknown", "due", "sending", "sent",
    ]  # fmt: skip
