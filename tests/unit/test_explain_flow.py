"""The explain dataflow: a report for each promotion and interval, once, whatever is killed."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_explain_samples import CLOUD, HOUR, PLAIN, START, summary, version

from headrace.learners.checkpoint import pack
from headrace.pipelines.core.tasks import TaskTable, add_task
from headrace.pipelines.explain import GROUP, POLICIES, WINDOWS, Explainer, dataflow, run_until_caught_up
from headrace.pipelines.flow import run
from headrace.pipelines.reported import REJECTED, REPORTS, Rejections, interval_id, version_id
from headrace.schemas.errors import UnavailableError
from headrace.schemas.ports import Narrator, Record
from headrace.schemas.records import Facts, Layout, Narrative, Report, Sentence, ServingPolicy, TaskSpec
from headrace.sinks.cache_memory import MemoryCache
from headrace.sinks.cached_index import CachedChunks
from headrace.sinks.index_sqlite import SqliteIndex
from headrace.sinks.log_sqlite import SqliteLog
from headrace.sinks.narrator_template import TemplateNarrator
from headrace.sinks.policies_files import FilePolicyStore

LAYOUT = Layout("test")


class Stream:
    """An embedded log, store and index, on a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.log = SqliteLog(folder / "log.db", lambda: self.now)
        for topic in (POLICIES, WINDOWS, REJECTED, REPORTS):
            self.log.create(topic, 2)
        self.log.create("tasks", 1)
        self.index = SqliteIndex(folder / "index.db")
        self.store = FilePolicyStore(folder / "policies")

    def add(self, spec: TaskSpec) -> None:
        add_task(self.log, TaskTable(self.log, LAYOUT), spec)

    def explainer(self, narrator: Narrator | None = None, **options: object) -> Explainer:
        chunks = CachedChunks(self.index, MemoryCache(1 << 20))
        tasks = TaskTable(self.log, LAYOUT)
        return Explainer(
            self.log,
            self.store,
            chunks,
            tasks,
            narrator or TemplateNarrator(),
            interval_ms=HOUR,
            until_caught_up=True,
            **options,  # type: ignore[arg-type]
        )

    def explain(self, narrator: Narrator | None = None) -> int:
        job = self.explainer(narrator)
        try:
            return run_until_caught_up(job)
        finally:
            job.close()

    def tell(self, *slots: int, task: str = "pump", **fields: object) -> None:
        for slot in slots:
            self.now = max(self.now, START + (slot + 1) * 60_000)
            one = summary(START + slot * 60_000, task=task, terms=0, window_ms=60_000, **fields)  # type: ignore[arg-type]
            self.log.send([Record(WINDOWS, task.encode(), msgspec.json.encode(one), partition=1)])

    def serve(self, spec: TaskSpec, number: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        arrays = {
            "value.weight": np.zeros((spec.width, 1), np.float32),
            "value.bias": np.zeros(1, np.float32),
            "advantage.weight": rng.normal(size=(spec.width, spec.action_count)).astype(np.float32),
            "advantage.bias": np.zeros(spec.action_count, np.float32),
        }
        if number not in {one.version for one in self.store.versions(spec.task)}:
            self.store.put(version(number, spec.task, lineage=[]), pack(arrays))
        serving = ServingPolicy(spec.task, number, "0", "gate", "it won", self.now)
        self.log.send([Record(POLICIES, spec.task.encode(), msgspec.json.encode(serving))])

    def reports(self) -> list[Report]:
        batches = [self.log.read(REPORTS, partition, 0, 1_000) for partition in range(2)]
        return [msgspec.json.decode(value, type=Report) for batch in batches for value in batch.values if value]

    def ids(self) -> list[str]:
        return sorted(report.report_id for report in self.reports())


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    stream = Stream(tmp_path)
    yield stream
    stream.log.close()
    stream.index.close()


def test_a_promotion_is_reported_once(stream: Stream) -> None:
    stream.add(CLOUD)
    stream.serve(CLOUD, 1)
    assert stream.explain() == 1
    stream.serve(CLOUD, 2, seed=1)
    stream.serve(CLOUD, 2, seed=1)
    stream.serve(CLOUD, 1)
    assert stream.explain() == 1
    assert stream.ids() == [version_id("cloud", 1), version_id("cloud", 2)]
    ids = {fact.fact_id for fact in stream.reports()[1].facts.facts}
    assert {"return.vs-serving", "term.cost.vs-rate_rule", "differs.rate_rule"} <= ids
    assert stream.explain() == 0


def test_without_a_simulator_a_version_is_told_by_the_stream(stream: Stream) -> None:
    stream.add(PLAIN)
    stream.serve(PLAIN, 1)
    stream.explain()
    (report,) = stream.reports()
    assert report.narrative.headline.text
    assert "return.rate_rule" in {fact.fact_id for fact in report.facts.facts}


def test_intervals_are_reported_when_they_are_over(stream: Stream) -> None:
    stream.add(PLAIN)
    stream.tell(*range(60))
    assert stream.explain() == 0
    stream.tell(60)
    assert stream.explain() == 1
    stream.tell(*range(61, 121), rows=20)
    assert stream.explain() == 1
    assert stream.ids() == [interval_id("pump", START), interval_id("pump", START + HOUR)]
    facts = {fact.fact_id: fact for fact in stream.reports()[1].facts.facts}
    assert facts["rows.total"].value == 59 * 120 + 60
    assert facts["rows.change"].direction == "up"


def test_a_long_lived_explainer_goes_on_where_it_stopped(stream: Stream) -> None:
    stream.add(PLAIN)
    job = stream.explainer()
    made = []
    for slot in range(0, 130, 10):
        stream.tell(*range(slot, slot + 10))
        made.append(run_until_caught_up(job))
    job.close()
    assert sum(made) == 2
    assert made[6] == 1


class KillError(Exception):
    """The process dies here."""


def killed(call: Callable[..., None], *, after: bool) -> Callable[..., None]:
    def dying(*arguments: object) -> None:
        if after:
            call(*arguments)
        raise KillError

    return dying


@pytest.mark.parametrize("after", [False, True])
def test_kills_around_the_commit_neither_lose_nor_repeat(
    stream: Stream, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.add(PLAIN)
    slots = list(range(200))
    for place in range(0, 200, 25):
        stream.tell(*slots[place : place + 25])
        job = stream.explainer()
        with monkeypatch.context() as patch:
            subscription = job._windows.subscription
            patch.setattr(subscription, "commit", killed(subscription.commit, after=after))
            try:
                run_until_caught_up(job)
            except KillError:
                pass
            finally:
                job.close()
    stream.explain()
    assert stream.ids() == [interval_id("pump", START + hour * HOUR) for hour in range(3)]
    once = [report for report in stream.reports() if report.start_ms == START + HOUR]
    assert {fact.fact_id: fact.value for fact in once[0].facts.facts}["rows.total"] == 60 * 60
    assert "rows.change" in {fact.fact_id for fact in once[0].facts.facts}


def test_lag_stays_before_what_must_be_read_again(stream: Stream) -> None:
    stream.add(PLAIN)
    stream.tell(*range(130))
    stream.explain()
    assert stream.log.committed(GROUP, WINDOWS)[1].offset == 60


def test_rejections_are_counted_by_rule_in_their_interval(stream: Stream) -> None:
    stream.add(PLAIN)
    stream.tell(*range(30))
    secret = b"<script>alert(1)</script>"
    for rule in (b"finite", b"finite", b"Bad Rule\n", b"obs_bounds"):
        stream.log.send([Record(REJECTED, b"agent", secret, (("rule", rule), ("reason", secret)))])
    stream.tell(*range(30, 61))
    stream.explain()
    (report,) = stream.reports()
    found = {f.fact_id: f.value for f in report.facts.facts if f.fact_id.startswith("rejected")}
    assert found == {"rejected.total": 4, "rejected.finite": 2, "rejected.obs_bounds": 1, "rejected.unnamed": 1}
    assert b"script" not in msgspec.json.encode(report)


def test_rejections_are_counted_again_from_where_the_commit_says(stream: Stream) -> None:
    for _ in range(5):
        stream.log.send([Record(REJECTED, None, b"x", (("rule", b"finite"),))])
        stream.now += HOUR
    first = Rejections(stream.log, HOUR)
    first.advance()
    again = Rejections(stream.log, HOUR)
    again.hold(first.metadata(START + 3 * HOUR))
    again.hold(first.metadata(None))
    again.advance()
    assert [again.counts(START + hour * HOUR) for hour in range(5)] == [{}, {}, {}, {"finite": 1}, {"finite": 1}]
    again.hold("")
    again.advance()
    assert again.counts(START) == {"finite": 1}


class Liar:
    """Says what is not so, a number of times; then it fails, a number of times."""

    def __init__(self, lies: int, failures: int = 0) -> None:
        self.lies = lies
        self.failures = failures
        self.calls = 0

    def tell(self, facts: Facts) -> Narrative:
        self.calls += 1
        if self.calls <= self.lies:
            return Narrative("liar", Sentence("All is 100 times better"), ())
        if self.calls <= self.lies + self.failures:
            raise UnavailableError("the model is down")
        return Narrative("liar", Sentence("{@subject} was told of"), ())


@pytest.mark.parametrize(
    ("lies", "failures", "narrator"), [(0, 0, "liar"), (1, 0, "liar"), (2, 0, "template"), (0, 2, "template")]
)
def test_a_narrator_has_two_tries_then_the_template_speaks(
    stream: Stream, lies: int, failures: int, narrator: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    stream.add(PLAIN)
    stream.serve(PLAIN, 1)
    stream.explain(Liar(lies, failures))
    assert stream.reports()[0].narrative.narrator == narrator


def test_garbage_and_unknown_tasks_are_passed_over(stream: Stream) -> None:
    stream.add(PLAIN)
    stream.log.send([Record(POLICIES, b"x", b"{"), Record(POLICIES, b"pump", None), Record(WINDOWS, b"x", b"[]")])
    unknown = ServingPolicy("nobody", 1, "0", "gate", "", START)
    missing = ServingPolicy("pump", 9, "0", "gate", "", START)
    stream.log.send([Record(POLICIES, b"x", msgspec.json.encode(one)) for one in (unknown, missing)])
    stream.tell(0, task="nobody")
    assert stream.explain() == 0
    assert stream.reports() == []


def test_a_stop_ends_the_run(stream: Stream) -> None:
    job = stream.explainer()
    job._until_caught_up = False
    job.stop.requested = True
    run(dataflow(job), job.stop)
    job.close()


def test_the_jobs_import_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; import headrace.pipelines.explain, headrace.pipelines.digest, headrace.pipelines.render; "
        "sys.exit(' '.join({'torch', 'matplotlib', 'gymnasium', 'PIL'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
