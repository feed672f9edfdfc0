"""learn: killed at any write and started again, it goes on to the same weights and says each thing once."""

import dataclasses
import re
import sqlite3

import msgspec
import numpy as np
import pytest
from stream import SETTINGS, learn_on, learn_with_kills, outcome, through, uncached, undisturbed

from headrace.pipelines.fleet.job import START_MS, cloud_task
from headrace.pipelines.learn.job import dataflow
from headrace.pipelines.policies.retrain import retrain
from headrace.pipelines.runtime.flow import run
from headrace.pipelines.runtime.retry import retried
from headrace.pipelines.tasks import add_task
from headrace.schemas.errors import CommitConflictError, CorruptDataError, MissingChunkError, UnavailableError
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import Assigned, Commit, Record


def test_versions_name_their_lineage_and_promotions_are_told(stream):
    """Each version holds parent, config, seed and the references it learned from; promotions reach `policies`."""
    stream.learn()
    versions, weights, decided, _ = outcome(stream)
    assert [v.version for v in versions] == [1, 2, 3, 4]
    assert [v.parent for v in versions] == [None, 1, 2, 3]
    assert decided == [1, 2, 3, 4]
    assert weights == [v.weights_hash for v in versions]
    assert len(set(weights)) == 4
    rows = 0
    for version in versions:
        rows += sum(reference.rows for reference in version.references)
        assert rows == version.environment_steps
    batches = stream.chunks.transitions(versions[0].references)
    assert sum(map(len, batches)) == versions[0].environment_steps


@pytest.mark.parametrize("seed", range(6))
def test_kill_and_resume(recorded, stream, tmp_path, seed):
    """Whatever write it dies at, the same versions, weights and records come out."""
    expected = undisturbed(recorded, tmp_path / "undisturbed")
    assert learn_with_kills(stream, seed, 12)
    assert outcome(stream) == expected


def test_without_a_simulator_nothing_is_promoted_unasked(stream, monkeypatch):
    """Where there is no gate to pass, versions are stored and none serves."""
    monkeypatch.setattr("headrace.pipelines.learn.promotion.task_simulator", lambda *_: None)
    stream.learn(settings=dataclasses.replace(SETTINGS, gate="simulator"))
    versions, _, decided, _ = outcome(stream)
    assert versions
    assert not any(v.promoted for v in versions)
    assert decided == []
    assert versions[0].reason == "no simulator to judge it by"


def test_by_data_a_killed_learner_comes_to_the_same_verdicts(stream, monkeypatch, tmp_path, recorded):
    """Where there is no simulator the rows that came judge, and the version says which they were."""
    monkeypatch.setattr("headrace.learners.judge.data.NEEDED_ROWS", 200)
    monkeypatch.setattr("headrace.learners.judge.ope.FEATURE_MAPS", 1)
    settings = dataclasses.replace(SETTINGS, gate="data")
    expected = undisturbed(recorded, tmp_path / "undisturbed", settings=settings)
    assert learn_with_kills(stream, 1, 4, settings=settings)
    found = outcome(stream)
    assert found == expected
    for version in found[0]:
        assert "by fitted Q evaluation" in version.reason
        opponent = "serving" if found[2] and version.version > found[2][0] else "agents"
        assert version.evaluation.keys() == {"policy", opponent}
        assert version.by_data.rows >= 1_500
        assert version.by_data.effective_rows >= 200
        assert version.promoted == (version.difference.low > 0)


def test_a_lost_checkpoint_is_learned_again(stream):
    """As the error of a damaged one says: moved away, the task starts from the first window, under new numbers."""
    stream.learn()
    before, *_ = outcome(stream)
    checkpoint = stream.folder / "policies" / "cloud" / "checkpoint"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptDataError, match="checkpoint"):
        stream.learn()
    checkpoint.unlink()
    stream.learn()
    versions, weights, *_ = outcome(stream)
    assert [v.version for v in versions] == list(range(1, len(versions) + 1))
    assert len(versions) >= 2 * len(before)
    # The same rows, the same seed, the same weights: only the numbers are new.
    assert weights[len(before) : 2 * len(before)] == weights[: len(before)]


