"""The real small model; `make test-llm` runs what lies here."""

from collections.abc import Iterator

import pytest
from local_model import Served, serving


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The model as it came."""
    with serving(tmp_path_factory.mktemp("served")) as found:
        yield found
