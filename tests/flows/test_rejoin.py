"""Two members of one group, where one is overtaken at any write: it undoes nothing, joins again and goes on."""

import random
import re
import shutil
from collections import Counter
from contextlib import suppress

import msgspec
import numpy as np
import pytest
from stream import learn_on, open_stream, outcome, through

from headrace.learners.checkpoint import pack, weights_hash
from headrace.learners.explain.template import TemplateNarrator
from headrace.pipelines.explain.job import Explainer
from headrace.pipelines.ingest import job as ingest
from headrace.pipelines.query.index_hash import index_hash
from headrace.pipelines.report.compose import Envelope
from headrace.pipelines.report.job import Digest
from headrace.pipelines.report.schedule import Schedule
from headrace.pipelines.runtime.flow import run
from headrace.pipelines.tasks import TaskTable
from headrace.schemas.ports import Assigned, Commit, Record, Revoked
from headrace.schemas.records import Fact, Facts, Mail, Narrative, Report, Sentence, Verdict
from headrace.sinks.memory import MemoryCache

DAY_MS = 86_400_000


class Frozen:
    """Something whose writes a process is frozen before, now and then, while `meanwhile` is called."""

    def __init__(self, real, names, freezes, meanwhile):
        self.real, self.names, self.freezes, self.meanwhile = real, names, freezes, meanwhile

    def __getattr__(self, name):
        method = getattr(self.real, name)
        if name not in self.names:
            return method

        def call(*arguments):
            if self.freezes(name):
                self.meanwhile()
            return method(*arguments)

        return call


class Crew:
    """Two members that take turns by chance; the first one is frozen at some of its writes while the other works."""

    def __init__(self, seed, step):
        self.rng, self._step = random.Random(seed), step
        self.members = []
        self.ended = set()
        self.frozen = 0

    def freezing(self, real, *names):
        return Frozen(real, names, lambda _: not self.frozen or self.rng.random() < 0.4, self._other_works)

    def _other_works(self):
        self.frozen += 1
        for _ in range(self.rng.randrange(1, 12)):
            if 1 not in self.ended:
                self._turn(1)

    def _turn(self, number):
        try:
            self._step(self.members[number])
        except StopIteration:
            self.ended.add(number)

    def work(self):
        """Until both have come to the log's end. The first one begins."""
        while not self.frozen:
            self._turn(0)
        while len(self.ended) < 2:
            self._turn(self.rng.choice(sorted({0, 1} - self.ended)))
        for member in self.members:
            member.close()


def explain_on(job):
    items = job.poll()
    for _, step in job.steps():
        items = [made for item in items for made in step(item)]
    job.commit(items)


def finish(step, job):
    """To the log's end."""
    with suppress(StopIteration):
        while True:
            step(job)
    job.close()


@pytest.fixture(scope="module")
def learned(recorded, tmp_path_factory):
    """The same, and learned from undisturbed."""
    folder = tmp_path_factory.mktemp("learned")
    shutil.copytree(recorded, folder, dirs_exist_ok=True)
    stream = open_stream(folder)
    stream.learn()
    yield stream
    stream.close()


def opened(folder, target):
    shutil.copytree(folder, target, dirs_exist_ok=True)
    return open_stream(target)


@pytest.fixture
def stream(recorded, tmp_path):
    found = opened(recorded, tmp_path)
    yield found
    found.close()


@pytest.mark.parametrize("seed", range(6))
def test_learners_that_overtake_one_another(stream, learned, seed):
    """Versions, their numbers, what is announced, the last checkpoint: as if there had been one learner."""
    crew = Crew(seed, learn_on)
    one = stream.learner(store=crew.freezing(stream.store, "put", "save"))
    one._member.subscription = crew.freezing(one._member.subscription, "commit")
    crew.members = [one, stream.learner()]
    crew.work()
    assert outcome(stream) == outcome(learned)


@pytest.mark.parametrize("commits", [True, False])
def test_a_learner_that_was_overtaken_goes_on(stream, learned, commits):
    """It saves nothing over the newer checkpoint and sends nothing; then it has what the other one has.

    commits: or it has stored a version without ever having saved a checkpoint; the other one comes to the same version.
    """
    stale = stream.learner()
    if commits:
        for _ in range(5):
            learn_on(stale)
    while not stream.store.versions("cloud") or not stale.learners["cloud"].due:
        for item in stale.poll():
            through(stale, item)
    stream.learn()
    newer, sent = stream.store.load("cloud"), stream.policies()
    stale.commit([None])
    finish(learn_on, stale)
    assert (stream.store.load("cloud"), stream.policies()) == (newer, sent)
    assert outcome(stream) == outcome(learned)


