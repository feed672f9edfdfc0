"""DQN on the stream with rewards over several steps and prioritised replay: resumed and retrained to the bit."""

from dataclasses import replace

import numpy as np
import pytest
from stream import CONFIG, learn_with_kills, outcome, through, uncached, undisturbed

from headrace.pipelines.fleet.job import cloud_task
from headrace.pipelines.policies.retrain import retrain

CONFIGS = {
    "n-step": replace(CONFIG, n_step=3),
    "prioritised": replace(CONFIG, priority=0.6),
    "both": replace(CONFIG, n_step=3, priority=0.6),
}


@pytest.fixture(scope="module")
def expected(recorded, tmp_path_factory):
    """What comes out where nobody is killed, by configuration."""
    configs = {"plain": CONFIG, **CONFIGS}
    folder = tmp_path_factory.mktemp("undisturbed")
    return {name: undisturbed(recorded, folder / name, config=config) for name, config in configs.items()}


def test_each_learns_otherwise(expected):
    """The settings take effect."""
    assert len({tuple(weights) for _, weights, _, _ in expected.values()}) == len(expected)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", range(2))
def test_kill_and_resume(expected, stream, name, seed):
    """Whatever write it dies at, the same versions, weights, priorities and records come out."""
    assert learn_with_kills(stream, seed, 12, config=CONFIGS[name])
    assert outcome(stream) == expected[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_version_is_retrained_to_the_same_weights(stream, name):
    """Learned with stops, after which the rows are read again: before replay was full and after."""
    behind = True
    while behind:
        job = stream.learner(config=CONFIGS[name])
        for item in [item for _ in range(4) for item in job.poll()]:
            through(job, item)
        behind = bool(job._member.lag)
        job.stop.finished = True
        job.commit([None])
        job.close()
    assert job.learners["cloud"].training.counts.rows > CONFIG.replay_capacity
    versions = stream.store.versions("cloud")
    assert len(versions) >= 4
    chunks = uncached(stream)
    for version in versions:
        assert retrain(stream.store, chunks, "cloud", cloud_task(), version.version).equal


def test_replay_holds_what_the_settings_say(stream):
    """Rewards of three steps, shorter where an episode ends; priorities that differ, and are those of the rows."""
    training = stream.learn(config=CONFIGS["both"]).learners["cloud"].training
    memory = training.memory
    rows = memory.buffer.take(np.arange(len(memory.buffer)))
    assert set(rows.steps.tolist()) == {1, 2, 3}
    assert (rows.steps == 3).mean() > 0.95
    weights, greatest = memory.prioritised.priorities()
    assert len(weights) == len(memory.buffer)
    assert len(np.unique(weights)) > 100
    assert greatest >= weights.max() ** (1 / 0.6) - 1e-9
