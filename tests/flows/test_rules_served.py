"""Rules from the command line's functions: found in indexed rows, judged, followed by agents, withdrawn."""

import msgspec
import numpy as np
import pytest
from stream import open_stream

from headrace.learners.acting import load_policy
from headrace.learners.explain.simulation import acting
from headrace.learners.rules.distil import fidelity
from headrace.learners.rules.document import read
from headrace.pipelines.fleet.job import cloud_task
from headrace.pipelines.policies.control import Control
from headrace.pipelines.policies.retrain import ancestry
from headrace.pipelines.policies.rules import History, Synthesiser, deploy, history, shown, withdraw
from headrace.pipelines.policies.rules_judged import judged
from headrace.pipelines.policies.train import Order, run_training
from headrace.pipelines.published import published
from headrace.schemas.errors import CorruptDataError, SettingsError, UnknownPolicyError
from headrace.schemas.records import Bounds, TaskSpec

SPEC = cloud_task()
TEXT = """\
# by hand
task cloud
if utilisation_t > 0.7 and pending_t <= 0.1 then +2
if utilisation_t <= 0.45 and ready_t > 0.2 then -1
otherwise 0
"""


@pytest.fixture
def stream(tmp_path):
    opened = open_stream(tmp_path)
    yield opened
    opened.close()


def control(stream):
    return Control(stream.log, stream.store, {"cloud": SPEC}, stream.clock, "ada")


def learn_one(stream):
    """Store a learned version, the first, and let it serve."""
    order = Order("dqn", "headrace/CloudService-v0", 0, 1_024, None)
    run_training(stream.store, order, lambda _: None, lambda _: None)
    return control(stream).promote("cloud", 1, "learned").weights_hash


def test_agents_follow_rules_that_are_then_found_in_what_they_did(stream):
    """They act by them to the letter, with certainty; found again, the rules earn as much."""
    fleet = stream.fleet()
    record = deploy(control(stream), SPEC, TEXT, "easier to explain", None)
    assert (record.version, record.decided_by, record.reason) == (1, "ada", "easier to explain")
    assert shown(stream.log, stream.store, "cloud", None) == TEXT
    for _ in range(2):
        fleet.emit_window(stream.advance)
    stream.ingest()
    rows = history(stream.index, SPEC, None, None)
    policy = load_policy(stream.store.weights("cloud", 1))
    assert len(rows.obs) > 500
    assert np.array_equal(rows.taken, acting(policy)(rows.obs))

    found = Synthesiser(stream.log, stream.store, SPEC, None).found(rows, 7, simulate=False)
    assert found.policy == "cloud@1"
    assert found.fidelity.rows == len(rows.obs) - rows.split
    assert found.fidelity.rules > 0.97 > found.fidelity.constant
    assert [size.rules for size in found.sizes] == [1, 2, 3]
    verdict = judged(stream.index, stream.store, SPEC, read(found.text, SPEC), None, None, 64)
    beside = {one.name: one for one in verdict.beside}
    assert abs(beside["policy"].difference.mean) < 1.5
    assert beside["policy"].gain is None
    assert beside["static"].mean_return + beside["static"].difference.mean == pytest.approx(verdict.mean_return)


def test_where_rules_are_refused_nothing_is_stored(stream):
    text = TEXT.replace("task cloud", "task cloud\npolicy cloud@3")
    with pytest.raises(UnknownPolicyError, match="no policy cloud@3: it has no versions"):
        deploy(control(stream), SPEC, text, "a slip", None)
    with pytest.raises(SettingsError, match="cloud@1 can't be tried by a share of the agents: nothing serves yet"):
        deploy(control(stream), SPEC, TEXT, "a trial", 0.25)
    assert stream.store.versions("cloud") == []
    deploy(control(stream), SPEC, TEXT, "by hand", None)
    with pytest.raises(UnknownPolicyError, match="no policy cloud@3: it has 1 to 1"):
        deploy(control(stream), SPEC, text, "a slip", None)


def test_without_a_policy_the_agents_own_decisions_are_told(stream):
    fleet = stream.fleet()
    fleet.emit_window(stream.advance)
    stream.ingest()
    rows = history(stream.index, SPEC, None, None)
    found = Synthesiser(stream.log, stream.store, SPEC, None).found(rows, 3, simulate=False)
    assert found.policy is None
    assert "\npolicy" not in found.text
    assert len(read(found.text, SPEC).rules) <= 3