def test_a_stop_ends_a_learner_that_was_overtaken(stream):
    stale = stream.learner()
    for _ in range(4):
        for item in stale.poll():
            through(stale, item)
    stream.learn()
    newer = stream.store.load("cloud")
    stale.stop.requested = True
    stale.commit(stale.poll())
    with pytest.raises(StopIteration):
        stale.poll()
    stale.close()
    assert stream.store.load("cloud") == newer


def test_a_number_that_another_learner_takes_meanwhile_is_not_taken_twice(stream):
    """Another one stores other weights under the same number between the look at the store and the write."""
    store, taken = stream.store, []

    def other():
        weights = pack({"other": np.zeros(1)})
        store.put(msgspec.structs.replace(example, weights_hash=weights_hash(weights)), weights)
        taken.append(1)

    shutil.copytree(stream.folder, stream.folder / "before")
    before = open_stream(stream.folder / "before")
    before.learn()
    example = before.store.versions("cloud")[0]
    before.close()
    stream.learn(store=Frozen(store, {"put"}, lambda _: not taken, other))
    versions = store.versions("cloud")
    assert [one.version for one in versions] == [1, 2, 3, 4, 5]
    assert versions[1].weights_hash == example.weights_hash


def test_an_ingest_that_was_overtaken_goes_on(tmp_path):
    """Its fold is refused, and done by then: it changes nothing, neither in the index nor on the log."""
    stream = open_stream(tmp_path)
    stream.fleet(seed=3).emit_window(stream.advance)
    job = ingest.Ingest(
        stream.log, stream.index, MemoryCache(1 << 20), stream.layout, until_caught_up=True, timer=lambda: 0.0
    )
    polled, poll = [job.poll()], job.poll
    job.poll = lambda: polled.pop() if polled else poll()
    stream.ingest()
    rows, told = index_hash(stream.index), stream.log.bounds("windows", 1)
    run(ingest.dataflow(job), job.stop)
    job.close()
    assert job.counts.messages
    assert not job.counts.windows
    assert (index_hash(stream.index), stream.log.bounds("windows", 1)) == (rows, told)
    stream.close()


def test_a_learner_that_freezes_within_its_save_replaces_nothing_newer(stream, learned):
    """The other one does all of the work between its look at the commit and its save, and is gone for good."""
    froze = []

    def work():
        froze.append(1)
        stream.learn()

    stale = stream.learner(store=Frozen(stream.store, {"save"}, lambda _: not froze, work))
    finish(learn_on, stale)
    assert froze
    assert outcome(stream) == outcome(learned)


def explainer(stream, **options):
    return Explainer(
        stream.log,
        stream.store,
        stream.chunks,
        TaskTable(stream.log, stream.layout),
        TemplateNarrator(),
        interval_ms=7_200_000,
        until_caught_up=True,
        **options,
    )


def reported(stream):
    found = {}
    for partition in range(2):
        batch = stream.log.read("reports", partition, 0, 1_000)
        for key, value in zip(batch.keys, batch.values, strict=True):
            assert key not in found, f"{key} came twice"
            found[key] = value
    return found


@pytest.fixture(scope="module")
def alone(learned, tmp_path_factory):
    """What an undisturbed run reports."""
    stream = opened(learned.folder, tmp_path_factory.mktemp("alone"))
    finish(explain_on, explainer(stream))
    yield reported(stream)
    stream.close()


@pytest.mark.parametrize("seed", range(4))
def test_explainers_that_overtake_one_another(learned, alone, tmp_path, seed):
    """Every report comes once, and says what an undisturbed run's says."""
    stream = opened(learned.folder, tmp_path)
    crew = Crew(seed, explain_on)
    one = explainer(stream)
    for follower in (one._policies, one.intervals.member):
        follower.subscription = crew.freezing(follower.subscription, "commit")
    crew.members = [one, explainer(stream)]
    crew.work()
    assert reported(stream) == alone
    assert len(alone) > 5
    stream.close()


def test_an_explainer_reports_what_its_successor_had_not_come_to(learned, tmp_path):
    """The other one is gone after its first report: what was refused with that one is not taken for reported."""
    stream, other, froze = opened(learned.folder, tmp_path), [], []

    def works():
        froze.append(1)
        other.append(explainer(stream, poll_messages=1))
        while not other[0].reports:
            explain_on(other[0])
        other[0].close()

    one = explainer(stream)
    one._policies.subscription = Frozen(one._policies.subscription, {"commit"}, lambda _: not froze, works)
    finish(explain_on, one)
    assert other[0].reports == 1
    assert sum(b".version." in key for key in reported(stream)) == 4
    stream.close()


