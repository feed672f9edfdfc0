"""A call ends in time, and there is never more than one."""

import threading
from contextlib import closing

import pytest

from headrace.schemas.errors import UnavailableError
from headrace.sinks.openai.http_calls import HttpCalls


@pytest.fixture
def calls():
    calls = HttpCalls("service")
    with closing(calls.client):
        yield calls


def test_a_call_returns_and_raises_what_its_function_does(calls):
    assert calls.within(1.0, lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        calls.within(1.0, lambda: 1 / 0)


def test_while_a_call_cannot_be_ended_there_is_no_second_one(calls):
    """As where it looks up a name: nothing ends that. No thread is added, and it works again once the first ends."""
    go_on, others = threading.Event(), threading.active_count()
    with pytest.raises(UnavailableError, match=r"service: no whole answer within 0.05 s"):
        calls.within(0.05, go_on.wait)
    for _ in range(3):
        with pytest.raises(UnavailableError, match="not ended"):
            calls.within(1.0, lambda: 5)
    assert threading.active_count() == others + 1
    go_on.set()
    calls._thread.join()
    assert calls.within(1.0, lambda: 5) == 5
