"""A language model as the narrator, behind either protocol of OpenAI: what it is asked, and what it may do wrong."""

import json
import time
from contextlib import closing

import decision_examples
import jsonschema
import openai_server
import psutil
import pytest
from openai_server import CHAT, KEY, MODEL, RESPONSES, completion, openai_url, response, told, turns

from headrace.learners.explain.template import TemplateNarrator
from headrace.pipelines.narrating.allowance import FAILURES, PAUSE_S
from headrace.pipelines.narrating.narrator import ModelNarrator
from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import open_services
from headrace.schemas.errors import LanguageModelError, SettingsError, StorageError, UnavailableError
from headrace.schemas.grounding import check, fill
from headrace.schemas.records import Fact, Facts
from headrace.sinks.openai.narrator import open_narrator

FACTS = Facts(
    "secret-task",
    "v7",
    (
        Fact("version.policy", "this version", 7, "version"),
        Fact("return.vs-serving", "the version before, difference in return", 2.0, "return", 1.0, 3.0, "up"),
        Fact("return.vs-secret_rule", "the secret rule, difference in return", -9.0, "return", -9.5, -8.5, "down"),
        Fact("term.secret_term.vs-serving", "secret_term, against it", 1.5, "return", 1.0, 2.0, "up"),
        Fact("situation.s1", "secret_load > 3, decisions there", 150, "decisions"),
        Fact("judged.data", "let serve by the gate, by recorded rows", 7, "version"),
    ),
)
BETTER = {"return.vs-serving": "It is better than {name} by {}."}
WORSE = {"return.vs-a": "It is worse than {name} by {size}."}


@pytest.fixture(params=[CHAT, RESPONSES])
def server(request):
    with openai_server.running() as running:
        running.protocols = {request.param}
        running.behaviour = lambda body: told(body, BETTER | WORSE)
        yield running


class Clock:
    """Both clocks, set by hand; where `real`, seconds pass."""

    def __init__(self):
        self.ms, self.s = 1_767_225_600_000, 0.0


def opened(server, clock=None, **options):
    clock = clock or Clock()
    options = {"base_url": server.base_url, **{name: str(value) for name, value in options.items()}}
    model = open_narrator(openai_url(MODEL, options), environ={"OPENAI_API_KEY": KEY})
    return closing(ModelNarrator(model, lambda: clock.ms, lambda: clock.s + time.monotonic()))


def said(narrative, facts=FACTS):
    check(narrative, facts)
    return [fill(one, facts) for one in narrative.sentences]


def test_its_sentences_are_told_with_the_numbers_of_the_facts(server):
    with opened(server) as narrator:
        narrative = narrator.tell(FACTS)
    assert said(narrative)[:2] == [
        "It is better than the version before by +2.0 return (95 % +1.0 to +3.0).",
        "By contrast, it is worse than the secret rule by 9.0 return.",
    ]
    assert fill(narrative.headline, FACTS).startswith("v7 is better than the version before")
    assert narrative.narrator == f"openai:{MODEL}, template"


def test_what_mattered_and_was_left_out_the_template_tells_and_its_caveats_stay(server):
    with opened(server) as narrator:
        text = " ".join(said(narrator.tell(FACTS)))
    assert "is better in secret_term by 1.5 return" in text
    assert "No simulator has tested it: the gate estimated from recorded rows" in text
    assert text.count("the secret rule") == text.count("the version before by") == 1


def test_nothing_that_others_wrote_is_in_the_request(server):
    with opened(server) as narrator:
        server.behaviour = lambda body: told(body, {"return.vs-serving": "It fell by {}."})
        narrator.tell(FACTS)
    assert len(server.requests) == 2
    assert not any(b"secret" in body for body in server.requests)
    schema = json.loads(server.requests[0])
    schema = (schema.get("text") or {}).get("format") or schema["response_format"]["json_schema"]
    good = {"fact": "return.vs-a", "stance": "down", "text": "x"}
    jsonschema.validate({"sentences": [good]}, schema["schema"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"sentences": [{**good, "stance": "up"}]}, schema["schema"])


