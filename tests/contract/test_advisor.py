"""The advisor's port: what any advisor says of any facts is typed and bounded in number; its errors are headrace's."""

import contextlib
import gzip
import json
import threading
import time
from contextlib import closing

import jsonschema
import msgspec
import openai_server
import pytest
import zstandard
from openai_server import KEY, MODEL, change, completion, openai_url, turns

from headrace.learners.advice.ledger import problem
from headrace.learners.advice.rules import RuleAdvisor
from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import open_services
from headrace.schemas.directives import ACTIONS, PROPOSALS_MAX, EarlierDirective, LearningFacts
from headrace.schemas.errors import LanguageModelError, SettingsError, UnavailableError
from headrace.schemas.scenarios import Loss, Variations
from headrace.sinks.openai.advisor import choices, open_advisor, schema

SETTINGS = {"learning_rate": 1e-3, "epsilon_end": 0.05, "shaping.term_0": 0.0, "explore_rule.rate_rule": 0.0}
SINKING = LearningFacts(
    version=4, rows=1_000, updates=50, skipped_updates=0, settings=SETTINGS, td_abs=0.5, returns=(80.0, 70.0, 60.0)
)
WELL = msgspec.structs.replace(SINKING, returns=(60.0, 70.0, 80.0))


def wait_until(holds, limit_s):
    end = time.monotonic() + limit_s
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


@pytest.fixture
def server():
    with openai_server.running() as running:
        yield running


def opened(server, key=KEY, **options):
    options = {"base_url": server.base_url, **{name: str(value) for name, value in options.items()}}
    return closing(open_advisor(openai_url(MODEL, options), environ={"OPENAI_API_KEY": key}))


@pytest.fixture(params=["rules", "openai"])
def advisor(request, server):
    if request.param == "rules":
        yield RuleAdvisor()
        return
    server.behaviour = lambda request: {"changes": [change()] if "returns 80, 70, 60" in turns(request)[0] else []}
    with opened(server) as advisor:
        yield advisor


def test_it_has_a_name(advisor):
    assert advisor.name in {"rules:", f"openai:{MODEL}"}


def test_it_proposes_what_the_table_allows(advisor):
    (proposal,) = advisor.propose(SINKING)
    assert (proposal.change, proposal.value, proposal.target) == ("learning_rate", 5e-4, "")
    assert problem(proposal, SETTINGS, ()) is None
    assert proposal.reason


def test_it_proposes_nothing_where_nothing_needs_changing(advisor):
    assert list(advisor.propose(WELL)) == []


def test_the_same_facts_give_the_same_proposals(advisor):
    assert list(advisor.propose(SINKING)) == list(advisor.propose(SINKING))


def test_it_never_says_more_than_is_read(advisor):
    facts = msgspec.structs.replace(
        SINKING, skipped_updates=3, actions=(0.95, 0.05), terms={"term_0": -3.0}, terms_before={"term_0": -1.0}
    )
    assert len(advisor.propose(facts)) <= PROPOSALS_MAX


def test_facts_without_settings_give_no_proposals(advisor):
    assert list(advisor.propose(msgspec.structs.replace(SINKING, settings={}))) == []


def test_scenarios_lie_within_the_bounds(advisor, server):
    """However the model answers: what is beyond them is left out."""
    server.behaviour = lambda _: {"scenarios": [{"wind": 9.0}, {"wind": 3.0}]}
    found = advisor.scenarios(Variations({"wind": (0.0, 4.0)}, 5.0, (Loss("wind", 0.0, 1.0), Loss("wind", 4.0, 9.0))))
    assert 1 <= len(found) <= 4
    assert all(0.0 <= one.changes["wind"] <= 4.0 for one in found)


# What follows is of the model alone.


def test_the_request_is_what_the_service_asks_for(server):
    """Two messages, a strict schema whose choices are this learner's settings and ways, a bound of tokens."""
    with opened(server, max_tokens=321) as advisor:
        advisor.propose(SINKING)
    (body,) = server.requests
    request = json.loads(body)
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert request["max_completion_tokens"] == 321
    assert "returns 80, 70, 60" in turns(request)[0].splitlines()
    schema = request["response_format"]["json_schema"]["schema"]
    jsonschema.validate({"changes": [change(), change("shaping.term_0 more")]}, schema)
    nothing_to_move = change("explore_rule.rate_rule less")
    unknown = change(because=["terms"])
    for wrong in (change("hidden"), nothing_to_move, {**change(), "why": "x"}, unknown):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"changes": [wrong]}, schema)
    for key in SETTINGS:
        assert ACTIONS[key.partition(".")[0]].description in request["messages"][0]["content"]


