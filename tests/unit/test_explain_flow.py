"""The explain dataflow: a report for each promotion and interval, once, whatever is killed."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from test_explain_samples import CLOUD, HOUR, PLAIN, START, summary, version

from headrace.learners.checkpoint import pack
from headrace.learners.explain.template import TemplateNarrator
from headrace.pipelines.explain import words
from headrace.pipelines.explain.items import Draft
from headrace.pipelines.explain.job import GROUP, Explainer, dataflow, run_until_caught_up
from headrace.pipelines.explain.reported import KnownReports, Operations, Rejections, interval_id, version_id
from headrace.pipelines.runtime.flow import run
from headrace.pipelines.tasks import TaskTable, add_task
from headrace.pipelines.topics import POLICIES, REJECTED, REPORTS, TRANSITIONS, WINDOWS, IngestCommit
from headrace.schemas.errors import UnavailableError
from headrace.schemas.grounding import fill
from headrace.schemas.ports import Assigned, Commit, Narrator, Record, Revoked
from headrace.schemas.records import Facts, Layout, Narrative, Report, Sentence, ServingPolicy, TaskSpec
from headrace.sinks.chunks import CachedChunks
from headrace.sinks.files.policies import FilePolicyStore
from headrace.sinks.memory import MemoryCache
from headrace.sinks.sqlite.index import SqliteIndex
from headrace.sinks.sqlite.log import SqliteLog

LAYOUT = Layout("test")


class Stream:
    """An embedded log, store and index, on a clock that is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.log = SqliteLog(folder / "log.db", lambda: self.now)
        for topic in (POLICIES, WINDOWS, REJECTED, REPORTS, TRANSITIONS):
            self.log.create(topic, 2)
        self.log.create("tasks", 1)
        self.index = SqliteIndex(folder / "index.db")
        self.store = FilePolicyStore(folder / "policies")

    def add(self, spec: TaskSpec) -> None:
        add_task(self.log, spec)

    def explainer(
        self, narrator: Narrator | None = None, *, until_caught_up: bool = True, **options: object
    ) -> Explainer:
        chunks = CachedChunks(self.index, MemoryCache(1 << 20))
        tasks = TaskTable(self.log, LAYOUT)
        return Explainer(
            self.log,
            self.store,
            chunks,
            tasks,
            narrator or TemplateNarrator(),
            interval_ms=HOUR,
            until_caught_up=until_caught_up,
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

    def send(self, partition: int, count: int) -> None:
        """Append messages that ingest has yet to read."""
        self.log.send([Record(TRANSITIONS, None, b"", partition=partition) for _ in range(count)])

    def ingested(self, partition: int, offset: int, slot: float, told: Sequence[Record] = ()) -> None:
        """Move ingest's commit, with its stream time at the begin of a slot."""
        place = msgspec.json.encode(IngestCommit(0, START + int(slot * 60_000))).decode()
        member = self.log.subscribe("ingest", TRANSITIONS)
        member.poll(1, 0.0)
        member.commit({partition: Commit(offset, place)}, told)
        member.close()

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
    stream.tell(*range(59))
    assert stream.explain() == 0
    stream.tell(59)
    assert stream.explain() == 1
    stream.tell(60)
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
    assert made[5] == 1


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
            subscription = job.intervals.member.subscription
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
    first, again = Rejections(stream.log), Rejections(stream.log)
    first.advance(stream.now)
    again.hold(first.metadata(START + 2 * HOUR))
    again.hold(first.metadata(None))
    again.advance(stream.now)
    assert by_hour(again) == [0, 0, 0, 1, 1]
    again.hold("")
    again.advance(stream.now)
    assert by_hour(again) == [1, 1, 1, 1, 1]


def by_hour(rejections: Rejections) -> list[int]:
    """How many of the rejections of each hour are held."""
    return [sum(rejections.counts(START + h * HOUR - 1, START + h * HOUR).values()) for h in range(5)]


def test_another_partitions_later_commit_takes_no_rejection_away(stream: Stream) -> None:
    for _ in range(5):
        stream.log.send([Record(REJECTED, None, b"x", (("rule", b"finite"),))])
        stream.now += HOUR
    first, again = Rejections(stream.log), Rejections(stream.log)
    first.advance(stream.now)
    again.hold(first.metadata(START + HOUR))
    again.advance(stream.now)
    again.hold(first.metadata(START + 3 * HOUR))
    again.advance(stream.now)
    assert by_hour(again) == [0, 0, 1, 1, 1]


def test_rejections_are_read_as_far_as_is_needed_and_forgotten_when_told(stream: Stream) -> None:
    for hour in range(5):
        stream.now = START + hour * HOUR
        stream.log.send([Record(REJECTED, None, b"x", (("rule", b"finite"),)) for _ in range(500)])
    rejections = Rejections(stream.log)
    rejections.advance(START + 2 * HOUR)
    rejections.advance(START + 2 * HOUR)
    assert by_hour(rejections) == [500, 500, 500, 500, 0]
    rejections.forget(START + HOUR)
    assert by_hour(rejections) == [0, 0, 500, 500, 0]
    rejections.hold(rejections.metadata(START + HOUR))
    assert by_hour(rejections) == [0, 0, 500, 500, 0], "what is held needs not be read again"
    rejections.hold("")
    rejections.advance(START)
    assert by_hour(rejections)[0] == 500


def test_what_served_comes_in_order_whatever_other_partitions_have_of_that_moment(stream: Stream) -> None:
    """The other partition, read first, has something of the second version's moment."""
    for task, number, partition, late_ms in (("pump", 1, 1, 1), ("other", 1, 0, 2), ("pump", 2, 1, 2)):
        stream.now = START + late_ms
        serving = ServingPolicy(task, number, "0", "gate", "it won", stream.now)
        stream.log.send([Record(POLICIES, task.encode(), msgspec.json.encode(serving), partition=partition)])
    operations = Operations(stream.log)
    operations.advance(START + HOUR)
    found = {fact.fact_id: fact.value for fact in operations.facts("pump", START, START + HOUR)}
    assert found == {"operations.promotions": 2}
    operations.forget(START + HOUR)
    assert operations.facts("pump", START + HOUR, START + 2 * HOUR) == ()
    stream.now = START + HOUR + 1
    stream.log.send([Record(POLICIES, b"pump", msgspec.json.encode(serving), partition=1)])
    operations.advance(START + 2 * HOUR)
    assert operations.facts("pump", START + HOUR, START + 2 * HOUR) == (), "the second one served already"


def rejected_facts(report: Report) -> dict[str, float]:
    return {fact.fact_id: fact.value for fact in report.facts.facts if fact.fact_id.startswith("rejected")}


def test_imported_history_is_never_said_to_have_had_no_rejections(stream: Stream) -> None:
    stream.add(PLAIN)
    stream.now = START + 1_000 * HOUR
    stream.log.send([Record(REJECTED, b"agent", b"x", (("rule", b"finite"),)) for _ in range(500)])
    stream.tell(*range(260))
    stream.explain()
    reports = sorted(stream.reports(), key=lambda report: report.start_ms)
    assert [rejected_facts(report) for report in reports] == [
        {"rejected.total": 500, "rejected.finite": 500},
        {},
        {},
        {},
    ]
    text = [" ".join(sentence.text for sentence in report.narrative.sentences) for report in reports]
    assert ["rejected" in one for one in text] == [True, False, False, False]


def test_each_rejection_is_told_once_and_restarts_change_nothing(stream: Stream) -> None:
    """Four hours live, with a rejection every ten minutes; what a restart reads again it counts as before."""
    stream.add(PLAIN)
    for slot in range(0, 250, 10):
        stream.tell(*range(slot, slot + 10))
        stream.log.send([Record(REJECTED, b"agent", b"x", (("rule", b"finite"),))])
        stream.explain()
    reports = sorted(stream.reports(), key=lambda report: report.start_ms)
    assert [rejected_facts(report)["rejected.total"] for report in reports] == [6, 6, 6, 6]


def test_who_takes_a_partition_over_does_not_report_again(stream: Stream) -> None:
    stream.add(PLAIN)
    stream.add(CLOUD)
    heir = stream.explainer()
    stream.tell(*range(130))
    stream.serve(PLAIN, 1)
    assert stream.explain() == 3
    assert run_until_caught_up(heir) == 0
    heir.close()
    assert len(stream.ids()) == 3


@pytest.mark.parametrize("together", [False, True])
def test_a_report_whose_commit_is_dropped_is_made_again(
    stream: Stream, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partition goes and comes back between the computation and the commit."""
    stream.add(PLAIN)
    stream.tell(*range(61))
    job = stream.explainer()
    subscription = job.intervals.member.subscription
    drafts = computed(job)
    with monkeypatch.context() as patch:
        patch.setattr(job.intervals, "_until_caught_up", False)
        patch.setattr(subscription, "poll", lambda *_: [Revoked(1), Assigned(1, None, 0, 61)])
        job.poll()
    subscription.seek(1, 0)
    if together:
        job.commit(drafts + computed(job))
    else:
        job.commit(drafts)
        assert stream.ids() == []
        job.commit(computed(job))
    job.close()
    assert stream.ids() == [interval_id("pump", START)]


def computed(job: Explainer) -> list[Draft]:
    """Poll until something happens; its reports, with words."""
    items: list[Any] = []
    while not items:
        items = job.poll()
    for _, step in job.steps():
        items = [made for item in items for made in step(item)]
    drafts: list[Draft] = items
    assert [draft.report is not None for draft in drafts] == [True]
    return drafts


def test_a_long_lived_explainer_remembers_what_it_reported(stream: Stream) -> None:
    stream.add(PLAIN)
    job = stream.explainer()
    made = []
    for _ in range(2):
        stream.serve(PLAIN, 1)
        made.append(run_until_caught_up(job))
    job.close()
    assert made == [1, 0]


def test_known_reports_are_read_on_not_again(stream: Stream) -> None:
    known = KnownReports(stream.log)
    for number, later in ((1, False), (2, True)):
        stream.log.send([Record(REPORTS, version_id("a", number).encode(), b"{}")])
        stream.log.send([Record(REPORTS, interval_id("a.b", number * HOUR).encode(), b"{}")])
        assert version_id("a", number) not in known
        known.refresh()
        assert version_id("a", number) in known
        assert (interval_id("a.b", 2 * HOUR) in known) is later
    assert interval_id("a.b", HOUR) in known
    assert interval_id("a.b", 3 * HOUR) not in known
    assert interval_id("b", HOUR) not in known


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


@pytest.mark.parametrize(("lies", "failures", "narrator"), [(0, 0, "liar"), (1, 0, "template"), (0, 1, "template")])
def test_where_the_narrator_fails_the_template_speaks(
    stream: Stream, lies: int, failures: int, narrator: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    stream.add(PLAIN)
    stream.serve(PLAIN, 1)
    stream.explain(Liar(lies, failures))
    assert stream.reports()[0].narrative.narrator == narrator


def test_a_report_goes_out_even_if_no_narrator_is_grounded(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(words, "TemplateNarrator", lambda: Liar(9))
    stream.add(PLAIN)
    stream.serve(PLAIN, 1)
    assert stream.explain(Liar(9)) == 1
    (report,) = stream.reports()
    assert fill(report.narrative.headline, report.facts) == "Report on v1"
    assert report.narrative.sentences == ()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_garbage_and_unknown_tasks_are_passed_over(stream: Stream) -> None:
    stream.add(PLAIN)
    stream.log.send([Record(POLICIES, b"x", b"{"), Record(POLICIES, b"pump", None), Record(WINDOWS, b"x", b"[]")])
    unknown = ServingPolicy("nobody", 1, "0", "gate", "", START)
    missing = ServingPolicy("pump", 9, "0", "gate", "", START)
    stream.log.send([Record(POLICIES, b"x", msgspec.json.encode(one)) for one in (unknown, missing)])
    stream.tell(0, task="nobody")
    assert stream.explain() == 0
    assert stream.reports() == []


@pytest.mark.timeout(60)
def test_a_stop_ends_the_run(stream: Stream) -> None:
    """Also one that would go on for ever; what it had left to tell, the next run tells."""
    stream.add(PLAIN)
    stream.serve(PLAIN, 1)
    job = stream.explainer(until_caught_up=False)
    job.stop.requested = True
    run(dataflow(job), job.stop)
    job.close()
    assert job.stop.finished
    assert stream.reports() == []
    assert stream.explain() == 1


@pytest.mark.timeout(60)
def test_a_stop_between_two_reports_loses_none(stream: Stream) -> None:
    """A stop that comes while a report is written: what was read is sent, the rest is the next run's."""
    stream.add(PLAIN)

    class Stopping(TemplateNarrator):
        def tell(self, facts: Facts) -> Narrative:
            job.stop.requested = True
            return super().tell(facts)

    stream.serve(PLAIN, 1)
    stream.serve(PLAIN, 2)
    job = stream.explainer(Stopping(), until_caught_up=False)
    run(dataflow(job), job.stop)
    job.close()
    assert job.stop.finished
    assert stream.reports()
    stream.explain()
    assert [report.policy_version for report in stream.reports()] == [1, 2]


def test_the_jobs_import_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys; import headrace.pipelines.explain.job; "
        "import headrace.pipelines.report.job, headrace.pipelines.report.render; "
        "sys.exit(' '.join({'torch', 'matplotlib', 'gymnasium', 'PIL'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