def test_what_is_refused_is_asked_for_once_more_with_the_complaint(server):
    def behaviour(body):
        if len(turns(body)) == 1:
            return told(body, {"return.vs-serving": "It fell by {}."} | WORSE)
        assert "- return.vs-serving: " in turns(body)[2]
        assert '"fell" asserts a direction' in turns(body)[2]
        return told(body, BETTER)

    server.behaviour = behaviour
    with opened(server) as narrator:
        text = said(narrator.tell(FACTS))
        counts = narrator.counters()
    assert text[0].startswith("It is worse than the secret rule")
    assert text[1].startswith("By contrast, it is better than the version before")
    assert (counts["asked",], counts["refused", "grounding"]) == (2, 1)


def test_what_is_refused_twice_the_template_tells(server):
    server.behaviour = lambda body: told(body, {"return.vs-serving": "It is a huge win of {}."} | WORSE)
    with opened(server) as narrator:
        narrative = narrator.tell(FACTS)
        counts = narrator.counters()
    assert said(narrative)[0] == "It is worse than the secret rule by 9.0 return."
    assert counts["fallback",] == 1, "the headline has the other"
    assert counts["refused", "wording"] == 2


def test_the_same_facts_cost_nothing_again_and_other_names_neither(server):
    renamed = Facts(
        "other",
        "v8",
        tuple(
            Fact(one.fact_id.replace("secret", "own"), "x, y", *(one.value, one.unit, one.low, one.high, one.direction))
            for one in FACTS.facts
        ),
    )
    with opened(server) as narrator:
        narrator.tell(FACTS)
        narrator.tell(FACTS)
        assert "It is better than x by +2.0 return (95 % +1.0 to +3.0)." in said(narrator.tell(renamed), renamed)
        assert narrator.counters()["cached",] == 2
    assert len(server.requests) == 1


def test_a_file_keeps_answers_and_spending_for_who_restarts(server, tmp_path):
    for _ in range(2):
        with opened(server, store=tmp_path / "narrator.db") as narrator:
            first = said(narrator.tell(FACTS))
    assert first[0].startswith("It is better")
    assert len(server.requests) == 1
    with opened(server, store=tmp_path / "narrator.db", tokens_per_day=1) as narrator:
        narrator.tell(Facts("t", "v7", FACTS.facts[:2]))
        assert narrator.counters()["barred", "tokens"] == 1
    with pytest.raises(StorageError, match="can't be opened"):
        opened(server, store=tmp_path / "nowhere" / "narrator.db")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tokens_per_day": 2}, "tokens"),
        ({"money_per_day": 1e-6, "price_in": 1, "price_out": 2}, "money"),
        ({"seconds_per_day": 1e-6}, "time"),
    ],
)
def test_a_budget_ends_at_midnight(server, options, reason):
    clock = Clock()
    with opened(server, clock, **options) as narrator:
        told_of = [Facts("t", f"v{place}", (FACTS.facts[0], *FACTS.facts[place : place + 2])) for place in (1, 2, 3)]
        narrator.tell(told_of[0])
        assert narrator.tell(told_of[1]).narrator == "template"
        assert narrator.counters()["barred", reason] == 1
        clock.ms += 86_400_000
        narrator.tell(told_of[2])
        assert narrator.counters()["asked",] >= 2


def numbered(place):
    return Facts("t", "v1", (Fact("version.policy", "this", place, "version"), FACTS.facts[1]))


def test_after_failures_it_is_left_alone_for_a_while(server):
    server.behaviour = lambda _: (400, {"error": {"message": "no"}})
    clock = Clock()
    with opened(server, clock) as narrator:
        for place in range(FAILURES + 5):
            assert narrator.tell(numbered(place)).narrator == "template"
        assert len(server.requests) == FAILURES
        clock.s += PAUSE_S + 1
        narrator.tell(numbered(90))
        narrator.tell(numbered(91))
        assert len(server.requests) == FAILURES + 1, "one try, which failed"
        clock.s += PAUSE_S + 1
        server.behaviour = lambda body: told(body, BETTER)
        assert [narrator.tell(numbered(92 + place)).narrator for place in range(2)] == [f"openai:{MODEL}"] * 2
        assert narrator.counters()["barred", "paused"] == 6


