"""A lock that is one process's: the second is told whose, and nothing that a dead one left is in the way."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from contract_faults import child

from headrace.schemas.errors import StorageError
from headrace.sinks.files.lock import held

HOLDER = """
import sys, time
from pathlib import Path
from headrace.sinks.files.lock import held

with held(Path(sys.argv[1]), "it", "stop it"):
    print(1, flush=True)
    time.sleep(60)
"""


def test_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with child(HOLDER, path) as holder:
        assert holder.stdout
        assert holder.stdout.readline().strip() in {"1", b"1"}
        with (
            pytest.raises(StorageError, match=rf"^it runs: pid {holder.pid} has it since 20.* UTC: wait"),
            ExitStack() as s,
        ):
            s.enter_context(held(path, "it runs", "wait"))
    with held(path, "it runs", "wait"):  # the holder was killed
        assert path.read_text().startswith(f"pid {os.getpid()} has it")
    with held(path, "it runs", "wait"), held(tmp_path / "b.lock", "another", ""):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none/a\.lock"), ExitStack() as stack:
        stack.enter_context(held(tmp_path / "none" / "a.lock", "it", ""))
