"""Who may use the API: tokens, scopes, rates, hosts and origins."""

import sqlite3
from pathlib import Path

import pytest

from headrace.pipelines.serve.tokens import create_token

NOW_MS = 1_700_000_000_000


def token(services, *scopes, expires_ms=None, per_second=1_000):
    _, sent = create_token(services.tokens, services.clock, "ann", scopes, expires_ms, per_second)
    return {"Authorization": f"Bearer {sent}"}


def test_without_tokens_a_loopback_server_is_its_owners(client):
    assert client.get("/v1/tasks").json() == {"items": [], "next": None}


def test_since_the_first_token_all_need_one(client, services):
    headers = token(services, "read")
    services.tokens.revoke(services.tokens.tokens()[0].token_id, NOW_MS)
    for sent in ({}, headers, {"Authorization": "Bearer x"}):
        refused = client.get("/v1/tasks", headers=sent)
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
        assert "headrace token create" in refused.json()["detail"]


def test_a_scope_that_is_missing_is_named(client, services):
    headers = token(services, "read")
    refused = client.post("/v1/tasks/valve/hold", json={"reason": "why"}, headers=headers)
    assert (refused.status_code, refused.json()["detail"]) == (
        403,
        "this needs the scope operate; the token ann has read",
    )


def test_a_token_ends(client, services):
    assert client.get("/v1/tasks", headers=token(services, "read", expires_ms=NOW_MS)).status_code == 401


def test_a_tokens_rate_is_bounded(client, services):
    headers = token(services, "read", per_second=2)
    assert [client.get("/v1/tasks", headers=headers).status_code for _ in range(4)][2:] == [429, 429]


def test_the_last_use_is_stored(client, services):
    client.get("/v1/tasks", headers=token(services, "read"))
    client.app.state.site.gate.store_uses()
    assert services.tokens.tokens()[0].last_used_ms == NOW_MS


def test_a_use_that_cannot_be_stored_refuses_nobody(client, services, caplog):
    assert client.get("/v1/tasks", headers=token(services, "read")).status_code == 200
    with sqlite3.connect(services.settings.tokens.path) as connection:
        connection.execute("DROP TABLE tokens")
    client.app.state.site.gate.store_uses()
    assert "can't be stored" in caplog.text


def test_a_cookie_is_not_taken_beside_an_empty_bearer(client, services):
    """With a bearer no origin is looked at, so that it must be the bearer that tells who asks."""
    sent = token(services, "operate")["Authorization"].removeprefix("Bearer ")
    headers = {"Authorization": "Bearer ", "Cookie": f"headrace={sent}", "Origin": "http://headrace.example"}
    assert client.post("/v1/tasks/valve/hold", json={"reason": "why"}, headers=headers).status_code == 401


def test_another_tokens_file_in_its_place_says_who_may_do_what(client, services, monkeypatch):
    monkeypatch.setattr("headrace.pipelines.serve.access.KNOWN_S", 0.0)
    old = token(services, "read")
    assert client.get("/v1/tasks", headers=old).status_code == 200
    for file in services.settings.tokens.path, *(f"{services.settings.tokens.path}-{end}" for end in ("wal", "shm")):
        Path(file).rename(f"{file}.away")
    new = token(services, "read")
    assert [client.get("/v1/tasks", headers=one).status_code for one in (old, new)] == [401, 200]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "headrace.example"}, 421),
        ({"Origin": "http://headrace.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"X-Forwarded-For": "10.0.0.9"}, 401),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Length": "999999999"}, 413),
        ({"Origin": "http://localhost:8080"}, 404),
    ],
)
def test_who_is_no_owner_can_do_nothing(client, headers, status):
    answer = client.post("/v1/tasks/valve/hold", json={"reason": "why"}, headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize(("scope", "status"), [("operate", 200), ("decide", 403)])
def test_who_may_operate_sees_what_there_is(client, services, scope, status):
    assert client.get("/v1/tasks", headers=token(services, scope)).status_code == status
