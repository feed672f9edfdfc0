"""Ending a digest by the link in a mail: by one click of a mail program, or by the page."""

import msgspec
import pytest
from served import served

from headrace.pipelines.report.subscribers import Subscribers
from headrace.pipelines.report.unsubscribing import sign
from headrace.pipelines.settings import read_settings
from headrace.pipelines.topics import SUBSCRIBERS
from headrace.pipelines.wiring import open_services
from headrace.schemas.ports import Record
from headrace.schemas.records import Subscriber

KEY, NOW_MS = "0123456789abcdef" * 2, 1_700_000_000_000
READER = Subscriber("valve", "Ann <ann@example.org>", "active", NOW_MS, "bob")


@pytest.fixture
def services(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_DIGEST_KEY", KEY)
    with open_services(read_settings(), lambda: NOW_MS, create=True) as opened:
        opened.initialise()
        opened.log.send([Record(SUBSCRIBERS, READER.key.encode(), msgspec.json.encode(READER))])
        yield opened


def state(services):
    return Subscribers(services.log).refresh().by_key[READER.key].state


def test_one_click_ends_a_digest_and_looking_does_not(services):
    path = f"/unsubscribe/{sign(KEY, READER.key)}"
    with served(services, read=False) as client:
        page = client.get(path)
        assert (page.status_code, 'form method="post"' in page.text, "valve" in page.text) == (200, True, True)
        assert state(services) == "active"
        form = {"List-Unsubscribe": "One-Click"}
        assert client.post(path, data=form, headers={"Origin": "https://elsewhere.example"}).status_code == 403
        for _ in range(2):
            assert client.post(path, data=form).status_code == 200
        assert state(services) == "unsubscribed"
        assert "no more of these mails" in client.get(path).text


@pytest.mark.parametrize("token", ["x", "0" * 24 + "." + "A" * 22, sign("f" * 32, READER.key), "a" * 200])
def test_a_link_that_was_not_made_here_ends_nothing(services, token):
    with served(services, read=False) as client:
        assert client.post(f"/unsubscribe/{token}").status_code in {404, 422}
    assert state(services) == "active"