class Post:
    """A mailer that keeps what it was given."""

    idempotent = False

    def __init__(self):
        self.sent = []

    def send(self, message, digest_id, recipients):
        self.sent.append((digest_id, message.as_string()))
        return dict.fromkeys(recipients, Verdict("accepted"))

    def told(self):
        """How often each report was sent: a version that another followed is one of those of the period."""
        texts = [text.replace("=\n", "") for _, text in self.sent]
        return Counter(
            n for text in texts for n in range(1, 9) if re.search(rf"\bv{n} serves|period \([^)]*\bv{n}\b", text)
        )


def report(number, partition):
    facts = Facts("cloud", f"v{number}", (Fact("version.policy", "this version", number, "version"),))
    narrative = Narrative("template", Sentence("{version.policy} serves now"), ())
    made = Report(f"cloud.version.{number}", "cloud", "version", 0, 0, number, facts, narrative, {})
    return Record("reports", made.report_id.encode(), msgspec.json.encode(made), partition=partition)


@pytest.fixture
def office(tmp_path):
    """A stream with two reports, one on each partition, and an empty outbox, a day later."""
    stream = open_stream(tmp_path)
    stream.log.create("mails", 1)
    stream.log.send([report(1, 0), report(2, 1)])
    stream.clock.now_ms += DAY_MS
    yield stream
    stream.close()


def digest(stream, post, **options):
    envelope = Envelope("headrace <h@example.org>", ("boss@example.org",), "mailto:h@example.org")
    return Digest(stream.log, post, stream.clock, envelope, schedule=Schedule("0 8 * * *"), **options)


def states(stream):
    batch = stream.log.read("mails", 0, 0, 100)
    return [msgspec.json.decode(value, type=Mail).state for value in batch.values]


@pytest.mark.parametrize(
    ("write", "states_then"),
    [
        (1, ["due", "sending", "sent"]),
        (2, ["due", "sending", "sent"]),
        (3, ["due", "sending", "unknown"]),
        (4, ["due", "sending", "unknown"]),
    ],
    ids=["before due", "before sending", "before the mail", "before sent"],
)
def test_a_digest_that_is_overtaken_sends_nothing_twice(office, write, states_then):
    """Frozen before any of its writes, the mail itself included, while another one does all that it can."""
    post, writes = Post(), []
    other = digest(office, post)
    other.step()  # joins; the one below is overtaken, or overtakes

    def meanwhile():
        for _ in range(3):
            other.step()

    def freezes(_):
        writes.append(1)
        return len(writes) == write

    one = digest(office, Frozen(post, {"send"}, freezes, meanwhile))
    office.log.send([report(3, 0), report(4, 1)])
    other.close()
    other = digest(office, post)
    office.clock.now_ms += DAY_MS
    one._member.subscription = Frozen(one._member.subscription, {"commit"}, freezes, meanwhile)
    one.step()
    assert post.told() == {1: 1, 2: 1, 3: 1, 4: 1}
    assert states(office)[-3:] == states_then
    office.log.send([report(5, 0)])
    office.clock.now_ms += DAY_MS
    for _ in range(3):
        one.step()
        other.step()
    assert post.told() == dict.fromkeys(range(1, 6), 1)
    assert states(office)[-1] == "sent"
    one.close()
    other.close()


def shared_mail(stream, state):
    mail = Mail("digest-x", state, stream.clock.now_ms, {0: 1, 1: 1})
    stream.log.send([Record("mails", b"digest-x", msgspec.json.encode(mail))])


def test_a_mail_that_was_due_when_its_partitions_parted_is_sent_in_parts(office):
    """Who has the partitions again later neither sends a report twice nor moves a commit back."""
    shared_mail(office, "due")
    post = Post()
    job = digest(office, post)
    job._follow(0.0)
    job._member.handle([Revoked(1)])
    job.step()
    office.log.send([report(3, 0)])
    office.clock.now_ms += DAY_MS
    job.step()
    assert post.told() == {1: 1, 3: 1}
    job._member.handle([Assigned(1, None, 0, 1)])
    job.step()
    job.step()
    assert post.told() == {1: 1, 2: 1, 3: 1}
    assert office.log.committed("digest", "reports") == {0: Commit(2), 1: Commit(1)}
    job.close()


def test_a_mail_that_was_being_sent_when_its_partitions_parted_is_waited_for(office):
    """It may have gone out, so nobody sends its reports in another; who has all its partitions settles it."""
    shared_mail(office, "sending")
    post = Post()
    job = digest(office, post)
    job._follow(0.0)
    job._member.handle([Revoked(1)])
    assert job.step() == []
    job._member.handle([Assigned(1, None, 0, 1)])
    assert job.step() == []
    assert states(office) == ["sending", "unknown"]
    office.log.send([report(3, 0)])
    office.clock.now_ms += DAY_MS
    job.step()
    assert post.told() == {3: 1}
    job.close()
