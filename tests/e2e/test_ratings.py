"""What people think of reports: thumbs by narrator, a person's last word each, and no text."""

from contextlib import closing

import msgspec
import pytest
from shell import T0

from headrace.pipelines.topics import REPORTS
from headrace.schemas.errors import SettingsError
from headrace.schemas.ports import Record
from headrace.schemas.records import Fact, Facts, Narrative, Report, Sentence
from headrace.sinks.sqlite.log import SqliteLog


def report(number, narrator):
    facts = Facts("valve", f"v{number}", (Fact("version.policy", "this version", number, "version"),))
    narrative = Narrative(narrator, Sentence("{version.policy} serves now"), ())
    return Report(f"valve.version.{number}", "valve", "version", T0, T0, number, facts, narrative, {})


@pytest.fixture
def reported(shell):
    """The folder of a stream with two reports, by two narrators."""
    shell.prepare()
    with closing(SqliteLog(shell.folder / ".headrace" / "log.db", lambda: T0)) as log:
        for one in (report(1, "template"), report(2, "openai:small, template")):
            log.send([Record(REPORTS, one.report_id.encode(), msgspec.json.encode(one))])
    return shell


def test_a_persons_last_word_holds(reported):
    for number, rating, who in ((1, "down", "ada"), (1, "up", "ada"), (1, "up", "ben"), (2, "down", "ben")):
        reported.here("report", "rate", f"valve.version.{number}", rating, "--who", who)
    by_narrator = {one.pop("narrator"): one for one in reported.lines("report", "ratings")}
    assert by_narrator == {
        "template": {"up": 2, "down": 0, "people": 2},
        "openai:small, template": {"up": 0, "down": 1, "people": 1},
    }
    assert reported.lines("report", "ratings", "--task", "other") == []
    told = reported.here("report", "ratings").decode().splitlines()
    assert [line.split() for line in told] == [
        ["narrator", "up", "down", "people"],
        ["openai:small,", "template", "0", "1", "1"],
        ["template", "2", "0", "2"],
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("valve.version.9", "up"), "no report 'valve.version.9'"),
        (("valve.version.1", "up", "--who", "Ada, who liked it"), "write 1 to 64 of A-Z"),
    ],
)
def test_what_cannot_be_rated_is_refused(reported, arguments, told):
    with pytest.raises(SettingsError, match=told):
        reported.here("report", "rate", *arguments)
    assert reported.lines("report", "ratings") == []


def test_a_rating_is_up_or_down_and_no_text(reported):
    reported.here("report", "rate", "valve.version.1", "so-so", code=2)
