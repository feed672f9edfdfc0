"""The console's pages as HTML: what they say, whom they let, and that nothing a producer writes is markup."""

import asyncio
import hashlib
import re
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
from fastapi.testclient import TestClient

from headrace.pipelines.published import directives, published
from headrace.pipelines.serve.access import Gate
from headrace.pipelines.serve.app import create_app
from headrace.pipelines.serve.console.events import Streams
from headrace.pipelines.serve.console.health import Lags
from headrace.pipelines.serve.console.render import STATIC
from headrace.pipelines.serve.site import Site
from headrace.pipelines.serve.tokens import create_token
from headrace.pipelines.serve.view import View
from headrace.pipelines.tasks import add_task
from headrace.pipelines.topics import DIRECTIVES, POLICIES, REJECTED, WINDOWS
from headrace.schemas.errors import UnavailableError
from headrace.schemas.ports import Record
from headrace.schemas.records import AgentStats, Directive, Operation, ServingPolicy, TaskSpec, WindowSummary

NOW_MS = 1_700_000_000_000
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
HTML = {"Accept": "text/html"}
SPEC = TaskSpec("valve", ("pressure", "flow"), ("close", "open"), 10_000)


def send(services, topic, record, key="valve", headers=()):
    value = record if isinstance(record, bytes) else msgspec.json.encode(record)
    services.log.send([Record(topic, key.encode(), value, headers)])


def window(number, reward, rows=10, version=1, task="valve"):
    start_ms = NOW_MS - 1_000_000 + 10_000 * number
    totals = AgentStats("", rows, reward * rows, reward, reward, (), (rows, 0), 1, {version: rows}, 0, 1)
    return WindowSummary(task, 0, 0, start_ms, start_ms + 10_000, rows, 0, totals, [], [])


def served(version, decided_by="gate", reason="better", ts=NOW_MS - 5_000, **more):
    return ServingPolicy("valve", version, "0" * 16, decided_by, reason, ts, **more)


def shown(client, path, text):
    """The page, once the view has read what was sent: it holds the text."""
    for _ in range(200):
        page = client.get(path, headers=HTML).text
        if text in page:
            return page
        time.sleep(0.02)
    raise AssertionError(f"{text!r} is not on {path}: {page}")


def test_with_nothing_yet_it_says_what_to_do(client):
    page = shown(client, "/", "There is no task yet")
    assert "headrace task add" in page
    assert "The log can" not in page


def test_a_task_without_windows_says_what_brings_them(client, services):
    add_task(services.log, SPEC)
    page = shown(client, "/tasks/valve", "No window of valve has closed yet")
    assert "headrace run ingest" in page
    assert "nan" not in re.sub(r"<[^>]*>", "", page).lower()


def test_a_version_worse_than_the_one_before_comes_first(client, services):
    add_task(services.log, SPEC)
    add_task(services.log, msgspec.structs.replace(SPEC, task="arm"))
    send(services, POLICIES, served(1, ts=NOW_MS - 500_000))
    send(services, POLICIES, served(2))
    for number in range(12):
        later = number >= 6
        send(services, WINDOWS, window(number, 1.0 + 0.01 * (number % 3) - 0.5 * later, version=1 + later))
    page = shown(client, "/", "worse than before</span>")
    assert page.index("/tasks/valve") < page.index("/tasks/arm")
    assert "\u22120.500" in page
    task = shown(client, "/tasks/valve", "Difference")
    assert ">0.510<" in task
    assert "1.01" in task


def test_after_a_rollback_old_windows_are_not_compared(client, services):
    """v1 earned less than v2 and serves again: nothing is said of it before it acts, and then by its new windows."""
    add_task(services.log, SPEC)
    for version, age_ms in ((1, 900_000), (2, 800_000), (1, 700_000)):
        send(services, POLICIES, served(version, ts=NOW_MS - age_ms))
    for number in range(12):
        later = number >= 6
        send(services, WINDOWS, window(number, 1.0 + 0.01 * (number % 3) + 0.5 * later, version=1 + later))
    page = shown(client, "/", "v1 has not acted in the newest window</span>")
    assert "worse than before</span>" not in page
    assert "nothing to compare" in page
    task = client.get("/tasks/valve", headers=HTML).text
    assert "Reward per step, v2" in task
    assert "nothing served before" not in task
    for number in range(12, 15):
        send(services, WINDOWS, window(number, 2.0 + 0.01 * (number % 3), version=1))
    page = shown(client, "/", "better than before</span>")
    assert "+0.500" in page
    assert "its last 3 windows" in client.get("/tasks/valve", headers=HTML).text


