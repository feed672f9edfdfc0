"""DQN on the stream with rewards over several steps and prioritised replay: resumed and retrained to the bit."""

import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from stream import CONFIG, open_stream
from test_learn import Killed, Mortal, outcome

from headrace.learners.checkpoint import weights_hash
from headrace.pipelines.fleet import cloud_task
from headrace.pipelines.retrain import retrain
from headrace.sinks.cache_memory import MemoryCache
from headrace.sinks.cached_index import CachedChunks

torch.set_num_threads(1)

CONFIGS = {
    "n-step": replace(CONFIG, n_step=3),
    "prioritised": replace(CONFIG, priority=0.6),
    "both": replace(CONFIG, n_step=3, priority=0.6),
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A stream with nine windows ingested, and nothing learned yet."""
    folder = tmp_path_factory.mktemp("recorded")
    stream = open_stream(folder)
    fleet = stream.fleet(seed=3)
    for _ in range(9):
        fleet.emit_window(stream.advance)
    stream.ingest()
    stream.close()
    return folder


@pytest.fixture(scope="module")
def undisturbed(recorded, tmp_path_factory):
    """What comes out where nobody is killed, by configuration."""

    def learned(config):
        folder = tmp_path_factory.mktemp("undisturbed") / "stream"
        shutil.copytree(recorded, folder)
        stream = open_stream(folder)
        stream.learn(config=config)
        found = outcome(stream), weights_hash(stream.store.load("cloud"))
        stream.close()
        return found

    return {name: learned(config) for name, config in {"plain": CONFIG, **CONFIGS}.items()}


@pytest.fixture
def stream(recorded, tmp_path):
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    opened = open_stream(tmp_path)
    yield opened
    opened.close()


def test_each_learns_otherwise(undisturbed):
    """The settings take effect."""
    assert len({tuple(weights) for (_, weights, _), _ in undisturbed.values()}) == len(undisturbed)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", range(2))
def test_kill_and_resume(undisturbed, stream, name, seed):
    """Whatever write it dies at, the same versions, weights, priorities and records come out."""
    rng, kills = random.Random(seed), 0
    while True:
        chance = 0.25 if kills < 12 else 0.0
        job = stream.learner(store=Mortal(stream.store, rng, chance), config=CONFIGS[name])
        job._subscription = Mortal(job._subscription, rng, chance)
        try:
            while True:
                for item in job.poll():
                    for tick in job.learn(item):
                        job.commit([tick])
        except StopIteration:
            break
        except Killed:
            kills += 1
        finally:
            job.close()
    assert kills
    assert (outcome(stream), weights_hash(stream.store.load("cloud"))) == undisturbed[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_version_is_retrained_to_the_same_weights(stream, name):
    """Learned with stops, after which the rows are read again: before replay was full and after."""
    behind = True
    while behind:
        job = stream.learner(config=CONFIGS[name])
        for item in [item for _ in range(4) for item in job.poll()]:
            job.learn(item)
        behind = job._behind()
        job.stop.finished = True
        job.commit([None])
        job.close()
    assert job.learners["cloud"].training.counts.rows > CONFIG.replay_capacity
    versions = stream.store.versions("cloud")
    assert len(versions) >= 4
    chunks = CachedChunks(stream.index, MemoryCache(0))
    for version in versions:
        assert retrain(stream.store, chunks, "cloud", cloud_task(), version.version).equal


def test_replay_holds_what_the_settings_say(stream):
    """Rewards of three steps, shorter where an episode ends; priorities that differ, and are those of the rows."""
    training = stream.learn(config=CONFIGS["both"]).learners["cloud"].training
    rows = training.replay.take(np.arange(len(training.replay)))
    assert set(rows.steps.tolist()) == {1, 2, 3}
    assert (rows.steps == 3).mean() > 0.95
    weights, greatest = training._prioritised.priorities()
    assert len(weights) == len(training.replay)
    assert len(np.unique(weights)) > 100
    assert greatest >= weights.max() ** (1 / 0.6) - 1e-9
