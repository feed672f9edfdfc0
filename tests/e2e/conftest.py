"""The command line in a folder of the test's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(scope="module")
def new_shell(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Shell]:
    return lambda: Shell(tmp_path_factory.mktemp("shell"))
