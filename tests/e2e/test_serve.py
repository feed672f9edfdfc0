"""headrace serve as a process: killed, told to end amid requests, and with its log away."""

import json
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from running import ENVIRONMENT, HEADRACE, OPENER, Running
from served import VALVE, fill, row

from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import open_services, system_clock


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with open_services(read_settings(), system_clock, create=True) as services:
            fill(services)
    return folder


class Server:
    """A server process at a port that was free."""

    def __init__(self, folder, port=0):
        self.log = folder / f"serve-{time.monotonic_ns()}.log"
        with self.log.open("wb") as stderr:
            command = [HEADRACE, "serve", "--address", f"127.0.0.1:{port}"]
            self.process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stderr=stderr)
        self.until(lambda: "serve is ready" in self.log.read_text())
        self.port = int(re.search(r"http://127.0.0.1:(\d+)", self.log.read_text())[1])

    def until(self, condition, within_s=60):
        end = time.monotonic() + within_s
        while not condition():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)

    def ask(self, path, content=None):
        """(status, what was answered); 0 where nobody answers."""
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json"} if body else {}
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, headers)
        try:
            with OPENER.open(asked, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null") if path.startswith("/v1") else None
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def decide(self):
        return self.ask("/v1/decide", {"task": "valve", "obs": [[1, 2, 3]]})


@pytest.fixture
def server(folder):
    started = Server(folder)
    started.until(lambda: started.decide()[0] == 200)
    yield started
    started.process.kill()
    started.process.wait()


def test_what_was_answered_is_on_the_log_when_the_process_is_killed(folder, server):
    sent = [row(VALVE, "k1", 100 + step) for step in range(50)]
    for one in sent:
        assert server.ask("/v1/transitions", one)[0] == 202
    server.process.kill()
    server.process.wait()
    again = Server(folder, server.port)
    try:
        Running.run(folder, "run", "ingest", "--until-caught-up")
        again.until(lambda: again.decide()[0] == 200)
        _, found = again.ask("/v1/tasks/valve/agents?agent=k1&from=0")
        assert found["items"][0]["rows"] == 50
    finally:
        again.process.kill()
        again.process.wait()


def test_sigterm_lets_requests_in_hand_end(server):
    """Each request is answered, or finds nobody: none is cut off. The exit is clean, and soon."""
    statuses, ended = [], threading.Event()

    def ask():
        while not ended.is_set():
            statuses.append(server.decide())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    server.until(lambda: len(statuses) > 60)
    began_s = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(10) == 0
    took_s = time.monotonic() - began_s
    ended.set()
    for thread in threads:
        thread.join()
    assert took_s < 8
    wrong = [told for status, told in statuses if status not in {0, 200}]
    assert wrong == []
    assert all("refused" in told or "reset" in told or "closed" in told for status, told in statuses if not status)
    assert "Traceback" not in server.log.read_text()


def test_a_store_that_is_away_is_named_and_its_return_noticed(folder, server):
    """What was read stays; what needs the log is answered with 503 and when to ask again; then all is as before."""
    log = folder / ".headrace" / "log.db"
    assert server.ask("/v1/tasks/valve/reports")[0] == 200
    code = (
        "import sqlite3, sys; held = sqlite3.connect(sys.argv[1], isolation_level=None); "
        "held.execute('BEGIN EXCLUSIVE'); print('held', flush=True); sys.stdin.read()"
    )
    command = [HEADRACE.with_name("python"), "-c", code, log]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as holder:
        holder.stdout.readline()  # another process holds the log: whoever writes to it waits in vain
        status, told = server.ask("/v1/transitions", row(VALVE, "k2", 101))
        assert (status, "another process held" in told) == (503, True)
        assert server.decide()[0] == 200
        assert server.ask("/v1/tasks/valve/reports")[0] == 200
        holder.stdin.close()
    assert server.ask("/v1/transitions", row(VALVE, "k2", 101))[0] == 202
