"""What each route of the API answers, on an embedded stream."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from served import NOW_MS, PUMP, T0, VALVE, fill, row, served, store_version, take_in, until

from headrace.learners.acting import load_policy
from headrace.pipelines.serve import arriving
from headrace.pipelines.serve.routes import policies
from headrace.pipelines.serve.tokens import create_token
from headrace.pipelines.settings import read_settings
from headrace.pipelines.tasks import add_task
from headrace.pipelines.wiring import open_services
from headrace.schemas.access import SCOPES
from headrace.schemas.canary import Canary, in_share
from headrace.schemas.codec_arrow import CONTENT_TYPE as ARROW
from headrace.schemas.ports import Record
from headrace.schemas.records import MAX_TS_MS, ServingPolicy, TaskSpec

VALVE_ROUTES = "/v1/tasks/valve"


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with open_services(read_settings(), lambda: NOW_MS, create=True) as opened:
            fill(opened)
            yield opened


@pytest.fixture(scope="module")
def client(services):
    with served(services) as opened:
        until(lambda: opened.post("/v1/decide", json={"task": "valve", "obs": [[0, 0, 0]]}).status_code == 200)
        until(lambda: opened.post("/v1/decide", json={"task": "pump", "obs": [[0, 0]]}).status_code == 200)
        yield opened


def items(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def pages(client, path, **parameters):
    """All items of all pages."""
    found = []
    while True:
        answer = client.get(path, params=parameters)
        found += items(answer)
        if answer.json()["next"] is None:
            return found
        parameters["cursor"] = answer.json()["next"]


def test_tasks(client):
    assert [one["task"] for one in items(client.get("/v1/tasks"))] == ["pump", "valve"]
    assert client.get(VALVE_ROUTES).json()["observations"] == ["x0", "x1", "x2"]
    missing = client.get("/v1/tasks/valv/windows")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    assert "did you mean valve?" in missing.json()["detail"]


def test_windows(client):
    """The newest first, page by page, each once; what the client has is not sent again."""
    found = pages(client, f"{VALVE_ROUTES}/windows", limit=7)
    assert [one["start_ms"] for one in found] == [T0 + minute * 60_000 for minute in range(19, -1, -1)]
    assert [one["rows"] for one in found] == [4] * 20
    assert "agents" not in found[0]
    first = client.get(f"{VALVE_ROUTES}/windows", params={"agents": True, "agent": "v1", "limit": 1})
    assert [one["agent_id"] for one in items(first)[0]["agents"]] == ["v1"]
    again = client.get(first.request.url, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    some = items(client.get(f"{VALVE_ROUTES}/windows", params={"from": T0 + 60_000, "to": T0 + 180_000}))
    assert [one["start_ms"] for one in some] == [T0 + 120_000, T0 + 60_000]


def test_agents(client):
    found = pages(client, f"{VALVE_ROUTES}/agents", limit=1)
    assert [(one["agent_id"], one["rows"], one["episode_ends"]) for one in found] == [("v1", 40, 2), ("v2", 40, 2)]


def test_transitions(client, services):
    """As lines and as an Arrow stream: the same rows, and these are what was sent."""
    chosen = {"agent": "v1", "from": T0 + 60_000, "to": T0 + 120_000}
    answer = client.get(f"{VALVE_ROUTES}/transitions", params=chosen)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["content-type"] == "application/x-ndjson"
    rng = np.random.default_rng(2)
    assert lines == [row(VALVE, "v1", step, rng) for step in range(4)][2:]
    arrow = client.get(f"{VALVE_ROUTES}/transitions", params=chosen, headers={"Accept": ARROW})
    table = pa.ipc.open_stream(arrow.content).read_all()
    assert [table.column(name).to_pylist() for name in ("step", "action")] == [[2, 3], [2, 0]]
    assert np.array_equal(np.array(table.column("obs").to_pylist(), np.float32), np.float32([r["obs"] for r in lines]))
    nothing = client.get(f"{VALVE_ROUTES}/transitions", params={"to": T0}, headers={"Accept": ARROW})
    assert pa.ipc.open_stream(nothing.content).read_all().schema == table.schema
    assert len(client.get("/v1/tasks/pump/transitions").text.splitlines()) == 40


def test_streams_are_bounded(client):
    client.site.streams.in_use = client.site.streams.most
    try:
        refused = client.get(f"{VALVE_ROUTES}/transitions")
    finally:
        client.site.streams.in_use = 0
    assert (refused.status_code, "64 streams are open" in refused.json()["detail"]) == (503, True)
    assert client.get(f"{VALVE_ROUTES}/transitions").status_code == 200
    assert client.site.streams.in_use == 0


def test_similar_decisions(client):
    found = items(client.get(f"{VALVE_ROUTES}/similar", params={"like": "v1/e0/3", "limit": 2, "steps": 3}))
    assert len(found) == 2
    assert found[0]["distance"] <= found[1]["distance"]
    assert found[0]["followed"]["steps"] <= 3
    given = ",".join(map(str, found[0]["obs"]))
    assert items(client.get(f"{VALVE_ROUTES}/similar", params={"obs": given, "limit": 1}))[0]["distance"] == 0
    for wrong in ({}, {"obs": "1,2"}, {"obs": "1,2,inf"}, {"obs": "x"}, {"like": "v1/e0"}, {"like": "v9/e0/1"}):
        assert client.get(f"{VALVE_ROUTES}/similar", params=wrong).status_code in {400, 422}


def test_policies(client):
    found = items(client.get(f"{VALVE_ROUTES}/policies"))
    assert [(one["version"], one["serves"]) for one in found] == [(1, False), (2, True)]
    assert client.get(f"{VALVE_ROUTES}/policies/2").json()["lineage"]
    assert [one["version"] for one in items(client.get(f"{VALVE_ROUTES}/decisions"))] == [2, 1]


def test_a_decision_is_explained(client):
    answer = client.get(f"{VALVE_ROUTES}/explanation", params={"agent": "v1", "episode": "e0", "step": 3})
    assert answer.status_code == 200, answer.text
    assert "v1 at step 3 of e0" in answer.json()["sentences"][0]
    unknown = client.get(f"{VALVE_ROUTES}/explanation", params={"agent": "v9"})
    assert (unknown.status_code, "agent 'v9'" in unknown.json()["detail"]) == (404, True)


def test_questions(client):
    asked = {"question": "which version serves?", "task": "valve"}
    assert "v2 has served valve" in " ".join(client.post("/v1/ask", json=asked).json()["sentences"])
    assert "out of scope" in client.post("/v1/ask", json={"question": "the weather?"}).json()["not_known"]
    for wrong in ({"zone": "../../etc/passwd"}, {"zone": "Nowhere"}, {"question": ""}, {"at_ms": MAX_TS_MS + 1}):
        assert client.post("/v1/ask", json=asked | wrong).status_code == 422


def test_reports(client):
    found = pages(client, f"{VALVE_ROUTES}/reports", limit=1)
    assert [one["report_id"] for one in found] == ["valve.version.2", "valve.version.1"]
    path = f"{VALVE_ROUTES}/reports/valve.version.1"
    assert client.get(path).json()["facts"]["subject"] == "v1"
    assert client.get(path, params={"format": "markdown"}).text.startswith("# ")
    page = client.get(path, params={"format": "html"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert client.get(f"{path}/plots/terms.png").content[:4] == b"\x89PNG"
    assert "it has terms" in client.get(f"{path}/plots/episode.png").json()["detail"]
    assert client.get(f"{VALVE_ROUTES}/reports/nope").status_code == 404


def test_ratings(client):
    rated = client.post(f"{VALVE_ROUTES}/reports/valve.version.1/rating", json={"rating": "up"})
    assert (rated.status_code, rated.json()["who"]) == (200, "owner")
    assert [one["rating"] for one in items(client.get(f"{VALVE_ROUTES}/ratings"))] == ["up"]


def test_directives(client):
    assert [one["directive_id"] for one in items(client.get(f"{VALVE_ROUTES}/directives"))][-2:] == [
        "valve.2.2",
        "valve.2.1",
    ]
    undone = client.post(f"{VALVE_ROUTES}/directives/valve.2.1/undo", json={"reason": "no"})
    assert (undone.json()["verdict"], undone.json()["decided_by"]) == ("undo", "owner")
    refused = client.post(f"{VALVE_ROUTES}/directives/valve.2.2/undo", json={"reason": "no"})
    assert (refused.status_code, "what is accepted can be undone" in refused.json()["detail"]) == (400, True)
    assert client.post(f"{VALVE_ROUTES}/directives/valve.9.9/undo", json={"reason": "no"}).status_code == 404


def test_what_was_refused(client, monkeypatch):
    """What a producer sent stands there as data, escaped where it is shown; sent again it is refused again."""
    (summary,) = items(client.get(f"{VALVE_ROUTES}/rejected/summary"))
    assert (summary["rule"], summary["messages"], summary["producer"]) == ("agent_id", 1, "<script>alert(1)</script>")
    (head,) = items(client.get(f"{VALVE_ROUTES}/rejected"))
    whole = client.get(f"{VALVE_ROUTES}/rejected/{head['place']}")
    assert whole.headers["content-type"] == "application/json"
    assert whole.json()["value"]["action"] == 7
    assert client.get(f"{VALVE_ROUTES}/rejected/9:9").status_code == 404
    monkeypatch.setattr("headrace.pipelines.serve.routes.rejected.MOST_LOOKED_AT", 0)
    assert client.get(f"{VALVE_ROUTES}/rejected/{head['place']}").status_code == 404
    monkeypatch.undo()
    assert items(client.get("/v1/tasks/pump/rejected")) == []
    assert client.post("/v1/rejected/replay", json={"rules": ["no_such"]}).status_code == 422
    assert client.post("/v1/rejected/replay", json={"rules": ["agent_id"]}).json() == {"sent": 1, "gone": 0}


def test_jobs_and_lag(client):
    assert items(client.get("/v1/jobs")) == []
    lags = {(one["group"], one["topic"]) for one in items(client.get("/v1/lag"))}
    assert {("ingest", "transitions"), ("learn", "windows"), ("explain", "policies"), ("digest", "reports")} <= lags
    assert all(one["behind"] >= 0 for one in items(client.get("/v1/lag")))


def test_actions(client):
    """One observation or many: what the policy's own arithmetic says."""

    obs = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    answer = client.post("/v1/decide", json={"task": "valve", "obs": obs.tolist()}).json()
    policy = load_policy(client.site.services.policies.weights("valve", 2))
    values = policy.q_values(obs)
    assert answer["version"] == 2
    assert answer["actions"] == values.argmax(axis=1).tolist()
    assert answer["names"] == [VALVE.actions[action] for action in answer["actions"]]
    best = np.sort(values, axis=1)
    assert np.allclose(answer["margins"], best[:, -1] - best[:, -2])
    alone = client.post("/v1/decide", json={"task": "valve", "obs": obs[:1].tolist()}).json()
    assert alone["actions"] == answer["actions"][:1]
    assert client.post("/v1/decide", json={"task": "pump", "obs": [[0.5, 9]]}).json() == {
        "task": "pump",
        "version": 1,
        "actions": [[0.5, 2.0]],
    }


