"""A recorded stream, and a copy of it for each test."""

import shutil

import pytest
import torch
from stream import open_stream

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
