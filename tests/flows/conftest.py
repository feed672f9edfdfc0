"""A recorded stream, and a copy of it for each test; an empty one, and what serves it."""

import shutil

import pytest
import torch
from starlette.testclient import TestClient
from stream import open_stream

from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import open_services

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory):
    """A stream with nine windows ingested, and nothing learned yet."""
    folder = tmp_path_factory.mktemp("recorded")
    stream = open_stream(folder)
    fleet = stream.fleet(seed=3)
    for _ in range(9):
        fleet.emit_window(stream.advance)
    stream.ingest()
    stream.close()
    return folder


@pytest.fixture
def stream(recorded, tmp_path):
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    opened = open_stream(tmp_path)
    yield opened
    opened.close()


EMPTY_MS = 1_700_000_000_000
"""What the clock of a new, empty stream says."""


@pytest.fixture
def services(tmp_path, monkeypatch):
    """Of a stream that is made, and empty."""
    monkeypatch.chdir(tmp_path)
    with open_services(read_settings(), lambda: EMPTY_MS, create=True) as opened:
        opened.initialise()
        yield opened


@pytest.fixture
def client(services):
    """A client of the API and the console on it."""
    from headrace.pipelines.serve.access import Gate  # noqa: PLC0415 FastAPI, which most of these tests don't need
    from headrace.pipelines.serve.app import create_app  # noqa: PLC0415
    from headrace.pipelines.serve.site import Site  # noqa: PLC0415
    from headrace.pipelines.serve.view import View  # noqa: PLC0415

    site = Site(services, View(services.log), Gate(services.tokens, services.clock, "owner"))
    with TestClient(create_app(site), base_url="http://localhost:8080") as opened:
        yield opened