def test_the_table_is_filtered_and_paged_by_its_address(client, services):
    for number in range(30):
        add_task(services.log, msgspec.structs.replace(SPEC, task=f"valve-{number:02d}"))
    page = shown(client, "/?sort=task", "Page 1 of 2")
    assert "valve-24" in page
    assert "valve-25" not in page
    assert "valve-25" in client.get("/?sort=task&page=2").text
    assert client.get("/?q=-07").text.count('<th scope="row">') == 1
    assert client.get("/?state=held").text.count("No task matches") == 1
    assert client.get("/?state=nonsense").status_code == 422


def test_nothing_a_producer_writes_is_markup(client, services):
    add_task(services.log, SPEC)
    send(services, POLICIES, served(3, decided_by=HOSTILE, reason=HOSTILE))
    directive = Directive(
        "valve.3.1", "valve", HOSTILE, 1.0, HOSTILE, "proposed", HOSTILE, HOSTILE, NOW_MS, text=HOSTILE
    )
    send(services, DIRECTIVES, directive)
    value = b'{"task": "valve", "agent_id": "<b onclick=x>", "x": "' + HOSTILE.encode() + b'"}'
    headers = (
        ("rule", b"type"),
        ("reason", HOSTILE.encode()),
        ("topic", b"transitions"),
        ("partition", b"0"),
        ("offset", b"7"),
    )
    send(services, REJECTED, value, HOSTILE, headers)
    for path in ("/", "/tasks/valve"):
        page = shown(client, path, "&lt;script&gt;alert(1)")
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "<b onclick" not in page


def test_pages_load_from_here_alone(client, services):
    add_task(services.log, SPEC)
    shown(client, "/tasks/valve", "No window of valve")
    page = client.get("/tasks/valve")
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"<style|style=|<script(?! src)|\son[a-z]+=|https?://(?!www.w3.org)", page.text)
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
        file = client.get(address)
        assert file.status_code == 200
        assert "immutable" in file.headers["cache-control"]
    assert client.get("/static/../app.py").status_code == 404
    assert client.get("/static/%2e%2e/app.py").status_code == 404


def test_what_is_vendored_is_as_published():
    lines = (STATIC / "vendor/SHA256SUMS").read_text().splitlines()
    assert len(lines) == 3
    for line in lines:
        digest, name = line.split()
        assert hashlib.sha256((STATIC / "vendor" / name).read_bytes()).hexdigest() == digest


def fails():
    raise UnavailableError("the broker does not answer")


class Away:
    """A log that answers until it is taken away."""

    def __init__(self, real):
        self.real, self.away = real, False

    def __getattr__(self, name):
        if self.away:
            raise UnavailableError("broker 10.0.0.7:9092 does not answer")
        return getattr(self.real, name)


def test_a_log_that_is_away_leaves_what_was_known_and_its_age(services):
    add_task(services.log, SPEC)
    services.log = Away(services.log)
    site = Site(services, View(services.log), Gate(services.tokens, services.clock, "owner"))
    with TestClient(create_app(site), base_url="http://localhost:8080") as client:
        shown(client, "/", "/tasks/valve")
        services.log.away = True
        for path in ("/", "/tasks/valve"):
            page = shown(client, path, "The log can\u2019t be read")
            assert "broker 10.0.0.7:9092 does not answer" in page
            assert "/tasks/valve" in page
        assert "does not answer" in client.get("/health").text
        refused = act(client, "hold", seen=0)
        assert (refused.status_code, "does not answer" in refused.text) == (503, True)
        services.log.away = False
        until = time.monotonic() + 20.0
        while "The log can" in client.get("/").text:
            assert time.monotonic() < until


def test_a_log_that_is_away_for_days_is_read_again(services, monkeypatch):
    view, failures = View(services.log), iter(range(1_100))
    real = view.read_on
    monkeypatch.setattr("headrace.pipelines.serve.view.LONGEST_WAIT_S", 0.0)
    monkeypatch.setattr(view, "read_on", lambda: real() if next(failures, None) is None else fails())
    view.start()
    until = time.monotonic() + 20.0
    while view.trouble:
        assert time.monotonic() < until
        time.sleep(0.01)
    view.close()


def test_a_log_that_is_away_is_asked_once_for_all_who_wait(services, monkeypatch):
    asked = []

    def groups():
        asked.append(0)
        time.sleep(0.2)
        raise UnavailableError("no answer")

    monkeypatch.setattr(services.log, "groups", groups)
    lags = Lags(services.log)
    with ThreadPoolExecutor(4) as pool:
        known = [*pool.map(lambda _: lags.now(), range(4))]
    assert ([one.trouble for one in known], len(asked)) == (["no answer"] * 4, 1)


