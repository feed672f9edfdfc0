"""PPO from the stream: it learns, is resumed and retrained to the bit, and leaves alone what it can't learn from."""

import shutil
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from stream import CONFIG, SETTINGS, learn_on, learn_with_kills, open_stream, outcome, through, uncached, undisturbed

from headrace.learners.acting import Policy, load_policy
from headrace.learners.cloud import Simulation, draw_traces
from headrace.learners.explain.simulation import simulator
from headrace.learners.ppo import PPOConfig
from headrace.learners.stream.algorithms import algorithm
from headrace.pipelines.fleet.job import START_MS, cloud_task
from headrace.pipelines.learn.advice import Advising
from headrace.pipelines.learn.metrics import METRICS
from headrace.pipelines.policies.retrain import retrain
from headrace.pipelines.published import directives
from headrace.pipelines.tasks import add_task
from headrace.pipelines.topics import TRANSITIONS
from headrace.schemas import codec, codec_arrow
from headrace.schemas.directives import Proposal
from headrace.schemas.partition import partition_of
from headrace.schemas.ports import Record
from headrace.schemas.records import Bounds, Directive, TaskSpec
from headrace.schemas.transition import TransitionBatch, concat

PPO = PPOConfig(hidden=(16,), critic_hidden=(16,), minibatch_size=128, normaliser_rows=1_000, importance_max=5.0)
ROLLOUTS = replace(SETTINGS, rollout_rows=700, rollout_steps=50)


LEARNED = {"config": PPO, "settings": ROLLOUTS}


def learn(stream, **options):
    return stream.learn(**LEARNED | options)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Agents that act with what was learned so far, twice; then six windows that nobody has learned from."""
    folder = tmp_path_factory.mktemp("recorded")
    stream = open_stream(folder)
    fleet = stream.fleet(seed=3)
    for _ in range(3):
        for _ in range(3):
            fleet.emit_window(stream.advance)
        stream.ingest()
        learn(stream)
    for _ in range(6):
        fleet.emit_window(stream.advance)
    stream.ingest()
    stream.close()
    return folder


def test_the_fleet_draws_and_says_how_likely(stream):
    """Before a policy serves uniformly, then from its distribution; a row names the version that acted."""
    versions = stream.store.versions("cloud")
    assert [v.algorithm for v in versions] == ["ppo"] * len(versions)
    rows = stream.chunks.transitions([reference for version in versions for reference in version.references])
    acted = np.concatenate([batch.policy_version for batch in rows])
    log_prob = np.concatenate([batch.log_prob for batch in rows])
    np.testing.assert_allclose(log_prob[acted == -1], -np.log(5.0), rtol=1e-6)
    assert set(acted.tolist()) > {-1}
    for batch in rows:
        for version in set(batch.policy_version.tolist()) - {-1}:
            mine = batch.take(batch.policy_version == version)
            logits = Policy.from_bytes(stream.store.weights("cloud", version)).q_values(mine.obs)
            expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            np.testing.assert_allclose(mine.log_prob, expected[np.arange(len(mine)), mine.action], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_kill_and_resume(recorded, stream, tmp_path, seed):
    """Whatever write it dies at, the same versions, weights and records come out."""
    expected = undisturbed(recorded, tmp_path / "undisturbed", **LEARNED)
    before = len(stream.store.versions("cloud"))
    assert learn_with_kills(stream, seed, 12, **LEARNED)
    assert outcome(stream) == expected
    assert len(expected[0]) > before


def test_a_checkpoint_in_the_middle_of_a_rollout_is_gone_on_from(recorded, stream, tmp_path):
    """Stopped after every poll, with rows that wait for the next update; they are read again by reference."""
    expected = undisturbed(recorded, tmp_path / "undisturbed", **LEARNED)
    waited, behind = 0, True
    while behind:
        job = stream.learner(config=PPO, settings=ROLLOUTS)
        for item in [item for _ in range(2) for item in job.poll()]:
            through(job, item)
        behind = bool(job._member.lag)
        job.stop.finished = True
        job.commit([None])
        waited += any(learner.training.held_rows > 0 for learner in job.learners.values())
        job.close()
    assert waited > 2
    assert outcome(stream) == expected


def test_every_version_is_retrained_to_the_same_weights(stream):
    learn(stream)
    versions = stream.store.versions("cloud")
    assert len(versions) >= 5
    for version in versions:
        found = retrain(stream.store, uncached(stream), "cloud", cloud_task(), version.version)
        assert found.equal
        assert (found.rows, found.updates) == (version.environment_steps, version.updates)


def test_rows_that_dont_say_how_likely_are_counted_and_left_alone(tmp_path):
    """A DQN's agents act by epsilon: their rows move nothing, and are not waited for without end."""
    stream = open_stream(tmp_path)
    fleet = stream.fleet(seed=3)
    for _ in range(3):
        fleet.emit_window(stream.advance)
    stream.ingest()
    stream.learn()  # a DQN, whose first version serves from here on
    before = len(stream.store.versions("cloud"))
    (tmp_path / "policies" / "cloud" / "checkpoint").unlink()
    for _ in range(6):
        fleet.emit_window(stream.advance)
    stream.ingest()
    job = learn(stream)
    training = job.learners["cloud"].training
    counts = training.counts
    assert counts.without_log_prob == 6 * 800
    assert counts.rows == 9 * 800
    assert training.held_rows < 8 * ROLLOUTS.rollout_rows
    assert 0 < training.updates <= 3 * 800 // ROLLOUTS.rollout_rows + 1
    versions = stream.store.versions("cloud")[before:]
    assert {v.algorithm for v in versions} == {"ppo"}
    assert retrain(stream.store, uncached(stream), "cloud", cloud_task(), versions[-1].version).equal
    stream.close()


