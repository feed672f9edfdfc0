"""A canary ends by itself: learn judges it by what its agents earn, and says so once."""

import dataclasses
import shutil

import numpy as np
import pytest
from stream import learn_with_kills, open_stream

from headrace.pipelines.fleet.job import START_MS, cloud_task
from headrace.pipelines.learn.metrics import METRICS
from headrace.pipelines.policies.control import Control
from headrace.pipelines.published import published


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A folder in which learn has come to a few versions, the newest of which serves."""
    stream = open_stream(tmp_path_factory.mktemp("canary") / "stream")
    emit(stream, 0, 5)
    stream.learn()
    stream.close()
    return stream.folder


@pytest.fixture
def stream(learned, tmp_path):
    shutil.copytree(learned, tmp_path / "stream")
    opened = open_stream(tmp_path / "stream")
    opened.advance(START_MS + 9 * cloud_task().window_ms)
    yield opened
    opened.close()


def emit(stream, first, windows, gains=None):
    """Let the fleet act, and ingest it. gains: of each row what it earns, by the version that acted."""
    fleet = stream.fleet(seed=first, start_ms=START_MS + first * cloud_task().window_ms)
    episode, noise = fleet._episode, np.random.default_rng(first)

    def changed():
        batch, returns = episode()
        reward = np.array([gains[version] for version in batch.policy_version.tolist()]) + noise.normal(size=len(batch))
        return dataclasses.replace(batch, reward=reward.astype(np.float32)), returns

    if gains:
        fleet._episode = changed
    for _ in range(windows):
        fleet.emit_window(stream.advance)
        stream.ingest()  # at once, so that windows of all agents close in turn


def begin(stream, **options):
    """Let half of the agents try the version before the one that serves; return both numbers."""
    serves = published(stream.log, "cloud")[-1].version
    control(stream).canary("cloud", serves - 1, 0.5, "is it as good?", **options)
    return serves - 1, serves


def control(stream):
    return Control(stream.log, stream.store, {"cloud": cloud_task()}, stream.clock, "ada")


@pytest.mark.parametrize(
    ("gain", "options", "promoted", "words"),
    [
        (-9.0, {"promote": True}, False, "is worse than"),
        (9.0, {"promote": True}, True, "is better than"),
        (9.0, {}, False, "lets it serve all"),
        (0.0, {"windows": 2, "promote": True}, False, "is not shown to differ from"),
    ],
)
def test_a_canary_is_ended_by_what_its_agents_earn(stream, gain, options, promoted, words):
    """Then learn promotes again, judged from the window on in which the record fell."""
    tried, served = begin(stream, **options)
    began = len(published(stream.log, "cloud"))
    emit(stream, 10, 8, {tried: gain, served: 0.0})
    stream.learn()
    record, *later = published(stream.log, "cloud")[began:]
    assert (record.version, record.decided_by, record.canary) == (tried if promoted else served, "canary", None)
    assert words in record.reason
    assert all(one.decided_by == "settings" for one in later)
    assert later


def test_killed_anywhere_it_is_ended_once_by_the_same_figures(stream, tmp_path):
    tried, served = begin(stream, promote=True)
    emit(stream, 10, 8, {tried: -9.0, served: 0.0})
    shutil.copytree(stream.folder, tmp_path / "undisturbed")
    other = open_stream(tmp_path / "undisturbed")
    other.advance(stream.clock())
    other.learn()
    expected = published(other.log, "cloud")
    other.close()
    assert learn_with_kills(stream, 3, 8)
    assert published(stream.log, "cloud") == expected
    assert [one.decided_by for one in expected].count("canary") == 1


def test_what_a_person_decides_stands(stream):
    """It is ended by hand while learn is down: what its agents earned meanwhile decides nothing."""
    tried, served = begin(stream, promote=True)
    emit(stream, 10, 3, {tried: 9.0, served: 0.0})
    decided = control(stream).hold("cloud", "an incident", held=True)
    emit(stream, 20, 5)
    stream.learn()
    assert published(stream.log, "cloud")[-1] == decided


def test_a_canary_that_goes_on_is_measured(stream):
    tried, served = begin(stream)
    emit(stream, 10, 4, {tried: 0.2, served: 0.0})
    job = stream.learn()
    told = {metric.name: metric.read(job) for metric in METRICS}["headrace_learn_canary_difference"]
    assert told[("cloud",)] == job.learners["cloud"].meters.canary.look.difference
    assert published(stream.log, "cloud")[-1].canary.version == tried
