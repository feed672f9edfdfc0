"""Waits between two tries grow, up to a bound, and begin anew after an answer."""

from headrace.pipelines.runtime.retry import Backoff


def test_waits_double_up_to_the_longest_and_begin_anew():
    backoff = Backoff(first_s=5.0, longest_s=30.0)
    assert [backoff.next_s() for _ in range(5)] == [5.0, 10.0, 20.0, 30.0, 30.0]
    backoff.reset()
    assert backoff.next_s() == 5.0


def test_a_thousand_failures_are_no_overflow():
    backoff = Backoff(failures=10_000)
    assert backoff.next_s() == backoff.longest_s