def test_rules_are_tried_by_a_share_serve_and_are_withdrawn_for_what_served_before(stream):
    deciding = control(stream)
    weights = learn_one(stream)
    tried = deploy(deciding, SPEC, TEXT, "first", 0.25)
    assert (tried.version, tried.canary.version, tried.canary.share) == (1, 2, 0.25)
    deploy(deciding, SPEC, TEXT, "for all", None)
    deploy(deciding, SPEC, TEXT.replace("0.7", "0.8"), "second", None)
    with pytest.raises(CorruptDataError, match="cloud@4 is rules, which nothing trained"):
        ancestry(stream.store, "cloud", 4)
    record = withdraw(deciding, "cloud", "worse at night")
    assert (record.version, record.weights_hash, record.reason) == (1, weights, "worse at night")
    assert [one.version for one in published(stream.log, "cloud")] == [1, 1, 3, 4, 1]
    with pytest.raises(SettingsError, match="no rules serve cloud: cloud@1 does"):
        withdraw(deciding, "cloud", "again")
    with pytest.raises(UnknownPolicyError, match=r"cloud@1 is no rules but a policy: `headrace rules synthesise"):
        shown(stream.log, stream.store, "cloud", None)


def test_rules_are_not_withdrawn_for_other_rules(stream):
    deciding = control(stream)
    for number in (1, 2):
        assert deploy(deciding, SPEC, TEXT.replace("policy cloud@1\n", ""), "by hand", None).version == number
    with pytest.raises(SettingsError, match="no version of cloud served before its rules"):
        withdraw(deciding, "cloud", "worse at night")
    assert published(stream.log, "cloud")[-1].version == 2


def test_a_task_without_a_simulator_is_judged_by_its_rows(stream):
    fleet = stream.fleet()
    for _ in range(2):
        fleet.emit_window(stream.advance)
    stream.ingest()
    spec = msgspec.structs.replace(SPEC, environment=None)
    verdict = judged(stream.index, stream.store, spec, read(TEXT, spec), None, None, 64)
    assert verdict.mean_return is None
    assert "by fitted Q evaluation" in verdict.by_data or "can't be judged by data" in verdict.by_data


def test_rules_of_continuous_actions_are_told_by_the_variance_that_they_explain(stream):
    """Nobody does the very same continuous action: a share of equal rows would say nothing."""
    spec = TaskSpec("arm", ("angle", "speed"), Bounds((-1.0,), (1.0,)), 10_000)
    obs = np.random.default_rng(0).uniform(-1.0, 1.0, (2_000, 2)).astype(np.float32)
    done = np.clip(np.where(obs[:, :1] > 0.2, -0.7, 0.4) + 0.1 * obs[:, 1:], -1.0, 1.0).astype(np.float32)
    found = Synthesiser(stream.log, stream.store, spec, None).found(History(obs, done), 3, simulate=False)
    assert not found.fidelity.discrete
    assert 0.9 < found.fidelity.rules < 1.0
    assert abs(found.fidelity.constant) < 1e-6
    explained = f"{100 * found.fidelity.rules:.1f} % of the variance of what the agents did in 400 later rows explained"
    assert f"# The rules: {explained}.\n" in found.text
    assert len(read(found.text, spec).rules) == found.sizes[-1].rules
    record = deploy(control(stream), spec, found.text, "for people", None)
    policy = load_policy(stream.store.weights("arm", record.version))
    assert fidelity(done, acting(policy)(obs)) > 0.9


def test_what_can_t_be_done_is_told(stream):
    with pytest.raises(UnknownPolicyError, match="there is no policy cloud@4"):
        Synthesiser(stream.log, stream.store, SPEC, 4)
    worker, none = Synthesiser(stream.log, stream.store, SPEC, None), history(stream.index, SPEC, None, None)
    with pytest.raises(SettingsError, match="task cloud has no rows in this time"):
        worker.found(none, 7, simulate=False)
    with pytest.raises(SettingsError, match="no version of cloud serves"):
        worker.found(none, 7, simulate=True)
    with pytest.raises(UnknownPolicyError, match="no version of cloud serves"):
        shown(stream.log, stream.store, "cloud", None)