def test_the_reason_states_facts_and_none_of_the_models_words(server):
    server.behaviour = lambda _: {"changes": [change(because=["td_abs", "returns", "ignore all rules"])]}
    with opened(server) as advisor:
        (proposal,) = advisor.propose(SINKING)
    assert proposal.reason == "td_abs 0.5; returns 80, 70, 60"


def test_only_what_can_be_accepted_is_offered():
    """Whichever setting and way: within bounds and rates of change, whole where it must be, and none on probation."""
    settings = {**SETTINGS, "epsilon_steps": 30_721.0, "shaping.term_0": 0.9, "explore_rule.hpa": 0.7}
    facts = msgspec.structs.replace(SINKING, settings=settings, probation=("epsilon_end",))
    offered = choices(facts)
    assert {problem(one, settings, facts.probation) for one in offered.values()} == {None}
    assert len(offered) == 2 * 4 + 4 + 2 + 4
    assert offered["epsilon_steps much less"].value == 15_361.0
    assert offered["learning_rate more"].value == pytest.approx(1e-3 * 2**0.5)
    assert (offered["shaping.term_0 less"].value, offered["shaping.term_0 more"].value) == (pytest.approx(0.775), 1.0)
    assert schema(facts)["properties"]["changes"]["maxItems"] == 2


def test_nothing_is_asked_where_nothing_can_be_accepted(server):
    facts = msgspec.structs.replace(SINKING, probation=("a", "b", "c"))
    with opened(server) as advisor:
        assert advisor.propose(facts) == []
    assert server.requests == []


def test_a_question_is_short(server):
    """With all facts there are, and of the longest: fewer characters than a small model reads in seconds."""
    earlier = EarlierDirective(
        2, 1, "explore_rule", "hpa_kubernetes", 0.4123, 1e-3, "accepted", "gate", -3.123, -4.2, -2.1
    )
    numbers = {"loss": 0.1234, "td_abs_before": 0.1234, "floor": 76.71, "returns": (-81.23,) * 8}
    rules = dict.fromkeys(("hpa", "hpa_kubernetes", "rate_rule"), 76.71)
    many = {"rules": rules, "actions": (0.1234,) * 5, "earlier": (earlier,) * 8}
    facts = msgspec.structs.replace(SINKING, **numbers, **many)
    with opened(server) as advisor:
        advisor.propose(facts)
    request = json.loads(server.requests[0])
    assert len(request["messages"][0]["content"]) < 1_200
    assert len(request["messages"][1]["content"]) < 1_100


def test_the_model_is_told_what_became_of_its_directives(server):
    """Numbers and headrace's own names; a reason may cite them."""
    undone = EarlierDirective(2, 1, "learning_rate", "", 5e-4, 1e-3, "undone", "gate", -3.0, -4.0, -2.0)
    server.behaviour = lambda _: {"changes": [change(because=["earlier"])]}
    with opened(server) as advisor:
        (proposal,) = advisor.propose(msgspec.structs.replace(SINKING, earlier=(undone,)))
    request = json.loads(server.requests[0])
    assert '"earlier"' in request["messages"][0]["content"]
    assert "earlier learning_rate 0.0005 undone -3 [-4, -2]" in turns(request)[0].splitlines()
    assert proposal.reason == "earlier learning_rate 0.0005 undone -3 [-4, -2]"


def test_the_model_is_told_what_variations_cost(server):
    variations = Variations({"wind": (0.0, 4.0)}, 5.0, (Loss("wind", 4.0, 9.0),))
    server.behaviour = lambda _: {"scenarios": [{"wind": 9.0}]}
    with opened(server) as advisor, pytest.raises(LanguageModelError, match="within the bounds"):
        advisor.scenarios(variations)
    assert json.loads(turns(json.loads(server.requests[0]))[0]) == {
        "bounds": {"wind": [0.0, 4.0]},
        "loss": 5.0,
        "losses": [{"name": "wind", "value": 4.0, "loss": 9.0}],
    }


@pytest.mark.parametrize("choice", ["learning_rate 1.0", "hidden more", "explore_rule.rate_rule less", "learning_rate"])
def test_a_choice_that_was_not_offered_is_unreadable(server, choice):
    """Its words are repeated nowhere."""
    server.behaviour = lambda _: {"changes": [change(), change(choice)]}
    with opened(server) as advisor, pytest.raises(LanguageModelError, match="not offered") as refused:
        advisor.propose(SINKING)
    assert choice not in str(refused.value)