def test_a_checkpoints_algorithm_stays(stream, caplog):
    """Another --algorithm is for tasks that were not learned yet, and the log says so."""
    job = learn(stream, config=CONFIG)
    assert job.learners["cloud"].training.config.algorithm == "ppo"
    assert "its checkpoint is of ppo" in caplog.text


class Scripted:
    """An advisor that asks for all that there is."""

    name = "scripted"

    def propose(self, facts):
        assert facts.settings.keys() == {"learning_rate"}
        asked = [Proposal("epsilon_end", 0.1), Proposal("explore_rule", 0.4, "hpa"), Proposal("epsilon_steps", 2_000.0)]
        rate = Proposal("learning_rate", facts.settings["learning_rate"] / 2, reason="slower")
        return [rate, *asked[:2]] if facts.version % 2 else [*asked[2:], Proposal("shaping", 0.2, "term_0")]


def test_directives_that_mean_nothing_to_it_are_refused(stream):
    """The rate is changed, and retraining knows; the rest is refused with what there is."""
    learn(stream, advising=Advising(Scripted(), every=1))
    records = directives(stream.log, "cloud")
    verdicts = {(one.change, one.verdict) for one in records}
    refused = {"epsilon_end", "explore_rule", "epsilon_steps", "shaping"}
    assert {change for change, verdict in verdicts if verdict == "refused"} >= refused
    assert ("learning_rate", "accepted") in verdicts
    assert all(
        "no such setting of this learner; there are learning_rate" in o.reason for o in records if o.change in refused
    )
    versions = stream.store.versions("cloud")
    assert len({version.config["learning_rate"] for version in versions}) > 1
    assert retrain(stream.store, uncached(stream), "cloud", cloud_task(), versions[-1].version).equal


def test_agents_that_draw_heed_no_directive_about_exploring(stream):
    """They draw from the policy whatever stands; before a policy serves, a rule's part makes rows unusable."""
    told = Directive("t.1.1", "cloud", "explore_rule", 0.4, "rules:", "accepted", "bounds", "because", 0, target="hpa")
    fleet = stream.fleet(seed=3)
    traces = draw_traces(5, 8)
    obs = Simulation(traces).observation()
    fleet.actor.explorer.apply([told])
    fleet.actor.explorer.begin(len(traces))
    _, log_prob = fleet.actor.act(obs, 0, np.random.default_rng(0))
    assert np.isnan(log_prob).all()
    fleet.actor.refresh_policy()
    action, log_prob = fleet.actor.act(obs, 0, np.random.default_rng(0))
    expected, likely = fleet.actor.policy.sample(obs, np.random.default_rng(0))
    np.testing.assert_array_equal(action, expected)
    np.testing.assert_array_equal(log_prob, likely)


