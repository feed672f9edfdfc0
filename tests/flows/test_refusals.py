"""Candidates that the gate goes on refusing: learning goes back to what serves, and is retrained to the bit."""

import shutil
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from stream import CONFIG, SETTINGS, learn_with_kills, open_stream, outcome, uncached

from headrace.learners.advice.ledger import Ledger
from headrace.learners.advice.refusals import carefully, over
from headrace.learners.checkpoint import unpack
from headrace.learners.judge import gate
from headrace.learners.ppo import PPOConfig
from headrace.pipelines.fleet.job import cloud_task
from headrace.pipelines.learn.metrics import METRICS
from headrace.pipelines.policies.learning import refusals_told
from headrace.pipelines.policies.retrain import retrain
from headrace.pipelines.published import directives
from headrace.schemas.records import PolicyVersion

GATED = replace(SETTINGS, gate="simulator", candidate_rows=700, checkpoint_rows=500, refusals=2, rollout_rows=350)
PPO = PPOConfig(hidden=(16,), critic_hidden=(16,), minibatch_size=128, normaliser_rows=10**6, importance_max=5.0)
LEARNED = {"dqn": {"config": CONFIG, "settings": GATED}, "ppo": {"config": PPO, "settings": GATED}}


@pytest.fixture(scope="module", autouse=True)
def _only_the_first_passes():
    """The gate as it is, but for its verdict: the first candidate is let through, no other."""

    def judge(pairs, opponent, alpha, margin):
        return replace(gate.judge(pairs, opponent, alpha, margin), accepted=opponent == "floor")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("headrace.learners.judge.trial.judge", judge)
        yield


@pytest.fixture(scope="module", params=LEARNED)
def learned(request, recorded, tmp_path_factory):
    """A stream that was learned from by an algorithm, and that learner's job."""
    folder = tmp_path_factory.mktemp("learned") / "stream"
    stream = open_stream(shutil.copytree(recorded, folder))
    job = stream.learn(**LEARNED[request.param])
    yield request.param, stream, job
    stream.close()


def test_every_second_refusal_goes_back_to_what_serves(learned):
    """Said by the versions, the metric and the sentence; versions are retrained to the same weights."""
    _, stream, job = learned
    versions = stream.store.versions("cloud")
    assert len(versions) >= 7
    assert [v.version for v in versions if v.promoted] == [1]
    assert [v.refusals for v in versions] == list(range(len(versions)))
    went_back = [v.version for v in versions if v.went_back_to is not None]
    assert went_back == [v.version for v in versions if v.version > 3 and v.version % 2 == 0]
    assert {v.went_back_to for v in versions} == {None, 1}
    for version in versions[3::4]:
        assert retrain(stream.store, uncached(stream), "cloud", cloud_task(), version.version).equal
    assert refusals_told(versions) == (
        f"{len(versions) - 1} candidates in a row were not better; learning went on from the weights of cloud@1"
    )
    told = {metric.name: metric.read(job) for metric in METRICS}
    assert told["headrace_learn_refusals"] == {("cloud",): len(versions) - 1}


def test_without_what_was_gone_back_to_it_is_retrained_to_other_weights(learned):
    """The comparison can fail: the record's field is what makes it equal."""
    _, stream, _ = learned

    class Forgetful:
        def versions(self, task):
            return [msgspec.structs.replace(version, went_back_to=None) for version in stream.store.versions(task)]

    assert not retrain(Forgetful(), uncached(stream), "cloud", cloud_task(), 4).equal


def test_killed_it_goes_back_at_the_same_places(learned, stream):
    """Whatever write it dies at; to the same weights."""
    name, undisturbed, _ = learned
    assert learn_with_kills(stream, 1, 12, **LEARNED[name])
    assert outcome(stream) == outcome(undisturbed)


def test_what_is_gone_back_to_acts_alike_and_has_no_momentum(learned):
    """The policy is the version's to the bit, its normaliser too; learning goes on from it. A critic says what it said.

    Though its inputs are normalised as the version's are.
    """
    name, stream, job = learned
    training = job.learners["cloud"].training
    arrays, _ = unpack(stream.store.weights("cloud", 1))
    assert any((arrays[key] != value).any() for key, value in training.policy_arrays().items())
    rows, updates = training.counts.rows, training.updates
    obs = np.random.default_rng(0).normal(size=(50, 32)).astype(np.float32)

    def values():
        moments = training.state.inputs
        return training.state.critic.outputs(((obs - moments.mean) / moments.scale).astype(np.float32))

    before = values() if name == "ppo" else None
    training.go_back(arrays)
    for key, value in training.policy_arrays().items():
        np.testing.assert_array_equal(value, arrays[key])
    assert (training.counts.rows, training.updates) == (rows, updates)
    net = training.state.policy if name == "ppo" else training.state
    assert not net.first_moment.any()
    if before is not None:
        np.testing.assert_allclose(values(), before, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"of another net: observation\.mean"):
        training.go_back({**arrays, "observation.mean": np.zeros(3)})


def test_where_it_fails_again_it_learns_slower_and_explores_more(learned):
    """From the second time on, down to an eighth; as directives that people can undo, and agents follow."""
    name, stream, _ = learned
    versions = stream.store.versions("cloud")
    rates = [version.config["learning_rate"] for version in versions]
    expected = [1e-3] * 5 + [5e-4] * 2 + [2.5e-4] * 2 + [1.25e-4] * len(versions)
    assert rates == pytest.approx(expected[: len(rates)])
    records = directives(stream.log, "cloud")
    assert {one.proposed_by for one in records} == {"learn"}
    wider = [one.value for one in records if one.change == "epsilon_end"]
    assert wider == ([0.1] if name == "dqn" else [])


def test_what_was_changed_is_undone_once_a_candidate_is_promoted():
    """Also where people have let a version serve meanwhile: it is the gate's own promotion that ends it."""
    version = PolicyVersion("t", 5, 4, "dqn", {}, 0, "", "", 0, 0, [], {}, None, False, "", refusals=4)
    ledger, records = carefully(Ledger.begin({"learning_rate": 1e-3, "epsilon_end": 0.05}), version, 0)
    assert ledger.config() == {"learning_rate": 5e-4, "epsilon_end": 0.1}
    assert {one.directive_id for one in records} == over(ledger).keys() == {"t.5.4", "t.5.5"}
    assert ledger.without([*over(ledger)]).config() == {"learning_rate": 1e-3, "epsilon_end": 0.05}
    for number in range(6, 12):
        ledger, records = carefully(ledger, msgspec.structs.replace(version, version=number), 0)
    assert ledger.config() == {"learning_rate": 1.25e-4, "epsilon_end": 0.1}
    assert not records
