"""What people decide about policies, and how `learn` and the agents follow."""

import dataclasses
from contextlib import suppress

import msgspec
import numpy as np
import pytest
from stream import SETTINGS, learn_on, open_stream, through

from headrace.learners.acting import Policy, load_policy
from headrace.learners.checkpoint import pack, weights_hash
from headrace.learners.stream.exploring import Exploration
from headrace.pipelines.fleet.job import START_MS, cloud_task
from headrace.pipelines.policies.control import Control, compare, find
from headrace.pipelines.policies.observed import observed
from headrace.pipelines.policies.train import Order, run_training
from headrace.pipelines.published import published
from headrace.pipelines.topics import POLICIES
from headrace.schemas.canary import Canary, in_share
from headrace.schemas.errors import SettingsError, UnknownPolicyError
from headrace.schemas.policy_versions import acts_by
from headrace.schemas.ports import Record
from headrace.schemas.records import Interval, PolicyVersion

WINDOW_MS = cloud_task().window_ms


@pytest.fixture
def stream(tmp_path):
    opened = open_stream(tmp_path)
    yield opened
    opened.close()


def go_on(stream, windows, first, **options):
    fleet = stream.fleet(seed=first, start_ms=START_MS + first * WINDOW_MS)
    for _ in range(windows):
        fleet.emit_window(stream.advance)
    stream.ingest()
    stream.learn(**options)
    return fleet


def control(stream):
    return Control(stream.log, stream.store, {"cloud": cloud_task()}, stream.clock, "ada")


def test_hold_freezes_promotion_until_it_is_released(stream):
    """It may come before anything serves; candidates are judged and stored all the same."""
    record = control(stream).hold("cloud", "until the audit", held=True)
    assert (record.version, record.held, record.decided_by, record.reason) == (0, True, "ada", "until the audit")
    fleet = go_on(stream, 5, first=0)
    versions = stream.store.versions("cloud")
    assert len(versions) >= 2
    assert not any(version.promoted for version in versions)
    assert "on hold by ada (until the audit)" in versions[0].reason
    fleet.actor.refresh_policy()
    assert fleet.version == -1
    control(stream).hold("cloud", "audited", held=False)
    go_on(stream, 5, first=10)
    later = stream.store.versions("cloud")[len(versions) :]
    assert later
    assert all(version.promoted for version in later)
    assert published(stream.log, "cloud")[-1].version == later[-1].version


def test_a_hold_stands_above_what_was_decided_before_it_and_not_yet_sent(stream):
    """Two candidates fall due between two commits; the hold comes between them."""
    fleet = stream.fleet(seed=0)
    for _ in range(9):
        fleet.emit_window(stream.advance)
    stream.ingest()
    job = stream.learner(settings=dataclasses.replace(SETTINGS, checkpoint_rows=10**9))
    held, versions = None, []
    while len(versions) < 2:
        for item in job.poll():
            through(job, item)
            versions = stream.store.versions("cloud")
            if versions and held is None:
                held = control(stream).hold("cloud", "audit", held=True)
    assert versions[0].promoted
    job.commit([None])
    job.close()
    assert published(stream.log, "cloud") == [held]
    assert not stream.store.versions("cloud")[1].promoted


def test_a_rollback_while_learn_is_down_stands_above_what_it_had_pending(stream):
    """Killed between its checkpoint and its commit, learn does not announce its version over a person's decision."""
    go_on(stream, 5, first=0)
    fleet = stream.fleet(seed=7, start_ms=START_MS + 10 * WINDOW_MS)
    for _ in range(4):
        fleet.emit_window(stream.advance)
    stream.ingest()
    job = stream.learner()
    before = len(stream.store.versions("cloud"))
    while len(stream.store.versions("cloud")) == before:
        for item in job.poll():
            through(job, item)
    for learner in job.learners.values():
        assert learner.progress.pending
        learner.save()
    job.close()  # killed
    decided = control(stream).rollback("cloud", "it was too slow", 1, hold=True)
    stream.learn()
    assert published(stream.log, "cloud")[-1] == decided


class Interrupted:
    """A policy store during whose saves or reads something else happens, once."""

    def __init__(self, real, name, meanwhile):
        self.real, self.name, self.meanwhile = real, name, meanwhile

    def __getattr__(self, name):
        if name == self.name and self.meanwhile and self.meanwhile():
            self.meanwhile = None
        return getattr(self.real, name)


@pytest.mark.parametrize("killed", [False, True])
def test_a_hold_that_comes_while_learn_announces_a_version_is_not_undone(stream, killed):
    """It lies between learn's look at the log and its own record: it is said once more, also by the next run."""
    go_on(stream, 4, first=0)
    fleet = stream.fleet(seed=7, start_ms=START_MS + 10 * WINDOW_MS)
    for _ in range(3):
        fleet.emit_window(stream.advance)
    stream.ingest()
    decided = []

    def decide():
        if job.learners["cloud"].progress.pending:
            decided.append(control(stream).rollback("cloud", "it was too slow", 1, hold=True))
        return bool(decided)

    job = stream.learner(store=Interrupted(stream.store, "save", decide))
    if killed:  # between its commit and its next look
        job._member.subscription.commit = dies_after(job._member.subscription.commit, decided)
    with suppress(KeyboardInterrupt, StopIteration):
        while True:
            learn_on(job)
    job.close()
    assert decided
    for _ in range(5):
        fleet.emit_window(stream.advance)
    stream.ingest()
    stream.learn()
    records = published(stream.log, "cloud")
    assert records[-1] == decided[0]
    assert len(records) == len(set(map(msgspec.json.encode, records))) + 1  # the decision alone stands there twice