def test_metrics_are_told_of_ppo_alone(stream):
    """How much was too old or unusable; a DQN has no such thing."""
    job = learn(stream)
    told = {metric.name: metric.read(job) for metric in METRICS}
    assert told["headrace_learn_unusable_transitions_total"] == {("cloud",): 0}
    assert 0.0 <= told["headrace_learn_dropped_share"][("cloud",)] < 0.5
    assert 0.1 < told["headrace_learn_effective_share"][("cloud",)] <= 1.0
    (stream.folder / "policies" / "cloud" / "checkpoint").unlink()
    job = stream.learn()
    told = {metric.name: metric.read(job) for metric in METRICS}
    for name in ("unusable_transitions_total", "dropped_share", "effective_share"):
        assert told[f"headrace_learn_{name}"] == {}


def test_laggards_rows_are_dropped_and_the_share_is_told(stream):
    """Half of the rows are by a version that five others have followed."""
    job = learn(stream)
    training = job.learners["cloud"].training
    references = stream.store.versions("cloud")[-1].references
    rows = concat(stream.chunks.transitions(references)).slice(0, 800)
    version = np.where(rows.agent % 2 == 0, 20, 16)
    metrics = []
    training.begin_anew()
    training.counts.version = 20
    training._learned = metrics.append
    training.take([(replace(rows, policy_version=version), 0)])
    assert metrics[0]["dropped_share"] == pytest.approx((version == 16).mean())
    version[version == 16] = 17
    training.take([(replace(rows, policy_version=version), 0)])
    assert metrics[1]["dropped_share"] == 0.0


REACH = TaskSpec(
    task="reach",
    observations=("x", "y"),
    actions=Bounds((-1.0, -1.0), (1.0, 1.0)),
    window_ms=60_000,
    groups=2,
)


def reach_window(policy, version, number, agents=20, steps=20):
    """Agents that are paid for how near their action is to half of what they see."""
    rng = np.random.default_rng(number)
    count = agents * steps
    obs = rng.uniform(-1.0, 1.0, (count, 2)).astype(np.float32)
    if policy is None:
        action = rng.uniform(-1.0, 1.0, (count, 2)).astype(np.float32)
        log_prob = np.full(count, -2.0 * np.log(2.0), np.float32)
    else:
        action, log_prob = policy.sample(obs, rng)
    agent, step = np.divmod(np.arange(count), steps)
    return TransitionBatch(
        task="reach",
        agents=tuple(f"agent-{i}" for i in range(agents)),
        episodes=(f"e{number}",),
        agent=agent.astype(np.int32),
        episode=np.zeros(count, np.int32),
        step=step,
        ts=START_MS + number * 60_000 + step * 1_000,
        offset=np.zeros(count, np.int64),
        obs=obs,
        action=action,
        reward=-np.abs(action - obs / 2).sum(axis=1).astype(np.float32),
        next_obs=np.roll(obs, -1, axis=0),
        terminated=np.zeros(count, np.bool_),
        truncated=step == steps - 1,
        reward_terms=np.zeros((count, 0), np.float32),
        policy_version=np.full(count, version),
        log_prob=log_prob.astype(np.float32),
    )


def test_continuous_actions_are_learned_by_ppo_alone(tmp_path, caplog):
    """From uniform draws on, with densities; dqn says that it can't. Retrained to the same weights."""
    stream = open_stream(tmp_path)
    add_task(stream.log, REACH)
    config = replace(PPO, discount=0.0, learning_rate=3e-3, log_std=-1.0)
    policy, version, rewards = None, -1, []
    for number in range(24):
        batch = reach_window(policy, version, number)
        rewards.append(float(batch.reward.mean()))
        stream.advance(START_MS + (number + 1) * 60_000)
        records = []
        for i, name in enumerate(batch.agents):
            payload = codec_arrow.encode(batch.take(batch.agent == i), REACH)
            records.append(Record(TRANSITIONS, name.encode(), payload, codec.ARROW_HEADERS))
        stream.log.send(records)
        beat_ms = START_MS + (number + 1) * 60_000 + stream.layout.grace_ms
        stream.advance(beat_ms)
        beat = codec.heartbeat("reach", batch.agents[0], beat_ms)
        stream.log.send([Record(TRANSITIONS, None, beat, partition=p) for p in range(2)])
        stream.ingest()
        if not number:
            assert "reach" not in stream.learn().learners
            assert "dqn learns discrete ones only; ppo can" in caplog.text
            assert "`headrace run learn --task reach --from-start`" in caplog.text
            shutil.rmtree(tmp_path / "policies", ignore_errors=True)
            continue
        learn(stream, config=config, settings=replace(ROLLOUTS, rollout_rows=400, candidate_rows=800))
        versions = stream.store.versions("reach")
        if versions:
            version = versions[-1].version
            policy = load_policy(stream.store.weights("reach", version))
    assert rewards[0] < -1.0
    assert np.mean(rewards[-3:]) > -0.6
    assert retrain(stream.store, uncached(stream), "reach", REACH, version).equal
    stream.close()


