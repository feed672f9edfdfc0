"""Options that cannot be used are refused before anything is opened: exit 2, and what is allowed."""

from contextlib import chdir
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP, default
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner

from headrace.pipelines.cli import cli
from headrace.pipelines.cli.run_digest import ADDRESS

HUGE = "99999999999999999999"
YEARS = "is out of range: -62135596800000 to 253402300799000 ms, which are years 1 to 9999"
QUERY = ("query", "chunks", "--task", "valve")
DIGEST = ("run", "digest", "--once")


def refused(folder: Path, *arguments: str) -> str:
    with chdir(folder):
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 2
    assert not [*folder.iterdir()], "nothing was opened"
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*QUERY, "--from", HUGE), f"'{HUGE}' {YEARS}"),
        ((*QUERY, "--from", "9223372036854775808"), YEARS),
        ((*QUERY, "--to", "-62135596800001"), YEARS),
        ((*QUERY, "--to", "0001-01-01T00:00+14:00"), YEARS),
        ((*QUERY, "--from", "9" * 5_000), "is neither milliseconds since 1970 nor a time"),
        ((*QUERY, "--limit", HUGE), "is not in the range 0<=x<=1000000000"),
        (("rejected", "list", "--limit", HUGE), "is not in the range 0<=x<=1000000000"),
        (("run", "fleet", "--start", HUGE), YEARS),
        (("run", "fleet", "--every", "nan"), "'nan' is not a number from 0 to 86400"),
        (("run", "fleet", "--every", "inf"), "is not in the range 0<=x<=86400"),
        (("run", "learn", "--priority", "nan"), "'nan' is not a number from 0 to 1"),
        (("bench", "lookup", "--zipf", "nan"), "'nan' is not a number from 0 to 10"),
    ],
)
def test_numbers_have_bounds(tmp_path, arguments, told):
    assert told in refused(tmp_path, *arguments)


def test_every_time_within_the_bounds_may_be_asked_for(shell):
    shell.prepare()
    moments = ("-62135596800000", "0001-01-01", "253402300799000", "9999-12-31T23:59:59")
    for kind, moment in product(("windows", "chunks", "transitions"), moments):
        assert shell.lines("query", kind, "--task", "valve", "--from", moment) == []
        assert shell.lines("query", kind, "--task", "valve", "--to", moment, "--limit", 0) == []


@pytest.mark.parametrize(
    "text",
    ["", "no-at-sign", "a@", "@b", "a@b, c@d", "a@b\nBcc: x@y", "a b@c", "a..b@c", "<", "a@b>", "ü@exämple.org", "?a@"],
)
def test_what_is_no_address_gets_no_digest(tmp_path, text):
    for option in ("--to", "--from"):
        assert f"{text!r} is not an e-mail address such as team@example.org" in refused(tmp_path, *DIGEST, option, text)


@pytest.mark.parametrize("text", ["", "team@example.org", "https:", "mailto:a@b\nBcc: x@y", "mailto:<a@b>"])
def test_what_is_no_url_is_not_offered_to_unsubscribe(tmp_path, text):
    assert f"{text!r} is not a mailto: or https: URL" in refused(tmp_path, *DIGEST, "--unsubscribe", text)


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("team@localhost", "", "team@localhost"),
        ("Team <team@example.org>", "Team", "team@example.org"),
        ('"Doe, J" <j.doe@example.org>', "Doe, J", "j.doe@example.org"),
        ("Zoë <zoe+x@xn--exmple-cua.org>", "Zoë", "zoe+x@xn--exmple-cua.org"),
    ],
)
def test_a_mail_names_whom_it_goes_to(text, name, address):
    message = EmailMessage(policy=SMTP)
    message["To"] = ADDRESS.convert(text, None, None)
    (found,) = message_from_bytes(message.as_bytes(), policy=default)["To"].addresses
    assert (found.display_name, found.addr_spec) == (name, address)