def test_who_asks_does_not_wait_for_what_is_taken_in(services):
    view = View(services.log)
    with ThreadPoolExecutor(1) as pool, view._lock:
        assert pool.submit(view.task, "valve").result(timeout=5).windows_emitted == 0
    assert not view.tasks


def test_the_names_in_what_was_rejected_are_bounded(services, monkeypatch):
    monkeypatch.setattr("headrace.pipelines.serve.view.MOST_NAMES", 3)
    for number in range(9):
        send(services, REJECTED, b'{"task": "t%d"}' % number, headers=(("rule", b"unknown_task"),))
    view = View(services.log)
    view.read_on()
    assert (len(view.rejections), view.rejections["(others)", "unknown_task"]) == (4, 6)


def token(services, *scopes):
    return create_token(services.tokens, services.clock, "ann", scopes, None, 1_000)[1]


def test_with_tokens_a_person_is_asked_for_one_and_it_is_kept_from_scripts(client, services):
    sent = token(services, "read")
    asked = client.get("/tasks/valve?agent=a", headers=HTML, follow_redirects=False)
    assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=/tasks/valve%3Fagent%3Da")
    assert client.get("/", headers=HTML | {"HX-Request": "true"}).headers["hx-redirect"] == "/login"
    assert client.get("/v1/tasks", headers=HTML, follow_redirects=False).status_code == 401
    wrong = client.post("/login", data={"token": sent[:-1] + "!", "next": "/"})
    assert (wrong.status_code, "unknown, revoked or over" in wrong.text) == (401, True)
    right = client.post("/login", data={"token": sent, "next": "//elsewhere.example"}, follow_redirects=False)
    assert (right.status_code, right.headers["location"]) == (303, "/")
    kept = right.headers["set-cookie"].lower()
    assert "httponly" in kept
    assert "samesite=strict" in kept
    assert "There is no task yet" in client.get("/", headers=HTML).text
    client.post("/logout")
    assert "Log in" in client.get("/", headers=HTML).text


def test_an_address_of_too_many_fields_chooses_nothing(client, services):
    add_task(services.log, SPEC)
    shown(client, "/", "/tasks/valve")
    assert client.get("/tasks/valve?" + "&".join(["agent=a"] * 40)).status_code == 200


def test_an_error_is_told_in_words(client):
    shown(client, "/", "There is no task yet")
    lost = client.get("/tasks/nope", headers=HTML)
    assert (lost.status_code, "never added" in lost.text, "<main" in lost.text) == (404, True, True)
    part = client.get("/tasks/nope", headers=HTML | {"HX-Request": "true"})
    assert (part.status_code, "<main" in part.text) == (404, False)


def act(client, act, *, seen, **fields):
    data = {"reason": "it sheds load", "seen": str(seen)} | fields
    return client.post(f"/tasks/valve/{act}", data=data, headers=HTML | {"HX-Request": "true"})


def test_a_person_holds_and_releases_with_a_reason(client, services):
    add_task(services.log, SPEC)
    send(services, POLICIES, served(2))
    shown(client, "/tasks/valve", "v2 serves")
    assert act(client, "hold", seen=NOW_MS - 5_000, reason="  ").status_code == 422
    held = act(client, "hold", seen=NOW_MS - 5_000)
    assert (held.status_code, "promotion is on hold. The record has your name (owner)" in held.text) == (200, True)
    assert "it sheds load" in held.text
    last = published(services.log, "valve")[-1]
    assert (last.version, last.held, last.decided_by, last.reason) == (2, True, "owner", "it sheds load")
    plain = client.post("/tasks/valve/release", data={"reason": "over", "seen": str(last.ts)}, follow_redirects=False)
    assert (plain.status_code, plain.headers["location"]) == (303, "/tasks/valve")


def test_who_decides_second_is_told_who_was_first_and_keeps_what_they_typed(client, services):
    add_task(services.log, SPEC)
    send(services, POLICIES, served(2))
    shown(client, "/tasks/valve", "v2 serves")
    send(services, POLICIES, served(3, "bob", "an incident", NOW_MS))
    late = act(client, "rollback", seen=NOW_MS - 5_000)
    assert late.status_code == 409
    assert "bob has decided meanwhile: valve@3 (an incident): look again, and decide then" in late.text
    assert 'value="it sheds load"' in late.text
    assert published(services.log, "valve")[-1].version == 3