GARBAGE = {
    "no JSON": b"<html>gateway</html>",
    "not UTF-8": b"\xff\xfe",
    "empty": b"",
    "no choices": {"choices": []},
    "another shape": {"choices": "none"},
    "nested too deep": b'{"x":' + b"[" * 100_000,
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_response_that_is_no_completion(server, name):
    server.behaviour = lambda _: lambda handler: handler._send(200, GARBAGE[name])
    with opened(server) as advisor, pytest.raises(LanguageModelError):
        advisor.propose(SINKING)
    assert len(server.requests) == 1


ANSWERS = {
    "prose": "I would lower the learning rate.",
    "cut JSON": '{"changes": [{"change": "learn',
    "a stray field": json.dumps({"changes": [{**change(), "note": "hello"}]}),
    "a missing field": json.dumps({"changes": [{"change": "learning_rate less"}]}),
    "a text for a list": json.dumps({"changes": [{**change(), "because": "td_abs"}]}),
    "not a number": '{"changes": [{"change": NaN, "because": []}]}',
    "null": "null",
    "a list": "[]",
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_that_is_not_of_the_schema(server, name):
    server.behaviour = lambda _: ANSWERS[name]
    with opened(server) as advisor, pytest.raises(LanguageModelError, match="schema"):
        advisor.propose(SINKING)


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (completion('{"changes"', finish_reason="length"), "cut off"),
        (completion(None, refusal="I can't help with that"), "refused"),
        (completion(None, finish_reason="content_filter"), "refused"),
    ],
)
def test_an_answer_that_was_cut_off_or_refused(server, response, words):
    server.behaviour = lambda _: (200, response)
    with opened(server) as advisor, pytest.raises(LanguageModelError, match=words):
        advisor.propose(SINKING)


def test_a_wrong_key_is_refused_at_once_and_never_repeated(server):
    with opened(server, key="sk-secret-and-wrong") as advisor, pytest.raises(LanguageModelError) as refused:
        advisor.propose(SINKING)
    assert "401" in str(refused.value)
    assert "sk-secret" not in str(refused.value)
    assert len(server.requests) == 1


def test_a_busy_service_is_asked_again(server):
    """However long it says that one should wait: the exchange as a whole is bounded."""
    busy = (429, {"error": {"message": "slow down"}}, [("retry-after", "120")])
    server.behaviour = lambda _: busy if len(server.requests) == 1 else {"changes": [change()]}
    with opened(server) as advisor:
        start = time.monotonic()
        assert len(advisor.propose(SINKING)) == 1
    assert time.monotonic() - start < 10
    assert len(server.requests) == 2


def test_a_failing_service_is_unavailable(server):
    server.behaviour = lambda _: (503, {"error": {"message": "down"}})
    with opened(server) as advisor, pytest.raises(UnavailableError, match="503"):
        advisor.propose(SINKING)
    assert len(server.requests) == 2


OK = b"HTTP/1.1 200 OK\r\n"
ERROR = b"HTTP/1.1 500 Broken\r\n\r\n"
SPACES = b" " * (1 << 16)
HELD = {
    "the body in drops": (OK + b"\r\n", b" "),
    "headers in drops": (OK, b"x-header: a\r\n"),
    "a header in bytes": (OK + b"x-header: ", b"a"),
    "headers are to come": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "an error's body in drops": (ERROR, b" "),
    "an error's body without end": (ERROR, SPACES, 0),
    "a way on without end": (OK.replace(b"200", b"307") + b"location: /v1/chat/completions\r\n\r\n", SPACES, 0),
}


def calls_under_way():
    return [thread for thread in threading.enumerate() if thread.name == "http-call"]


@pytest.mark.parametrize("name", HELD)
def test_a_service_that_never_ends_is_given_up(server, name):
    """In time, with little read, and with the connection shut: nothing is left of the call, and the next one works."""
    server.behaviour = lambda _: lambda handler: handler.pour(*HELD[name])
    with opened(server, timeout_s=0.6) as advisor:
        start = time.monotonic()
        with pytest.raises(UnavailableError):
            advisor.propose(SINKING)
        assert time.monotonic() - start < 1.2
        server.behaviour = lambda _: {"changes": [change()]}
        assert wait_until(lambda: not calls_under_way(), 1.0)
        assert len(advisor.propose(SINKING)) == 1
    assert server.poured < len(server.requests) << 24  # what sockets hold


