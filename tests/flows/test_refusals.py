"""Candidates that the gate goes on refusing: learning goes back to what serves, and is retrained to the bit."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from stream import CONFIG, SETTINGS, learn_with_kills, outcome, uncached, undisturbed

from headrace.learners.checkpoint import unpack
from headrace.learners.judge import gate
from headrace.learners.ppo import PPOConfig
from headrace.pipelines.fleet.job import cloud_task
from headrace.pipelines.learn.metrics import METRICS
from headrace.pipelines.policies.learning import refusals_told
from headrace.pipelines.policies.retrain import retrain
from headrace.pipelines.published import directives

GATED = replace(SETTINGS, gate="simulator", candidate_rows=700, checkpoint_rows=500, refusals=2, rollout_rows=350)
PPO = PPOConfig(hidden=(16,), critic_hidden=(16,), minibatch_size=128, normaliser_rows=10**6, importance_max=5.0)
LEARNED = {"dqn": {"config": CONFIG, "settings": GATED}, "ppo": {"config": PPO, "settings": GATED}}


@pytest.fixture(autouse=True)
def _only_the_first_passes(monkeypatch):
    """The gate as it is, but for its verdict: the first candidate is let through, no other."""

    def judge(pairs, opponent, alpha, margin):
        return dataclasses.replace(gate.judge(pairs, opponent, alpha, margin), accepted=opponent == "floor")

    monkeypatch.setattr("headrace.learners.judge.trial.judge", judge)


@pytest.mark.parametrize("name", LEARNED)
def test_every_second_refusal_goes_back_to_what_serves(stream, name):
    """Said by the versions, the metric and the sentence; each version is retrained to the same weights."""
    job = stream.learn(**LEARNED[name])
    versions = stream.store.versions("cloud")
    assert len(versions) >= 7
    assert [v.version for v in versions if v.promoted] == [1]
    assert [v.refusals for v in versions] == list(range(len(versions)))
    went_back = [v.version for v in versions if v.went_back_to is not None]
    assert went_back == [v.version for v in versions if v.version > 3 and v.version % 2 == 0]
    assert {v.went_back_to for v in versions} == {None, 1}
    for version in versions:
        assert retrain(stream.store, uncached(stream), "cloud", cloud_task(), version.version).equal
    assert refusals_told(versions) == (
        f"{len(versions) - 1} candidates in a row were not better; learning went on from the weights of cloud@1"
    )
    told = {metric.name: metric.read(job) for metric in METRICS}
    assert told["headrace_learn_refusals"] == {("cloud",): len(versions) - 1}


@pytest.mark.parametrize("name", LEARNED)
def test_without_what_was_gone_back_to_it_is_retrained_to_other_weights(stream, name):
    """The comparison can fail: the record's field is what makes it equal."""
    stream.learn(**LEARNED[name])

    class Forgetful:
        def versions(self, task):
            return [_without(version) for version in stream.store.versions(task)]

    newest = stream.store.versions("cloud")[-1].version
    assert not retrain(Forgetful(), uncached(stream), "cloud", cloud_task(), newest).equal


def _without(version):
    return version.__class__(**{**{f: getattr(version, f) for f in version.__struct_fields__}, "went_back_to": None})


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", LEARNED)
def test_kill_and_resume(recorded, stream, tmp_path, name, seed):
    """Whatever write it dies at, it goes back at the same places, to the same weights."""
    expected = undisturbed(recorded, tmp_path / "undisturbed", **LEARNED[name])
    assert learn_with_kills(stream, seed, 12, **LEARNED[name])
    assert outcome(stream) == expected


@pytest.mark.parametrize("name", LEARNED)
def test_what_is_gone_back_to_acts_alike_and_has_no_momentum(stream, name):
    """The policy is the version's to the bit, its normaliser too; learning goes on from it."""
    training = stream.learn(**LEARNED[name]).learners["cloud"].training
    arrays, _ = unpack(stream.store.weights("cloud", 1))
    assert any((arrays[key] != value).any() for key, value in training.policy_arrays().items())
    rows, updates = training.counts.rows, training.updates
    training.go_back(arrays)
    for key, value in training.policy_arrays().items():
        np.testing.assert_array_equal(value, arrays[key])
    assert (training.counts.rows, training.updates) == (rows, updates)
    net = training.state.policy if name == "ppo" else training.state
    assert not net.first_moment.any()
    with pytest.raises(ValueError, match=r"of another net: observation\.mean"):
        training.go_back({**arrays, "observation.mean": np.zeros(3)})


def test_a_critic_says_what_it_said_before(stream):
    """Though its inputs are normalised as the version's are."""
    training = stream.learn(**LEARNED["ppo"]).learners["cloud"].training
    arrays, _ = unpack(stream.store.weights("cloud", 1))
    obs = np.random.default_rng(0).normal(size=(50, 32)).astype(np.float32)

    def values():
        moments = training.state.inputs
        return training.state.critic.outputs(((obs - moments.mean) / moments.scale).astype(np.float32))

    before, mean = values(), training.state.inputs.mean
    training.go_back(arrays)
    assert (training.state.inputs.mean != mean).any()
    np.testing.assert_allclose(values(), before, rtol=1e-3, atol=1e-4)


def test_where_it_fails_again_it_learns_slower_and_explores_more(stream):
    """From the second time on, down to an eighth; as directives that people can undo, and agents follow."""
    stream.learn(**LEARNED["dqn"])
    versions = stream.store.versions("cloud")
    rates = [version.config["learning_rate"] for version in versions]
    expected = [1e-3] * 5 + [5e-4] * 2 + [2.5e-4] * 2 + [1.25e-4] * len(versions)
    assert rates == pytest.approx(expected[: len(rates)])
    records = directives(stream.log, "cloud")
    assert {one.proposed_by for one in records} == {"learn"}
    assert [(o.change, o.version, o.value, o.verdict) for o in records[:2]] == [
        ("learning_rate", 5, 5e-4, "accepted"),
        ("epsilon_end", 5, 0.1, "accepted"),
    ]


def test_without_a_limit_it_never_goes_back(stream):
    """As `refusals` 0 says."""
    stream.learn(config=CONFIG, settings=replace(GATED, refusals=0))
    assert {v.went_back_to for v in stream.store.versions("cloud")} == {None}