def test_a_backlog_does_not_wait_for_a_slow_model(server):
    clock = Clock()

    def slowly(body):
        clock.s += 18.0
        return told(body, BETTER)

    server.behaviour = slowly
    with opened(server, clock) as narrator:
        speakers = [narrator.tell(numbered(place)).narrator for place in range(20)]
        assert speakers.count("template") == narrator.counters()["barred", "busy"] > 10
        assert clock.s < 150


@pytest.mark.long
def test_memory_is_flat_over_a_thousand_reports(server):
    """The first two hundred fill what is bounded; the server, in this process too, forgets what it was asked."""

    def behaviour(body):
        for kept in (server.requests, server.headers, server.paths):
            kept.clear()
        return told(body, BETTER)

    server.behaviour = behaviour
    process, sizes = psutil.Process(), []
    with opened(server) as narrator:
        for place in range(1_000):
            said(narrator.tell(numbered(place)), numbered(place))
            sizes.append(process.memory_info().rss)
        assert narrator.counters()["asked",] == 1_000
    assert sizes[-1] - sizes[200] < 8 << 20


MARKED = {"{name}, {}": "It is better than {name} by {}.", "{name}, {size}": "It is worse than {name} by {size}."}
"""Sentences by the placeholders that a prompt about one fact asks for."""


def one_sentence(body):
    prompt = turns(body)[0]
    marks = prompt.partition("marks: ")[2]
    return {"text": MARKED.get(marks, "Against {other}, its part {name} is better by {}.")}


def test_a_small_model_is_asked_fact_by_fact(server):
    server.behaviour = one_sentence
    with opened(server, ask="fact") as narrator:
        text = said(narrator.tell(FACTS))
        narrator.tell(FACTS)
        counts = narrator.counters()
    assert text[:3] == [
        "It is worse than the secret rule by 9.0 return.",
        "By contrast, it is better than the version before by +2.0 return (95 % +1.0 to +3.0).",
        "Against the version before, its part secret_term is better by +1.5 return (95 % +1.0 to +2.0).",
    ]
    assert (counts["asked",], counts["cached",]) == (4, 4)
    assert counts["refused", "grounding"] == 1, "of a level nothing is better"
    assert not any(b"secret" in body for body in server.requests)


@pytest.mark.parametrize("ask", ["report", "fact"])
def test_what_is_stored_is_told_once_the_budget_is_spent(server, tmp_path, ask):
    """Whatever comes before it: one of three facts is new, and may not be asked about any more."""
    server.behaviour = one_sentence if ask == "fact" else server.behaviour
    known = Facts("t", "v7", FACTS.facts[2:])
    with opened(server, ask=ask, store=tmp_path / "narrator.db") as narrator:
        before = said(narrator.tell(known), known)
    asked = len(server.requests)
    facts = FACTS if ask == "fact" else known
    with opened(server, ask=ask, store=tmp_path / "narrator.db", tokens_per_day=1) as narrator:
        after = said(narrator.tell(facts), facts)
        counts = narrator.counters()
    assert len(server.requests) == asked
    assert counts["cached",] == (1 if ask == "report" else 2)
    assert counts.get(("barred", "tokens"), 0) == (ask == "fact")
    assert "It is worse than the secret rule by 9.0 return." in {*before} & {*after}


def test_of_a_decision_the_template_tells_what_it_is_about_and_all_the_rest(server):
    server.behaviour = one_sentence
    facts = decision_examples.cloud()
    by_template = {one.text for one in TemplateNarrator().tell(facts).sentences}
    with opened(server, ask="fact") as narrator:
        narrative = narrator.tell(facts)
    check(narrative, facts)
    kept = {one.text for one in narrative.sentences} & by_template
    assert any("counterfactual." in text for text in kept)
    assert any("path." in text for text in kept) == any("path." in text for text in by_template)
    assert not any(b"counterfactual" in body or b"decision.taken" in body for body in server.requests)


