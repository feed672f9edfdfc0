"""The console in a real browser (Chromium): followed, acted on, cut off from its server, used by everybody."""

import re
from contextlib import closing

import msgspec
import pytest
from console_world import REASON, Server, make, send

from headrace.pipelines.published import published
from headrace.pipelines.serve.tokens import create_token
from headrace.pipelines.topics import POLICIES
from headrace.pipelines.wiring import system_clock
from headrace.schemas.ports import Record
from headrace.sinks.sqlite.tokens import SqliteTokens
from local_servers import install


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    made = make(tmp_path_factory.mktemp("console"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(stream):
    server = Server(stream.folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 other tests need no browser

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=install.chromium(), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser, server):
    """Opens a page; nothing may fail or be refused in it, unless the test takes it out of the list."""
    faults, contexts = [], []

    def open_page(path, width=1280, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.set_default_timeout(15_000)
        page.faults = faults
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(server.address + path)
        page.wait_for_selector("body.live")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def require_accessible(page):
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 other tests need no browser

    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []


def decided(stream, version, who, reason):
    last = published(stream.log, "cloud")[-1]
    stream.clock.now_ms += 1_000
    record = msgspec.structs.replace(last, version=version, decided_by=who, reason=reason, ts=stream.clock.now_ms)
    send(stream, Record(POLICIES, b"cloud", msgspec.json.encode(record)))
    return record


def test_an_operator_follows_and_decides(stream, opened):
    page = opened("/")
    page.get_by_role("link", name="cloud", exact=True).first.click()
    page.wait_for_selector("#chart canvas")
    page.evaluate("window.kept = true")
    # somebody else decides: the page says so by itself
    decided(stream, 1, "bob", "an incident on Tuesday")
    page.get_by_text("an incident on Tuesday").wait_for()
    # a decision is explained
    page.locator("#decisions a", has_text="why?").first.click()
    page.locator("#decision").get_by_text("What mattered").wait_for()
    page.locator("#decision").get_by_text("what followed?").wait_for()
    # what is being typed stays while the page follows
    page.locator("#act-rollback summary").click()
    typed = page.locator("#act-rollback input[name=reason]")
    typed.fill("worse since")
    decided(stream, 2, "carol", "the incident is over")
    page.get_by_text("the incident is over").wait_for()
    assert typed.input_value() == "worse since"
    # carol was first, so it is a conflict, in words; then it is done
    page.locator("#act-rollback button").click()
    page.get_by_role("alert").get_by_text("carol has decided meanwhile").wait_for()
    assert page.faults.pop().endswith("status of 409 (Conflict)")
    assert typed.input_value() == "worse since"
    page.locator("#act-rollback button").click()
    page.get_by_role("status").get_by_text("Done: v1 serves cloud").wait_for()
    last = published(stream.log, "cloud")[-1]
    assert (last.version, last.reason) == (1, "worse since")


def test_rejected_messages_are_sent_again_and_a_directive_is_undone(stream, opened):
    page = opened("/tasks/cloud")
    page.locator("#rejected-unknown_task summary").click()
    page.get_by_text("headrace rejected show 0:7").wait_for()
    page.locator("#act-replay summary").click()
    page.locator("#act-replay button").click()
    page.get_by_role("status").get_by_text("1 message was sent again").wait_for()
    undo = page.locator("#undo-cloud\\.2\\.1")
    undo.locator("summary").click()
    undo.locator("input[name=reason]").fill("it learns too slowly")
    undo.locator("input[name=reason]").press("Enter")
    page.locator("#directive-cloud\\.2\\.1").get_by_text("to be undone").wait_for()
    assert page.get_by_text(REASON).count() >= 2  # shown as text: it ran nowhere
    assert page.title().startswith("cloud")


def test_a_page_that_lost_its_server_says_so_and_comes_back(stream, server, opened):
    page = opened("/tasks/cloud")
    server.kill()
    page.get_by_text(re.compile(r"connection lost, last update \d\d:\d\d:\d\d UTC")).wait_for()
    assert page.locator("#chart canvas").count() == 1  # it keeps what it has
    decided(stream, 2, "dora", "decided while nobody could see")
    server.start()
    page.get_by_text("decided while nobody could see").wait_for()
    page.wait_for_selector("body.live")
    assert all("ERR_" in fault for fault in page.faults)
    page.faults.clear()


def test_everybody_can_use_it(opened):
    for path in ("/", "/tasks/cloud"):
        for width, scheme in ((1280, "light"), (400, "dark")):
            page = opened(path, width, scheme)
            page.locator("#health table").first.wait_for()
            require_accessible(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_is_enough(opened):
    page = opened("/tasks/cloud", 400)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.locator("#act-hold summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "reason"
    page.keyboard.type("the night shift is alone")
    page.keyboard.press("Enter")
    page.get_by_role("status").get_by_text("promotion is on hold").wait_for()


def test_a_server_that_ends_lets_its_pages_go(server, opened):
    page = opened("/")
    seconds, status = server.stop()
    assert (status, seconds < 3.0) == (0, True)  # an open stream would hold it for 3 s
    page.get_by_text("connection lost").wait_for()
    page.close()
    page.faults.clear()
    server.start()


def test_a_person_logs_in_and_out(stream, server, opened):
    page = opened("/tasks/cloud")
    with closing(SqliteTokens(stream.folder / ".headrace" / "tokens.db")) as tokens:
        _, sent = create_token(tokens, system_clock, "eve", ("read",), None, 1_000)
    page.wait_for_timeout(1_100)  # so long the server believes that there is no token
    page.goto(f"{server.address}/tasks/cloud?agent=agent-0001")
    page.locator("#token").fill("hr_wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    page.locator("#token").fill(sent)
    page.keyboard.press("Enter")
    page.get_by_text("yours (eve) has read").wait_for()
    assert page.url.endswith("/tasks/cloud?agent=agent-0001")
    page.get_by_role("button", name="Log out").click()
    page.locator("#token").wait_for()
    assert page.context.cookies() == []
    assert all("401" in fault for fault in page.faults)
    page.faults.clear()