def test_a_partition_that_comes_back_is_learned_from_its_checkpoint(stream):
    """What another process learned in between is not overwritten by what this one remembers."""
    first = stream.learner()
    first.poll()
    for item in [item for _ in range(3) for item in first.poll()]:
        through(first, item)
    (partition,) = first.roster._partition.values()
    begun = first.learners["cloud"].training.counts.rows
    stream.learn()
    first.roster.close(partition)
    assert first.learners == {}
    place = partition_of(b"cloud", 2)
    begin, end = stream.log.bounds("windows", place)
    first._open(Assigned(place, stream.log.committed("learn", "windows").get(place), begin, end))
    assert first.roster.learner("cloud", place).training.counts.rows > begun
    first.close()


def test_what_is_no_window_is_passed_over(stream):
    """Tombstones and strangers' messages on `windows` do not stop the learner."""
    partition = partition_of(b"cloud", 2)
    stream.log.send([Record("windows", b"k", value, partition=partition) for value in (None, b"{}", b"\xff")])
    stream.learn()
    assert outcome(stream)[0]


def test_absurd_rewards_do_not_stop_the_learning(stream):
    """They count as merely far off: no update diverges, and the weights stay finite."""
    fleet = stream.fleet(seed=9, start_ms=START_MS + 100 * 3_000_000)
    episode = fleet._episode

    def absurd():
        batch, returns = episode()
        reward = batch.reward.copy()
        reward[::7] = 1e30
        return dataclasses.replace(batch, reward=reward), returns

    fleet._episode = absurd
    fleet.emit_window(stream.advance)
    stream.ingest()
    job = stream.learn()
    training = job.learners["cloud"].training
    assert training.updates > 0
    assert training.counts.skipped_updates == 0
    assert np.isfinite(training.state.parameters.numpy()).all()


def test_a_learner_that_was_overtaken_saves_nothing(stream):
    """It wakes up after another has gone on: its older checkpoint does not replace the newer one."""
    stale = stream.learner()
    stale.poll()
    for item in [item for _ in range(4) for item in stale.poll()]:
        through(stale, item)
    stream.learn()
    newer = stream.store.load("cloud")
    stale.commit([None])
    stale.close()
    assert stream.store.load("cloud") == newer


def test_a_run_with_nothing_new_remembers_who_has_a_checkpoint(stream):
    """The commit's metadata keeps the task's name, so that a lost checkpoint is noticed later."""
    stream.learn()
    stream.learn()
    metadata = {commit.metadata for commit in stream.log.committed("learn", "windows").values()}
    end = stream.log.bounds("windows", partition_of(b"cloud", 2))[1]
    assert metadata == {"{}", f'{{"cloud":{end}}}'}


def test_an_older_checkpoint_is_refused(stream, caplog):
    """As from a backup: by the commit; where that does not say, it is told of. --accept-gap goes on from it."""
    place = stream.folder / "policies" / "cloud" / "checkpoint"
    job = stream.learner()
    while not place.exists():
        learn_on(job)
    job.close()
    older = place.read_bytes()
    stream.learn()
    place.write_bytes(older)
    stream.fleet(seed=5, start_ms=START_MS + 9 * cloud_task().window_ms).emit_window(stream.advance)
    stream.ingest()
    with pytest.raises(CorruptDataError, match=r"older than what was learned.*--from-start.*--accept-gap"):
        stream.learn()
    rows = stream.learn(accept_gap=True).learners["cloud"].training.counts.rows
    assert "the windows between are not learned from" in caplog.text
    assert rows < 9 * 800
    place.write_bytes(older)
    partition = partition_of(b"cloud", 2)
    commit = stream.log.committed("learn", "windows")[partition]
    subscription = stream.log.subscribe("learn", "windows")
    subscription.poll(1, 0.0)
    subscription.commit({partition: Commit(commit.offset, '["cloud"]')})  # as an earlier headrace wrote it
    subscription.close()
    stream.fleet(seed=6, start_ms=START_MS + 10 * cloud_task().window_ms).emit_window(stream.advance)
    stream.ingest()
    stream.learn()
    assert re.search("may be older than what was learned.* tell of version [4-9] and offset unknown", caplog.text)


