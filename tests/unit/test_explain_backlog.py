"""Interval reports tell of all partitions, in whatever order ingest works a backlog off."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_explain_flow import Stream
from test_explain_samples import PLAIN

from headrace.pipelines.explain.job import run_until_caught_up
from headrace.schemas.ports import Commit


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    stream = Stream(tmp_path)
    yield stream
    stream.log.close()
    stream.index.close()


def rows(stream: Stream) -> list[float]:
    return [one.facts.facts[0].value for one in sorted(stream.reports(), key=lambda report: report.start_ms)]


def test_a_backlog_that_is_worked_off_partition_by_partition_is_reported_whole(stream: Stream) -> None:
    """Ingest is through with one partition, far past the interval, before it begins the other."""
    stream.add(PLAIN)
    for partition in (0, 1):
        stream.send(partition, 10)
    stream.tell(*range(120), group=0)
    stream.ingested(0, 10, 120.1)
    assert stream.explain() == 0, "nothing of the other partition is ingested"
    stream.tell(*range(70), group=1)
    stream.ingested(1, 5, 70.1)
    assert stream.explain() == 1, "the second hour is not told whole"
    stream.tell(*range(70, 120), group=1)
    stream.ingested(1, 10, 120.1)
    assert stream.explain() == 1
    assert rows(stream) == [60 * 120, 60 * 120]


def test_catching_up_reads_every_window_before_it_reports(stream: Stream) -> None:
    stream.add(PLAIN)
    for partition in (0, 1):
        stream.send(partition, 10)
        stream.tell(*range(120), group=partition)
        stream.ingested(partition, 10, 120.1)
    assert stream.explain() == 2
    assert rows(stream) == [60 * 120, 60 * 120]


def test_windows_told_while_the_last_ones_are_read_are_waited_for(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ingest finishes between the end of the reading and the question how far it has come."""
    stream.add(PLAIN)
    stream.send(1, 1)
    stream.tell(*range(60), group=0)
    committed = stream.log.committed

    def late(group: str, topic: str) -> dict[int, Commit]:
        monkeypatch.undo()
        stream.tell(*range(60), group=1)
        stream.ingested(1, 1, 60.1)
        return committed(group, topic)

    monkeypatch.setattr(stream.log, "committed", late)
    assert stream.explain() == 1
    assert rows(stream) == [60 * 120]


def test_who_runs_for_ever_asks_once_a_second_and_only_when_an_interval_looks_over(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, asked = [0.0], []
    committed = stream.log.committed
    monkeypatch.setattr(stream.log, "committed", lambda *names: (asked.append(now_s[0]), committed(*names))[1])
    stream.add(PLAIN)
    stream.send(1, 1)
    job = stream.explainer(until_caught_up=False, timer=lambda: now_s[0])
    stream.tell(*range(59))
    found = [job.poll() for _ in range(3)]
    assert asked == []
    stream.tell(59, 60)
    for _ in range(5):
        found.append(job.poll())
        now_s[0] += 0.4
    assert asked == [0.0, pytest.approx(1.2)]
    stream.ingested(1, 1, 60.1)
    now_s[0] += 1.0
    found.append(job.poll())
    job.close()
    assert [len(one) for one in found] == [0] * 8 + [1]


def test_a_restart_compares_and_counts_late_windows_as_if_there_had_been_none(tmp_path: Path) -> None:
    """What came too late for a report is not taken for a part of it when its windows are read again."""
    for again in (False, True):
        folder = tmp_path / str(again)
        folder.mkdir()
        here = Stream(folder)
        here.add(PLAIN)
        job = here.explainer()
        for slots in (range(60), (10, 11), range(60, 90), range(90, 120)):
            here.tell(*slots, group=int(len(slots) == 2))
            run_until_caught_up(job)
            if again:
                job.close()
                job = here.explainer()
        job.close()
        facts = {fact.fact_id: fact.value for fact in here.reports()[-1].facts.facts}
        assert (facts["rows.unreported"], len(here.reports())) == (2, 2)
        here.log.close()
        here.index.close()
