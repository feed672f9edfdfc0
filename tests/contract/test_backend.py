"""What every port has: it says what runs there, what it has counted, and lets go of what it holds."""

from collections.abc import Callable

import pytest
from contract_chunks import chunk
from contract_outbox import Outbox
from contract_urls import opened

from headrace.schemas.ports import Backend, Cache, Index, Log, PolicyStore


def is_a_backend(backend: Backend) -> None:
    assert isinstance(backend.about(), str)
    for name, count in backend.counters().items():
        assert all(isinstance(part, str) for part in name)
        assert count >= 0
    backend.close()
    backend.close()


def test_a_log(open_log: Callable[[], Log]) -> None:
    is_a_backend(open_log())


def test_an_index(open_index: Callable[[], Index]) -> None:
    is_a_backend(open_index())


def test_a_policy_store(open_store: Callable[[], PolicyStore]) -> None:
    is_a_backend(open_store())


def test_a_cache_counts_by_level_and_result(cache: Cache, name: str) -> None:
    kept, never = chunk(name), chunk(name, segment=1)
    cache.put([(kept.reference, kept.payload)])
    cache.get([kept.reference, never.reference])
    counts = cache.counters()
    (level,) = {level for level, _ in counts}
    assert (counts[level, "hit"], counts[level, "miss"], counts.get((level, "error"), 0)) == (1, 1, 0)
    is_a_backend(cache)


@pytest.mark.parametrize(("part", "url"), [("narrator", "template:"), ("advisor", "rules:")])
def test_what_holds_nothing(part: str, url: str) -> None:
    is_a_backend(opened(part, url))


def test_a_mailer(outbox: Outbox) -> None:
    is_a_backend(outbox.mailer)
