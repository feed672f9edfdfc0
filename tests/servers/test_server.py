"""What a test can do with servers of its own; shown on Redis, the quickest, where the server doesn't matter."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local_servers import Redis, ServerError, install, ports, probe, processes, temporary


@pytest.fixture
def own():
    with temporary() as folder:
        server = Redis(folder / "redis")
        server.start()
        yield server


def test_start_finds_what_runs_already(own):
    other = Redis(own.folder, port=own.port)
    other.start()
    assert other.pid == own.pid
    other.stop()
    assert own.pid is None


def test_kill_and_start_keep_port_and_url(own):
    pid, url = own.pid, own.url
    own.kill()
    assert own.pid is None
    assert not own.healthy()
    own.start()
    assert own.pid != pid
    assert own.url == url
    assert own.healthy()


def test_a_paused_server_answers_nothing_until_it_is_resumed(own, monkeypatch):
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.2)
    own.pause()
    assert not own.healthy()
    own.resume()
    assert own.healthy()


def test_stop_ends_a_paused_server_and_may_be_repeated(own):
    own.pause()
    own.stop()
    own.stop()
    assert own.pid is None


def test_a_taken_port_names_its_holder(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=rf"Redis: port {port} of 127.0.0.1 is taken by pid {os.getpid()} \("):
            Redis(tmp_path, port=port).start()


def test_a_server_that_ends_shows_the_end_of_its_log(tmp_path):
    server = Redis(tmp_path)
    server.memory_mb = "many"
    with pytest.raises(ServerError, match=r"(?s)Redis has ended; its log .*maxmemory manymb"):
        server.start()


def test_a_missing_package_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    monkeypatch.setattr(install.os, "geteuid", lambda: 1000)
    with pytest.raises(ServerError, match=r"^a package is missing: apt-get install redis-server$"):
        install.redis()


def test_free_ports_are_free_and_below_the_clients_range():
    port = ports.free_port()
    assert ports.is_free(port)
    assert port < int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def test_nothing_outlives_a_test_process_that_is_killed():
    script = (
        "import time\nfrom local_servers import Redis, temporary\n"
        "with temporary() as folder:\n    Redis(folder / 'redis').start()\n"
        "    print(folder, flush=True)\n    time.sleep(600)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True) as child:
        folder = Path(child.stdout.readline().strip())
        assert processes.find(folder, below=True)
        child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (folder.exists() or processes.find(folder, below=True)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
    assert processes.find(folder, below=True) == []
