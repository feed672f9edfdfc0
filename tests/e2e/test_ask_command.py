"""`headrace ask` as it is typed: answers to stdout, what is not known to stderr, and the exit status."""

import json

import pytest
from shell import VALVE, Shell, transitions


@pytest.fixture(scope="module")
def stream(new_shell) -> Shell:
    """Rows of four agents in 100 seconds, from 14 November 2023, 22:13:20 UTC on; none of a version that is stored."""
    shell = new_shell()
    (shell.folder / "valve.json").write_text(json.dumps(VALVE))
    shell.json("init", "--sample-every", 1)
    shell.json("task", "add", "valve.json")
    rows = [{name: value for name, value in row.items() if name != "policy_version"} for row in transitions(400)]
    shell.write("data.jsonl", rows)
    shell.json("produce", "data.jsonl", "--close")
    shell.json("run", "ingest", "--until-caught-up")
    return shell


def test_an_answer_is_sentences_or_data(stream):
    """The sentences, or with --json all that they rest on."""
    asked = ("ask", "how did agent-1 do between 22:13 and 22:15?")
    told = stream.here(*asked).decode()
    assert told.startswith("Mean reward was ")
    assert "100 rows came in from 1 agent" in told
    answer = stream.json(*asked)
    assert answer["question"]["kind"] == "activity"
    assert answer["question"]["agent"] == "agent-1"
    assert answer["sentences"][0] in told
    assert {"fact_id": "rows.total", "label": "transitions", "value": 100.0, "unit": "rows"} in answer["facts"]["facts"]


def test_a_question_without_quotes_is_one_as_well(stream):
    """The words of the command line are the question."""
    told = stream.here("ask", "how", "many", "messages", "were", "rejected").decode()
    assert told.startswith("No message was rejected as far as the log goes back")


def test_past_decisions_are_found_without_any_version(stream):
    """What was done in states like this one needs no policy."""
    told = stream.here("ask", "what happened in states like that of agent-2 at 22:14?").decode()
    assert "like it in the past" in told


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (("what is the weather like?",), "out of scope: ask about"),
        (("which version serves?",), "no version serves valve"),
        (("why did agent-9 choose a?",), "did you mean agent-"),
        (("what did agent-1 expect at 22:14?",), "no version of it serves, and the row names none"),
        (("which version serves?", "--task", "valv"), "did you mean valve?"),
        (("how many rows came in since 14:05 Europe/Berln?",), "did you mean Europe/Berlin?"),
    ],
)
def test_what_is_not_known_ends_with_a_failure(stream, options, missing):
    """Its reason comes on stderr, in the words of the question's own task; with --json on stdout too."""
    done = stream("ask", *options, code=1)
    assert done.stdout == b""
    assert missing in done.stderr.decode()
    assert done.stderr.startswith(b"not known: ")
    assert missing in stream.json("ask", *options, code=1)["not_known"]


def test_an_unknown_zone_is_an_error(stream):
    """It says what a zone looks like."""
    assert b"Europe/Berlin" in stream("ask", "which version serves?", "--zone", "Nowhere", code=1).stderr