def test_a_sentence_that_is_refused_the_template_tells_alone(server):
    server.behaviour = lambda body: (
        {"text": "It rose by {size}, {name}."} if "vs-a" in turns(body)[0] else one_sentence(body)
    )
    with opened(server, ask="fact") as narrator:
        text = said(narrator.tell(FACTS))
    assert "It is better than the version before by +2.0 return (95 % +1.0 to +3.0)." in text
    assert any("is worse than the secret rule by 9.0 return" in one for one in text)
    assert not any("rose" in one for one in text)


def test_once_a_small_model_hangs_no_other_fact_is_asked(server):
    """The sentences that came before are told; the report is late by no more than the time-out."""

    def behaviour(body):
        if len(server.requests) == 2:
            time.sleep(2.0)
        return one_sentence(body)

    server.behaviour = behaviour
    with opened(server, ask="fact", timeout_s=0.7) as narrator:
        start = time.monotonic()
        text = said(narrator.tell(FACTS))
        assert time.monotonic() - start < 1.1
        assert len(server.requests) == 2
        assert narrator.counters()["failed",] == 1
    assert "It is worse than the secret rule by 9.0 return." in text


def test_a_small_model_that_is_slow_is_not_asked_without_time_and_has_not_failed(server):
    clock = Clock()

    def slowly(body):
        clock.s += 11.0
        return one_sentence(body)

    server.behaviour = slowly
    with opened(server, clock, ask="fact", timeout_s=20) as narrator:
        text = said(narrator.tell(FACTS))
        counts = narrator.counters()
    assert (counts["asked",], counts.get(("failed",), 0)) == (2, 0)
    assert text[0] == "It is worse than the secret rule by 9.0 return."


BAD = {
    "prose": "I would say that it is better.",
    "cut JSON": '{"sentences": [{"fact": "return.vs',
    "a stray field": {"sentences": [], "note": "x"},
    "another stance": {"sentences": [{"fact": "return.vs-serving", "stance": "great", "text": "x"}]},
    "null": "null",
    "a refusal": lambda handler: handler._send(
        200, completion(None, refusal="no") if handler.path == CHAT else response(None, refusal="no")
    ),
    "cut off": lambda handler: handler._send(
        200,
        completion('{"sen', finish_reason="length")
        if handler.path == CHAT
        else response('{"sen', status="incomplete", reason="max_output_tokens"),
    ),
    "no JSON": b"<html>gateway</html>",
    "not UTF-8": b"\xff\xfe",
    "nested too deep": b'{"x":' + b"[" * 100_000,
    "rate limited": (429, {"error": {"message": "slow down"}}, [("retry-after", "3600")]),
    "broken": (500, {"error": {"message": "broken"}}),
    "a wrong request": (400, {"error": {"message": "no"}}),
    "no sentences": {"sentences": []},
    "wrong ids": {"sentences": [{"fact": "return.vs-z", "stance": "up", "text": "It rose by {}."}]},
    "ids as they really are": {"sentences": [{"fact": "return.vs-secret_rule", "stance": "down", "text": "{} fell."}]},
    "invented numbers": {"sentences": [{"fact": "return.vs-serving", "stance": "up", "text": "It rose by 99 {}."}]},
    "a false stance": {"sentences": [{"fact": "return.vs-serving", "stance": "down", "text": "It fell by {}."}]},
    "an order": {"sentences": [{"fact": "return.vs-serving", "stance": "up", "text": "You must deploy it: {}."}]},
    "a page": {"sentences": [{"fact": "return.vs-serving", "stance": "up", "text": "<script>x</script> {}."}]},
    "silence": lambda handler: time.sleep(1.0),
    "gone half-way": lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"),
    "gone": lambda handler: handler.connection.close(),
    "a flood": b" " * (3 << 20),
}