def dies_after(commit, decided):
    def call(commits, outputs=()):
        commit(commits, outputs)
        if decided and outputs:
            raise KeyboardInterrupt

    return call


def test_who_promotes_what_was_refused_is_told(stream, caplog):
    go_on(stream, 5, first=0)
    (first, *_) = stream.store.versions("cloud")
    refused = msgspec.structs.replace(
        first, version=90, promoted=False, difference=Interval(-1.0, -2.0, -0.5), reason="worse by 1"
    )
    stream.store.put(refused, stream.store.weights("cloud", 1))
    control(stream).promote("cloud", 90, "as a test")
    assert "cloud@90 was refused at the gate (worse by 1), and serves all the same" in caplog.text


def test_who_promotes_does_not_undo_a_hold_that_comes_meanwhile(stream, caplog):
    go_on(stream, 5, first=0)

    def hold():
        return control(stream).hold("cloud", "incident", held=True)

    slow = dataclasses.replace(control(stream), who="bob", store=Interrupted(stream.store, "weights", hold))
    slow.promote("cloud", 1, "the older one")
    last = published(stream.log, "cloud")[-1]
    assert (last.version, last.held, last.decided_by) == (1, True, "bob")
    assert "has decided too" in caplog.text


def test_rollback_returns_to_what_served_before_and_agents_follow(stream):
    fleet = go_on(stream, 9, first=0)
    newest = published(stream.log, "cloud")[-1].version
    record = control(stream).rollback("cloud", "latency rose", hold=True)
    assert (record.version, record.held) == (newest - 1, True)
    fleet.actor.refresh_policy()
    assert fleet.version == newest - 1
    again = control(stream).rollback("cloud", "it was not the policy")
    assert again.version == newest
    assert again.held
    assert again.weights_hash == find(stream.store, "cloud", newest).weights_hash


def test_a_share_of_the_fleet_tries_a_canary(stream):
    """Each agent acts by the version that its own name says, and its rows say so; then all follow what serves."""
    go_on(stream, 9, first=0)
    now = published(stream.log, "cloud")[-1]
    older = find(stream.store, "cloud", now.version - 1)
    canary = Canary(older.version, older.weights_hash, 0.25, 10)
    fleet, tried = (
        stream.fleet(seed=20, start_ms=START_MS + 20 * WINDOW_MS),
        msgspec.structs.replace(now, canary=canary),
    )
    stream.log.send([Record(POLICIES, b"cloud", msgspec.json.encode(tried))])
    fleet.actor.refresh_policy()
    batch, _ = fleet._episode()
    for agent, name in enumerate(batch.agents):
        rows = batch.agent == agent
        assert set(batch.policy_version[rows]) == {acts_by(tried, name)}
    assert set(batch.policy_version) == {now.version, older.version}
    serving, other = (load_policy(stream.store.weights("cloud", one)) for one in (now.version, older.version))
    seen = batch.policy_version == older.version
    fleet.actor.explorer.now = Exploration(start=0.0, end=0.0)
    actions, _ = fleet.actor.act(batch.obs[: len(batch.agents)], 0, np.random.default_rng(0))
    for policy, chosen in ((other, seen), (serving, ~seen)):
        obs = batch.obs[: len(batch.agents)][chosen[: len(batch.agents)]]
        np.testing.assert_array_equal(actions[chosen[: len(batch.agents)]], policy.q_values(obs).argmax(axis=1))
    stream.log.send([Record(POLICIES, b"cloud", msgspec.json.encode(now))])
    fleet.actor.refresh_policy()
    assert set(fleet.actor.versions) == {now.version}