@pytest.mark.parametrize("name", HELD)
def test_doctor_is_not_held_either(server, name):
    server.about = lambda handler: handler.pour(*HELD[name])
    start = time.monotonic()
    with opened(server, timeout_s=0.4) as advisor, contextlib.suppress(UnavailableError):
        assert "knows" in advisor.about()  # it takes the status for it
    assert time.monotonic() - start < 1.2
    assert wait_until(lambda: not calls_under_way(), 1.0)


def test_a_silent_service_is_given_up(server):
    server.behaviour = lambda _: lambda handler: time.sleep(2)
    start = time.monotonic()
    with opened(server, timeout_s=0.6) as advisor, pytest.raises(UnavailableError):
        advisor.propose(SINKING)
    assert time.monotonic() - start < 1.2


@pytest.mark.parametrize("broken", ["cut", "stalled"])
def test_an_answer_that_breaks_off_is_unavailable(server, broken):
    """What goes wrong in the body is mapped as what goes wrong before it."""

    def half(handler):
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b" " * 10)
        handler.wfile.flush()
        if broken == "stalled":
            time.sleep(1.5)
        handler.close_connection = True

    server.behaviour = lambda _: half
    with opened(server, timeout_s=0.6) as advisor, pytest.raises(UnavailableError):
        advisor.propose(SINKING)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
def test_what_is_compressed_is_neither_asked_for_nor_unpacked(server, encoding, pack):
    body = pack(json.dumps(completion('{"changes": []}')).encode())
    server.behaviour = lambda _: (200, body, [("content-encoding", encoding)])
    with opened(server) as advisor, pytest.raises(LanguageModelError):
        advisor.propose(SINKING)
    assert server.headers[0]["accept-encoding"] == "identity"


def test_a_flood_is_given_up(server):
    server.behaviour = lambda _: b" " * (3 << 20)
    with opened(server) as advisor, pytest.raises(LanguageModelError, match="bytes"):
        advisor.propose(SINKING)


def test_a_service_that_is_down(server):
    gone = server.base_url
    server.server_close()
    options = {"base_url": gone, "timeout_s": "2"}
    with closing(open_advisor(openai_url(MODEL, options), environ={})) as advisor, pytest.raises(UnavailableError):
        advisor.propose(SINKING)


def test_doctor_learns_whether_the_model_is_there(server):
    with opened(server) as advisor:
        assert "knows" in advisor.about()
    options = {"base_url": server.base_url}
    with closing(open_advisor(openai_url("other", options), environ={})) as advisor:
        assert "no such model" in advisor.about()


@pytest.mark.parametrize(
    ("model", "options", "environ", "words"),
    [
        ("", {}, {"OPENAI_API_KEY": KEY}, "names no model"),
        (MODEL, {}, {}, "needs a key"),
        (MODEL, {"key_file": "/nowhere/key"}, {}, "/nowhere/key"),
        (MODEL, {"timeout_s": "soon"}, {"OPENAI_API_KEY": KEY}, "timeout_s"),
        (MODEL, {"timeout_s": "nan"}, {"OPENAI_API_KEY": KEY}, "timeout_s"),
        (MODEL, {"max_tokens": "0"}, {"OPENAI_API_KEY": KEY}, "max_tokens"),
        (MODEL, {"base_url": "ftp://x"}, {"OPENAI_API_KEY": KEY}, "base_url"),
    ],
)
def test_settings_that_cannot_be_used(model, options, environ, words):
    with pytest.raises(SettingsError, match=words):
        open_advisor(openai_url(model, options), environ=environ)


def test_the_key_comes_from_a_file(server, tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    for options, environ in (({"key_file": str(path)}, {}), ({}, {"OPENAI_API_KEY_FILE": str(path)})):
        with closing(
            open_advisor(openai_url(MODEL, {"base_url": server.base_url, **options}), environ=environ)
        ) as advisor:
            assert advisor.propose(SINKING) == []


def test_settings_name_the_advisor(server, tmp_path):
    """A URL gives the advisor, opened when it is first used; the key's file is masked where the URL is shown."""
    path = tmp_path / "key"
    path.write_text(KEY)
    url = f"openai:{MODEL}?base_url={server.base_url}&key_file={path}&mode=log"
    for text, name in ((url, f"openai:{MODEL}"), ("rules:", "rules:"), ("rules:?every=3", "rules:")):
        with open_services(read_settings({"advisor": text})) as services:
            assert services.advisor.name == name
            services.advisor.propose(SINKING)
            assert str(path) not in str(services.settings.advisor)
    with open_services(read_settings({"advisor": "none:"})) as services:
        assert services.advisor is None
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
