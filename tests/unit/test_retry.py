"""Waits between two tries grow, up to a bound, and begin anew after an answer."""

from headrace.pipelines.runtime.retry import Backoff, retried
from headrace.pipelines.runtime.stop import Stop
from headrace.schemas.errors import UnavailableError


class Decisions:
    def put(self, rows):
        return len(rows)


class LateIndex:
    """An index whose decisions can be had from the second try on only."""

    tries = 0

    @property
    def decisions(self):
        self.tries += 1
        if self.tries == 1:
            raise UnavailableError("prepare failed")
        return Decisions()


def test_waits_double_up_to_the_longest_and_begin_anew():
    backoff = Backoff(first_s=5.0, longest_s=30.0)
    assert [backoff.next_s() for _ in range(5)] == [5.0, 10.0, 20.0, 30.0, 30.0]
    backoff.reset()
    assert backoff.next_s() == 5.0


def test_a_thousand_failures_are_no_overflow():
    backoff = Backoff(failures=10_000)
    assert backoff.next_s() == backoff.longest_s


def test_a_port_that_another_gives_is_waited_for_too():
    """It may ask the dependency as soon as it is given."""
    index = LateIndex()
    assert retried(index, Stop()).decisions.put([1, 2]) == 2
    assert index.tries == 2
