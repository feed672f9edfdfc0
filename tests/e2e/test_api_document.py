"""What docs/api.md tells a reader to type works, and the routes that it names are those that there are."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from running import ENVIRONMENT, HEADRACE
from served import fill
from test_serve import Server

from headrace.pipelines.serve.contract import FILE
from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import open_services, system_clock

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
README = (Path(__file__).parents[2] / "README.md").read_text()


def blocks(language, text=TEXT):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("document")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with open_services(read_settings(), system_clock, create=True) as services:
            fill(services)
    good, _ = next(block for block in blocks("json", README) if "schema_version" in block).splitlines()
    (folder / "data.jsonl").write_text(good)
    return folder


def typed(line, server, folder):
    """What a line that is typed prints, of this server."""
    line = line.replace("localhost:8080", f"127.0.0.1:{server.port}")
    return json.loads(subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, check=True).stdout)


def test_what_is_typed_works(folder):
    server = Server(folder)
    try:
        server.until(lambda: server.decide()[0] == 200)
        asked, sent = (typed(line, server, folder) for line in map(str.strip, blocks("console")))
        (code,) = blocks("python")
        code = code.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
        command = [sys.executable, "-c", code]
        told = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    finally:
        server.process.terminate()
        server.process.wait()
    (shown,) = map(json.loads, blocks("json"))
    assert asked.keys() == shown.keys()
    assert sent == {"messages": 1, "rows": 1, "rejected": 0, "items": []}
    assert told.stdout == "80 80\n"
    for line in blocks("sh")[0].splitlines():
        subprocess.run([HEADRACE, *line.split()[1:]], cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)


def test_every_route_is_named():
    """Each path of the description, by its last part that is a name."""
    for path in json.loads(FILE.read_text())["paths"]:
        name = [part for part in path.split("/") if "{" not in part][-1]
        assert re.search(rf"[/`]{name}\b", TEXT), path