def test_killed_after_versions_that_made_no_checkpoint_due_it_goes_on_to_the_same(
    stream, recorded, tmp_path, monkeypatch
):
    """As where the gate refuses one candidate after another: several are stored beyond the checkpoint."""
    monkeypatch.setattr("headrace.pipelines.learn.promotion.task_simulator", lambda *_: None)
    settings = dataclasses.replace(SETTINGS, gate="simulator", checkpoint_rows=4_000)
    expected = undisturbed(recorded, tmp_path / "undisturbed", settings=settings)
    job = stream.learner(settings=settings)
    while stream.store.load("cloud") is None:
        learn_on(job)
    saved = job.learners["cloud"].progress.version
    while len(stream.store.versions("cloud")) < saved + 2:
        for item in job.poll():
            through(job, item)
    job.close()  # killed, before the next commit
    stream.learn(settings=settings)
    assert outcome(stream) == expected


def test_more_tasks_than_a_commit_can_name_lose_no_checkpoint_unnoticed(stream):
    """Then each task of the partition without one is learned from the first window, as if it had been lost."""
    partition = partition_of(b"cloud", 2)
    candidates = [f"{'task' * 12}-{i}" for i in range(150)]
    names = [name for name in candidates if partition_of(name.encode(), 2) == partition]
    for name in names:
        add_task(stream.log, msgspec.structs.replace(cloud_task(), task=name))
    roster = stream.learner().roster
    few = dict.fromkeys(names[:52], 7)
    assert roster.open(partition, msgspec.json.encode(few).decode()) == (names[:52], 0)
    assert msgspec.json.decode(roster.metadata(partition)) == few
    roster.open(partition, msgspec.json.encode(dict.fromkeys(names, 7)).decode())
    metadata = roster.metadata(partition)
    assert len(metadata) < 4_000
    lost, offset = roster.open(partition, metadata)
    assert set(lost) == {*names, "cloud"}
    assert offset == 0
    stream.learn()
    lost, offset = stream.learner().roster.open(partition, metadata)
    assert set(lost) == set(names)


def test_a_chunk_that_is_missing_stops_it_or_is_passed_over(stream):
    """As --accept-gap says; what is learned without it can be retrained."""
    with sqlite3.connect(stream.folder / "index.db") as connection:
        (count,) = connection.execute("SELECT count(*) FROM chunks").fetchone()
        connection.execute("DELETE FROM chunks WHERE rowid = (SELECT min(rowid) FROM chunks)")
    with pytest.raises(MissingChunkError, match="--accept-gap"):
        stream.learn()
    job = stream.learn(accept_gap=True)
    assert sum(len(version.lineage) for version in stream.store.versions("cloud")) < count
    rows = job.learners["cloud"].training.counts.rows
    assert 0 < 9 * 800 - rows < 800
    for version in stream.store.versions("cloud"):
        assert retrain(stream.store, uncached(stream), "cloud", cloud_task(), version.version).equal


def test_joining_again_waits_for_a_broker_that_is_away(stream, recorded, tmp_path):
    """After a refused commit; every other call backs off too."""
    expected = undisturbed(recorded, tmp_path / "undisturbed")
    job = stream.learner()
    refuse, away = [True], [True]
    commit, subscribe = job._member.subscription.commit, stream.log.subscribe

    def refused(*arguments):
        if refuse and refuse.pop():
            raise CommitConflictError("overtaken")
        return commit(*arguments)

    def subscribed(*arguments):
        if away and away.pop():
            raise UnavailableError("the broker is away for a moment")
        return subscribe(*arguments)

    job._member.subscription.commit = refused
    job._member.log = retried(Overlaid(stream.log, subscribe=subscribed), job.stop)
    run(dataflow(job), job.stop)
    job.close()
    assert not away
    assert outcome(stream) == expected


class Overlaid:
    """Something, but for a few of its methods."""

    def __init__(self, real, **methods):
        self.__dict__.update(methods)
        self._real = real

    def __getattr__(self, name):
        return getattr(self._real, name)