@pytest.mark.parametrize("name", BAD)
def test_whatever_it_does_the_report_is_in_time_and_grounded(server, name):
    """In time: at most the time-out, 0.7 s here, and what the template takes."""

    def behaviour(_):
        answer = BAD[name]
        if not callable(answer):
            return answer

        def call(handler):
            handler.close_connection = True
            return answer(handler)

        return call

    server.behaviour = behaviour
    with opened(server, timeout_s=0.7) as narrator:
        start = time.monotonic()
        narrative = narrator.tell(FACTS)
        assert time.monotonic() - start < 1.1
        assert narrative.narrator == "template"
        text = " ".join(said(narrative))
        assert "It is worse than the secret rule by 9.0 return." in text
        assert narrator.counters()["seconds",] < 1.1
    assert 1 <= len(server.requests) <= 2


def test_the_key_is_never_logged(server, caplog):
    with closing(
        ModelNarrator(
            open_narrator(openai_url(MODEL, {"base_url": server.base_url}), environ={"OPENAI_API_KEY": "sk-wrong"}),
            lambda: 0,
        )
    ) as narrator:
        narrator.tell(FACTS)
    assert "HTTP 401" in caplog.text
    assert "sk-wrong" not in caplog.text


def test_which_protocol_a_service_speaks_is_found_out_once(server):
    server.behaviour = lambda body: told(body, BETTER)
    with opened(server) as narrator:
        for place in range(3):
            narrator.tell(numbered(place))
    assert server.paths == ([CHAT] * 3 if CHAT in server.protocols else [CHAT, RESPONSES, RESPONSES, RESPONSES])


def test_neither_protocol(server):
    server.protocols = set()
    options = {"base_url": server.base_url}
    with closing(open_narrator(openai_url(MODEL, options), environ={})) as model:
        with pytest.raises(LanguageModelError, match="neither the path nor the model"):
            model.answer(FACTS, None, 5.0)
        assert model.tokens == (0, 0)


def test_openai_itself_is_asked_by_responses_first():
    with closing(open_narrator(openai_url(MODEL, {}), environ={"OPENAI_API_KEY": KEY})) as model:
        assert [protocol.resource for protocol in model._client._protocols] == [("responses",), ("chat", "completions")]


def test_tokens_are_counted_or_estimated(server):
    with opened(server) as narrator:
        narrator.tell(FACTS)
        counted = narrator.counters()
    expected = (1, 1) if CHAT in server.protocols else (10, 5)
    assert (counted["tokens", "in"], counted["tokens", "out"]) == expected

    def uncounted(body):
        answer = told(body, BETTER)
        made = completion(json.dumps(answer)) if CHAT in server.protocols else response(json.dumps(answer))
        return (200, {name: value for name, value in made.items() if name != "usage"})

    server.behaviour = uncounted
    with opened(server) as narrator:
        narrator.tell(FACTS)
        assert narrator.counters()["tokens", "in"] > 500
        assert 10 < narrator.counters()["tokens", "out"] < 60


def test_a_service_that_is_down_costs_no_tokens(server):
    gone = server.base_url
    server.server_close()
    options = {"base_url": gone, "timeout_s": "1"}
    with closing(open_narrator(openai_url(MODEL, options), environ={})) as model:
        with pytest.raises(UnavailableError):
            model.answer(FACTS, None, 1.0)
        assert model.tokens == (0, 0)


def test_settings_name_the_narrator_and_doctor_asks_it(server):
    url = f"openai:{MODEL}?base_url={server.base_url}&tokens_per_day=1000&price_in=0.2"
    with open_services(read_settings({"narrator": url})) as services:
        assert services.narrator.about() == "answers and knows the model"
    with open_services(read_settings({"narrator": url.replace(MODEL, "other")})) as services:
        assert "no such model" in services.narrator.about()
    with open_services(read_settings({"narrator": "template:"})) as services:
        assert services.narrator.tell(FACTS).narrator == "template"
        assert services.narrator.counters() == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ask": "poem"}, "Invalid enum value 'poem'"),
        ({"tokens_per_day": "many"}, "tokens_per_day"),
        ({"money_per_day": "-1"}, "money_per_day"),
    ],
)
def test_limits_that_cannot_be_used(options, words):
    with pytest.raises(SettingsError, match=words):
        open_narrator(openai_url(MODEL, options), environ={"OPENAI_API_KEY": KEY})