@pytest.mark.parametrize("serving", [1, 2])
def test_a_canary_of_another_kind_acts_by_its_own(stream, serving):
    """Values take the greatest, or a random action; logits are drawn from, and say how likely that was."""
    count, width = 400, cloud_task().width
    actor = stream.fleet(agents=count).actor
    head, bias = np.zeros((width, 5), np.float32), np.arange(5, dtype=np.float32) - 4.0
    value = {"value.weight": head[:, :1], "value.bias": bias[:1]}
    values = Policy({"advantage.weight": head, "advantage.bias": bias, **value})
    actor._loaded = {1: values, 2: Policy({"logits.weight": head, "logits.bias": bias})}
    actor.version, actor.versions = serving, np.repeat([1, 2], count // 2)
    actor.explorer.now = Exploration(start=0.0, end=0.0)
    actions, log_probs = actor.act(np.zeros((count, width), np.float32), 0, np.random.default_rng(0))
    by_values, drawn = actions[: count // 2], actions[count // 2 :]
    assert set(by_values) == {4}
    assert np.isnan(log_probs[: count // 2]).all()
    likely = bias - np.log(np.exp(bias).sum())
    assert len(set(drawn)) > 2
    np.testing.assert_allclose(log_probs[count // 2 :], likely[drawn], rtol=1e-5)


def test_a_policy_of_as_many_continuous_actions_fits_no_discrete_task(stream):
    """Sizes alone do not tell them apart."""
    spec = cloud_task()
    shape = (spec.width, spec.action_count)
    weights = pack({"mean.weight": np.zeros(shape, np.float32), "mean.bias": np.zeros(shape[1], np.float32)})
    version = PolicyVersion(
        "cloud", 1, None, "ppo", {}, 0, "", weights_hash(weights), 0, 0, [], {}, None, promoted=False, reason=""
    )
    stream.store.put(version, weights)
    with pytest.raises(SettingsError, match="5 continuous actions; the task has 32 and 5 discrete"):
        control(stream).promote("cloud", 1, "as a test")


def test_a_candidate_must_beat_what_a_person_let_serve(stream):
    """The gate's opponent is the version that serves now, not the one that learn promoted last."""
    settings = dataclasses.replace(SETTINGS, gate="simulator")
    go_on(stream, 5, first=0, settings=settings)
    versions = stream.store.versions("cloud")
    control(stream).promote("cloud", 1, "as a test")
    go_on(stream, 3, first=10, settings=settings)
    later = stream.store.versions("cloud")[len(versions) :]
    assert later
    assert [one.judged.opponent for one in versions if one.judged][:1] == [0]
    assert later[0].judged.opponent == 1
    assert "serving" in later[0].evaluation


def test_a_share_of_the_agents_tries_a_canary_until_it_is_decided(stream):
    """Each row names the version by which its agent acted; learn promotes nothing meanwhile; release ends it."""
    go_on(stream, 5, first=0)
    serves = published(stream.log, "cloud")[-1].version
    people = control(stream)
    with pytest.raises(SettingsError, match="serves already"):
        people.canary("cloud", serves, 0.5, "by mistake")
    people.rollback("cloud", "as a test")
    record = people.canary("cloud", serves, 0.5, "is it better live?")
    assert (record.version, record.canary.version, record.held) == (serves - 1, serves, False)
    go_on(stream, 5, first=10)
    assert not any(version.promoted for version in stream.store.versions("cloud")[serves:])
    seen = {(one.version, one.agents) for one in observed(stream.index, cloud_task(), START_MS + 10 * WINDOW_MS)}
    trying = sum(in_share(record.canary, "cloud", f"agent-{number:04d}") for number in range(8))
    assert seen == {(serves, trying), (serves - 1, 8 - trying)}
    assert people.hold("cloud", "no", held=False).canary is None
    with pytest.raises(SettingsError, match="nothing serves yet"):
        people.canary("other", 1, 0.5, "too early")


def test_what_can_not_be_decided_is_said(stream):
    go_on(stream, 5, first=0)
    people = control(stream)
    serves = published(stream.log, "cloud")[-1].version
    with pytest.raises(SettingsError, match=rf"cloud@{serves} serves already"):
        people.promote("cloud", serves, "again")
    with pytest.raises(UnknownPolicyError, match=rf"no policy cloud@99: it has 1 to {serves}"):
        people.promote("cloud", 99, "who knows")
    with pytest.raises(UnknownPolicyError, match="it has no versions"):
        people.promote("other", 1, "who knows")
    with pytest.raises(SettingsError, match="not on hold"):
        people.hold("cloud", "", held=False)
    with pytest.raises(SettingsError, match="served before: name one with --to"):
        people.rollback("other", "")


def test_a_policy_of_another_task_is_refused(stream):
    """Its weights don't fit: agents and the gate would stop at it."""
    go_on(stream, 5, first=0)
    run_training(
        stream.store, Order("dqn", "CartPole-v1", 0, 3_000, None, task="cloud"), lambda _: None, lambda _: None
    )
    other = stream.store.versions("cloud")[-1].version
    with pytest.raises(
        SettingsError, match=rf"cloud@{other} sees 4 values and has 2 discrete actions; the task has 32 and 5"
    ):
        control(stream).promote("cloud", other, "by mistake")


def test_versions_are_compared_on_the_same_traces(stream):
    go_on(stream, 9, first=0)
    versions = stream.store.versions("cloud")
    one, other = versions[0], msgspec.structs.replace(versions[1], config=versions[1].config | {"discount": 0.5})
    found = compare(stream.store, cloud_task(), one, other)
    assert found.config == [("discount", 0.95, 0.5)]
    assert found.difference.n == 512
    assert 0 < found.agreement < 1
    back = compare(stream.store, cloud_task(), other, one)
    assert back.difference.mean == pytest.approx(-found.difference.mean)
    same = compare(stream.store, cloud_task(), one, one)
    assert (same.config, same.difference.mean, same.agreement) == ([], 0, 1)
    assert compare(stream.store, None, one, other).difference is None