@pytest.mark.parametrize(
    ("obs", "told"),
    [
        ("[[1, 2]]", r"obs[0] has 2 numbers: an observation of valve has 3 (x0, x1, x2)"),
        ("[[1, 2, 3], [1, 2, 3, 4]]", "obs[1] has 4 numbers"),
        ("[[1, 2, 1e39]]", "x2 is 1e+39"),
        ("[[1, 2, 1e400]]", "obs: "),
        ("[[1, 2, NaN]]", "can't be read"),
        ('[[1, 2, "x"]]', "Expected `float`, got `str`"),
        ("[[1, 2, null]]", "Expected `float`, got `null`"),
        ("[1, 2, 3]", "Expected `array`"),
        ("[[[1, 2, 3]]]", "Expected `float`, got `array`"),
        ("[]", "0 observations; 1 to 4096 are allowed"),
        ("{}", "Expected `array`"),
        (str([[0, 0, 0]] * 5_000), "5000 observations"),
    ],
    ids=range(12),
)
def test_what_is_no_observation_is_refused(client, obs, told):
    body = f'{{"task": "valve", "obs": {obs}}}'
    answer = client.post("/v1/decide", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, told in answer.json()["detail"]) == (422, True), answer.text
    assert client.post("/v1/decide", json={"task": "valve", "obs": [[1, 2, 10**30]]}).status_code == 200