def test_what_cannot_be_done_is_said_in_words(client, services):
    add_task(services.log, SPEC)
    send(services, POLICIES, served(2))
    shown(client, "/tasks/valve", "v2 serves")
    unknown = act(client, "promote", seen=NOW_MS - 5_000, version="77")
    assert (unknown.status_code, "there is no policy valve@77" in unknown.text) == (404, True)
    assert act(client, "promote", seen=NOW_MS - 5_000, version="x").status_code == 422
    assert client.post("/tasks/valve/hold", json={"reason": "x"}).status_code == 415
    assert (
        client.post("/tasks/valve/hold", data={"reason": "x"}, headers={"Origin": "http://x.example"}).status_code
        == 403
    )


def test_without_the_scope_nothing_is_offered_and_nothing_is_done(client, services):
    add_task(services.log, SPEC)
    client.cookies.set("headrace", token(services, "read"))
    page = shown(client, "/tasks/valve", "needs the scope <code>operate</code>")
    assert "hx-post" not in page
    refused = act(client, "hold", seen=0)
    assert (refused.status_code, "This needs the scope operate" in refused.text) == (403, True)
    assert published(services.log, "valve") == []


def test_a_person_takes_a_directive_back(client, services):
    add_task(services.log, SPEC)
    one = Directive(
        "valve.3.1", "valve", "learning_rate", 0.001, "rules:", "accepted", "bounds", "it sinks", NOW_MS - 9
    )
    send(services, DIRECTIVES, one)
    page = shown(client, "/tasks/valve", "directive-valve.3.1")
    assert "/tasks/valve/directives/valve.3.1/undo" in page
    assert act(client, "directives/valve.3.1/undo", seen=NOW_MS - 10).status_code == 409
    done = act(client, "directives/valve.3.1/undo", seen=NOW_MS - 9)
    assert (done.status_code, "to be undone" in done.text, "Undo\u2026" in done.text) == (200, True, False)
    last = directives(services.log, "valve")[-1]
    assert (last.verdict, last.decided_by, last.reason) == ("undo", "owner", "it sheds load")
    assert act(client, "directives/valve.9.9/undo", seen=1).status_code == 404


def test_a_person_sends_again_what_may_pass_now(client, services):
    add_task(services.log, SPEC)
    headers = (("rule", b"unknown_task"), ("topic", b"transitions"), ("partition", b"0"), ("offset", b"7"))
    send(services, REJECTED, b'{"task": "valve", "agent_id": "a"}', "a", headers)
    page = shown(client, "/tasks/valve", "rejected-unknown_task")
    assert "headrace rejected show 0:7" in page
    for sent in ("1 message was sent again", "0 messages were sent again"):
        assert sent in act(client, "replay", seen=0).text
    assert act(client, "replay", seen=0, rule="nonsense").status_code == 422
    messages = [services.log.read("transitions", p, 0, 9) for p in range(services.log.topic("transitions").partitions)]
    assert [value for batch in messages for value in batch.values] == [b'{"task": "valve", "agent_id": "a"}']


def test_the_jobs_say_how_far_they_are(client, services):
    services.log.send([Record("transitions", b"a", b"{}", ())] * 3)
    began = {"job": "ingest", "process": "only", "began_ms": NOW_MS - 700_000, "sequence": 0}
    send(services, "operations", Operation(**began, kind="started", ts=NOW_MS - 700_000))
    page = shown(client, "/health", ">lost<")
    assert re.search(r"ingest</th><td>transitions</td><td class=\"num warn\">3</td><td class=\"soft\">never ran", page)


def test_a_page_is_told_of_changes_until_the_server_ends(services):
    site = Site(services, View(services.log), Gate(services.tokens, services.clock, "owner"))
    streams = Streams()

    async def follow():
        told = []
        async for event in streams.follow(site.view):
            told.append(event)
            if len(told) == 1:
                site.view.read_on()
                site.view._tell()
            else:
                site.view.end()
        return told

    told = asyncio.run(asyncio.wait_for(follow(), 10.0))
    assert [event.split(b"\n")[0] for event in told] == [b"event: changed"] * 2
    assert streams.open == 0


def test_so_many_pages_follow_at_a_time(client):
    client.app.state.events.open = 1_000
    full = client.get("/events")
    assert (full.status_code, full.headers["content-type"].split(";")[0]) == (503, "text/html")


def test_an_index_that_is_away_is_told_in_its_own_place(client, services):
    add_task(services.log, SPEC)
    send(services, WINDOWS, window(1, 1.0))
    shown(client, "/tasks/valve", "Newest window ended")
    assert "No decision yet" in client.get("/tasks/valve/decisions").text
    services.index = Away(services.index)
    services.index.away = True
    part = client.get("/tasks/valve/decisions", headers=HTML | {"HX-Request": "true"})
    assert (part.status_code, "does not answer" in part.text, "<main" in part.text) == (503, True, False)
    assert client.get("/tasks/valve", headers=HTML).status_code == 200
