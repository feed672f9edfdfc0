"""Tests on real servers are marked as such: `make test-servers` runs them, plain `pytest` starts no server."""

import os
import subprocess
import sys
from collections.abc import Generator

import pytest
from cassandra import OperationTimedOut, Timeout

# A process that a test starts would compile every module that it imports, torch's too: half of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

SERVERS = {"kafka", "cassandra", "redis", "servers", "cassandra_cluster", "guarded"}
BACKENDS = ("_kafka", "_cassandra", "_redis")


def needs_server(item: pytest.Item) -> bool:
    """Whether a test asks for a server by a fixture, by its backend's name, or by the folder that it lies in."""
    backend = getattr(item, "callspec", None)
    backends = {str(value) for value in backend.params.values()} if backend else set()
    if item.path.stem.endswith(BACKENDS) or "servers" in item.path.parts:
        return True
    return bool(SERVERS & ({*getattr(item, "fixturenames", ())} | backends))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark before `-m` selects, and say after how many seconds a test hangs; a test's own mark holds."""
    for item in items:
        if needs_server(item):
            item.add_marker(pytest.mark.servers)
        if "llm" in item.path.parts:
            item.add_marker(pytest.mark.llm)
        if item.get_closest_marker("timeout"):
            continue
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.timeout(3_600))
        elif item.get_closest_marker("servers"):  # the first one waits for the servers too
            item.add_marker(pytest.mark.timeout(1_200))


LATE = 7
"""The exit status where time-outs are all that failed."""
TIME_OUTS = (TimeoutError, subprocess.TimeoutExpired, OperationTimedOut, Timeout)
failures: list[bool] = []


def is_late(error: BaseException | None) -> bool:
    """Whether an error is a time-out, or was raised from one."""
    while error is not None and not isinstance(error, TIME_OUTS):
        error = error.__cause__
    return error is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write on the report of a failure whether it was a time-out; a worker's report goes to who leads it."""
    report = yield
    if report.failed and call.excinfo:
        report.late = is_late(call.excinfo.value)
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note each failure."""
    if report.failed:
        failures.append(getattr(report, "late", False))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Tell whoever called that nothing but time was short."""
    if exitstatus == pytest.ExitCode.TESTS_FAILED and failures and all(failures):
        session.exitstatus = LATE