def test_a_version_is_swapped_without_a_request_that_fails(client, services):
    """Which serves, which a canary tries, and one whose weights are gone: what was there decides on."""

    def ask(**more):
        return client.post("/v1/decide", json={"task": "valve", "obs": [[1, 2, 3]]} | more)

    seen = set()
    store_version(services, VALVE, 3)
    until(lambda: (answer := ask()).status_code == 200 and (seen.add(answer.json()["version"]) or 3 in seen))
    assert seen == {2, 3}
    canary = Canary(2, services.policies.version("valve", 2).weights_hash, 0.5)
    store_version(services, VALVE, 4, canary=canary)
    until(lambda: ask().json()["version"] == 4)
    agents = [f"a{number}" for number in range(20)]
    tries = [in_share(canary, "valve", agent) for agent in agents]
    assert [ask(agent_id=agent).json()["version"] == 2 for agent in agents] == tries
    assert len(set(tries)) == 2

    lost = ServingPolicy("valve", 9, "0" * 64, "ann", "by mistake", NOW_MS)
    services.log.send([Record("policies", b"valve", msgspec.json.encode(lost))])
    until(lambda: "valve" in client.site.deciders._trouble)
    assert ask().json()["version"] == 4


def test_nothing_serves(client, services):

    add_task(services.log, TaskSpec("idle", ("x",), ("a",), 1_000))
    until(lambda: client.site.view.spec("idle"))
    answer = client.post("/v1/decide", json={"task": "idle", "obs": [[1]]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "no version serves idle" in answer.json()["detail"]


NDJSON, JSON = "application/x-ndjson", "application/json"


def post(client, content, kind, **parameters):
    return client.post("/v1/transitions", content=content, headers={"Content-Type": kind}, params=parameters)


def ends(services):
    log = services.log
    return sum(log.bounds("transitions", place)[1] for place in range(log.topic("transitions").partitions))


def arrow_stream(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def test_rows_of_many_agents_that_lie_mixed_are_taken_apart_in_order():
    names = pa.array(["b", "a", "b", "c", "a"]).dictionary_encode()
    table = pa.table({"agent_id": names, "obs": [[0], [1, 1], [2], None, []], "step": range(5)})
    found = {one.key: pa.ipc.open_stream(one.value).read_all() for one in arriving._by_agent(table, ["b", "a", "c"])}
    assert {key: one.column("step").to_pylist() for key, one in found.items()} == {
        b"b": [0, 2],
        b"a": [1, 4],
        b"c": [3],
    }
    assert found[b"a"].column("obs").to_pylist() == [[1, 1], []]


def test_transitions_are_sent(client, services):
    """One, an array, lines and an Arrow stream of several agents, all of which are then in the index."""
    made = {(step, agent): row(VALVE, agent, 100 + step) for step in range(4) for agent in ("n1", "n2")}
    one, two, lines, stream = ([row for (at, _), row in made.items() if at == step] for step in range(4))
    assert post(client, json.dumps(one[0]), JSON).json() == {"messages": 1, "rows": 1, "rejected": 0, "items": []}
    assert post(client, json.dumps([one[1], *two]), JSON).json()["messages"] == 3
    assert post(client, "\n".join(map(json.dumps, lines)), NDJSON).status_code == 202
    table = pa.table({name: [one[name] for one in stream] for name in stream[0]})
    arrow = post(client, arrow_stream(table), ARROW)
    assert arrow.json() == {"messages": 2, "rows": 2, "rejected": 0, "items": []}
    assert post(client, arrow_stream(table.slice(0, 0)), ARROW).status_code == 422
    take_in(services)
    found = client.get(f"{VALVE_ROUTES}/transitions", params={"from": T0 + 50 * 60_000}).text.splitlines()
    got = {(one["step"], one["agent_id"]): one for one in map(json.loads, found)}
    assert got == {(one["step"], one["agent_id"]): one for one in made.values()}
    assert len(found) == len(got)


def test_what_would_be_rejected_is_told_and_nothing_is_sent(client, services):
    good, bad = row(VALVE, "q1", 60), row(VALVE, "q1", 61, action=9)
    before = ends(services)
    refused = post(client, json.dumps([good, bad]), JSON)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:headrace:FaultyItems")
    assert [(one["item"], one["rule"]) for one in refused.json()["items"]] == [(1, "action")]
    assert "?quarantine=true" in refused.json()["detail"]
    assert ends(services) == before
    sent = post(client, json.dumps([good, bad]), JSON, quarantine=True)
    assert (sent.status_code, sent.json()["rejected"], sent.json()["rows"]) == (202, 1, 1)
    assert ends(services) == before + 2
    assert post(client, json.dumps([bad]), JSON, quarantine=True).status_code == 422


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", JSON, 422),
        (b"[]", JSON, 422),
        (b"[" * 100_000, JSON, 422),
        (b"\n\n", NDJSON, 422),
        (b"{}\n\xff", NDJSON, 422),
        (b"x", "text/plain", 415),
        (b"x", ARROW, 422),
        (b"\xff\xff\xff\xff\x00\x00\x00\x10" + b"\0" * 64, ARROW, 422),
        (json.dumps(row(PUMP, "p1", 0, task="nope")), JSON, 422),
        (json.dumps(row(PUMP, "p1", 0, ts=NOW_MS + 10**9)), JSON, 422),
    ],
    ids=range(10),
)
def test_what_is_no_transition_is_refused(client, services, content, kind, status):
    before = ends(services)
    answer = post(client, content, kind)
    assert (answer.status_code, ends(services)) == (status, before), answer.text


def test_senders_wait_where_ingest_is_behind(client):
    arrivals = client.site.arrivals
    arrivals.most_behind = -1
    try:
        refused = post(client, json.dumps(row(PUMP, "p1", 50)), JSON)
    finally:
        arrivals.most_behind = 1_000_000
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert "ingest is" in refused.json()["detail"]


def test_a_cursor_that_is_none_is_refused(client):
    for cursor in ("x", "e30", "%00", "W10"):
        for path in ("windows", "agents", "reports", "directives", "rejected"):
            assert client.get(f"{VALVE_ROUTES}/{path}", params={"cursor": cursor}).status_code == 400


def test_what_is_counted(client):
    """By route, whoever has answered: the framework, or a way around it."""
    for path in ("/no/such/path", f"{VALVE_ROUTES}/windows"):
        client.get(path)
    text = client.get("/metrics").text
    for method, route in (("GET", "/v1/tasks/{task}/windows"), ("POST", "/v1/decide"), ("GET", "none")):
        assert re.search(rf'requests_total{{method="{method}",route="{re.escape(route)}",status="\d+"}} \d', text)
    assert 'headrace_serve_deciding_version{task="pump"} 1.0' in text


def test_agents_of_open_windows_are_soon_there(client, services, monkeypatch):
    """Nothing is told of a window that is open, so that what is told says nothing of how old an answer is."""
    (before,) = items(client.get("/v1/tasks/pump/agents"))
    soon = row(PUMP, "p1", 900, ts=NOW_MS + 2 * 60_000)
    services.log.send([Record("transitions", b"p1", json.dumps(soon).encode())])
    take_in(services)
    monkeypatch.setattr(services, "clock", lambda: NOW_MS + 1_000)
    (after,) = items(client.get("/v1/tasks/pump/agents"))
    assert after["rows"] == before["rows"] + 1


def test_of_two_who_decide_at_once_on_what_they_saw_one_is_told(client, monkeypatch):
    def slowly(log, task, read=policies.published):
        found = read(log, task)
        time.sleep(0.1)  # so that all would have read before the first one writes
        return found

    seen_ts = policies.published(client.app.state.site.services.log, "pump")[-1].ts
    monkeypatch.setattr(policies, "published", slowly)
    asked = lambda name: client.post("/v1/tasks/pump/hold", json={"reason": name, "seen_ts": seen_ts})  # noqa: E731
    with ThreadPoolExecutor(4) as people:
        statuses = [answer.status_code for answer in people.map(asked, "abcd")]
    assert sorted(statuses) == [200, 409, 409, 409]
    client.post("/v1/tasks/pump/release", json={"reason": "as it was"})


def test_an_answer_that_is_ready_asks_for_its_scope(client, services):
    """The last test here: from the first token on everybody needs one."""
    path = f"{VALVE_ROUTES}/windows?limit=3"
    first = client.get(path)
    assert (client.get(path).content, client.get(path).headers["etag"]) == (first.content, first.headers["etag"])
    sent = {scope: create_token(services.tokens, services.clock, scope, (scope,), None, 100)[1] for scope in SCOPES[:3]}
    asked = {"task": "pump", "obs": [[0, 0]]}
    for scope, (reads, decides) in {"read": (200, 403), "decide": (403, 200), "produce": (403, 403)}.items():
        headers = {"Authorization": f"Bearer {sent[scope]}"}
        assert client.get(path, headers=headers).status_code == reads
        assert client.post("/v1/decide", json=asked, headers=headers).status_code == decides
    until(lambda: client.get(path).status_code == 401)  # within a second