def test_it_learns_and_the_gate_lets_it_serve(tmp_path):
    """From uniform draws: candidates pass the gate, over the floor and then over each other; agents draw from them."""
    stream = open_stream(tmp_path)
    fleet = stream.fleet(seed=1, agents=32)
    rows = 32 * 100
    settings = replace(
        SETTINGS, gate="simulator", gate_traces=192, rollout_rows=rows // 2, candidate_rows=2 * rows, rollout_steps=100
    )
    returns = []
    for _ in range(30):
        returns.append(fleet.emit_window(stream.advance))
        stream.ingest()
        stream.learn(config=algorithm("ppo").streamed, settings=settings)
    versions = stream.store.versions("cloud")
    promoted = [v for v in versions if v.promoted]
    world = simulator("headrace/CloudService-v0")
    final = world.outcomes(Policy.from_bytes(stream.store.weights("cloud", promoted[-1].version))).returns.mean()
    print("agents' returns by window", [round(float(value)) for value in returns])
    print(f"{len(promoted)} of {len(versions)} promoted, the last on held-out traces {final:.1f}")
    assert np.mean(returns[:3]) < 35
    assert len(promoted) >= 2
    assert promoted[0].reason.startswith("candidate beats the floor baseline")
    assert promoted[1].reason.startswith(("candidate beats the serving policy", "candidate is no more than"))
    assert np.mean(returns[-3:]) > 70
    assert final > 78
    stream.close()


@pytest.mark.parametrize("name", ["aaa-00000", "zzz-00000"])
def test_rows_of_a_chunk_that_has_grown_since_are_learned_from_alike(tmp_path, name):
    """Late rows of another agent come to a chunk after it was learned from; replay reads it as it is by then."""
    stream, spec = open_stream(tmp_path), cloud_task()
    fleet = stream.fleet(seed=3)
    place = [(partition_of(one.encode(), spec.groups), partition_of(one.encode(), 2)) for one in fleet._names]
    late_name = next(
        one
        for one in (f"{name}{i}" for i in range(10_000))
        if (partition_of(one.encode(), spec.groups), partition_of(one.encode(), 2)) == place[0]
    )
    late = stream.fleet(seed=9, agents=1)
    late._names = (late_name,)

    def send_late(start_ms):
        late.window_start_ms = start_ms
        batch, _ = late._episode()
        late.windows += 1
        value = codec_arrow.encode(batch, spec)
        stream.log.send([Record(TRANSITIONS, late_name.encode(), value, codec.ARROW_HEADERS)])

    settings = replace(ROLLOUTS, rollout_rows=3_000, candidate_rows=3_000, checkpoint_rows=10**9)
    job = stream.learner(config=PPO, settings=settings)
    first_ms = fleet.window_start_ms
    for number in range(5):
        if number == 1:
            send_late(first_ms)
            send_late(fleet.window_start_ms)
        fleet.emit_window(stream.advance)
        stream.ingest()
        job.catch_up()
        with suppress(StopIteration):
            while True:
                learn_on(job)
    job.close()
    (version,) = stream.store.versions("cloud")
    assert retrain(stream.store, uncached(stream), "cloud", spec, version.version).equal
    stream.close()


def test_what_can_never_be_learned_from_is_let_go(tmp_path):
    """Agents that never say how likely their action was: the checkpoint stays small, no version is made of nothing."""
    stream = open_stream(tmp_path)
    fleet = stream.fleet(seed=3)
    act = fleet.actor.act
    fleet.actor.act = lambda *given: (act(*given)[0], np.full(len(given[0]), np.nan, np.float32))
    held = []
    for _ in range(3):
        for _ in range(6):
            fleet.emit_window(stream.advance)
        stream.ingest()
        learner = learn(stream).learners["cloud"]
        held.append(len(learner.progress.lineage))
        assert learner.training.updates == 0
    assert learner.training.counts.without_log_prob == learner.training.counts.rows == 18 * 800
    assert max(held) <= 16  # of two windows; 18 of them hold 144
    assert not stream.store.versions("cloud")
    stream.close()
