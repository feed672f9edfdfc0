"""Agents that follow what serves: swaps, what acts before and without a version, and what their steps' records say."""

import json
import math
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import gymnasium as gym
import msgspec
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from headrace.learners.checkpoint import pack, weights_hash
from headrace.pipelines.act import follow, follower
from headrace.pipelines.act.choosers import EpsilonGreedy, UniformBox
from headrace.pipelines.act.versions import keep, kept, loaded
from headrace.pipelines.record import record
from headrace.pipelines.settings import read_settings
from headrace.pipelines.tasks import add_task
from headrace.pipelines.topics import messages
from headrace.pipelines.wiring import open_services
from headrace.schemas.canary import Canary
from headrace.schemas.errors import SettingsError, UnknownTaskError
from headrace.schemas.ports import Record
from headrace.schemas.records import Directive, PolicyVersion, ServingPolicy, TaskSpec

PLAIN = TaskSpec(task="cartpole", observations=("x0", "x1", "x2", "x3"), actions=("left", "right"), window_ms=1_000)
OBS = np.array([1.0, 0.0, 0.0, 0.0], np.float32)
LOOK_S = 0.01


def constant(action, width=4, *, dueling=False, size=20.0):
    """A policy that prefers one of two actions whatever it sees: a softmax one, or values."""
    bias = np.zeros(2, np.float32)
    bias[action] = size
    head = "advantage" if dueling else "logits"
    arrays = {f"{head}.weight": np.zeros((width, 2), np.float32), f"{head}.bias": bias}
    if dueling:
        arrays |= {"value.weight": np.zeros((width, 1), np.float32), "value.bias": np.zeros(1, np.float32)}
    return arrays


@pytest.fixture
def services(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_services(read_settings({}), create=True) as opened:
        opened.initialise(partitions=2)
        add_task(opened.log, PLAIN)
        yield opened


def store(services, version, arrays, steps=0):
    weights = pack(arrays)
    made = PolicyVersion(
        task="cartpole",
        version=version,
        parent=None,
        algorithm="ppo",
        config={},
        seed=0,
        code_version="0",
        weights_hash=weights_hash(weights),
        environment_steps=steps,
        updates=0,
        lineage=[],
        evaluation={},
        difference=None,
        promoted=True,
        reason="a test",
    )
    services.policies.put(made, weights)
    return made.weights_hash


def promote(services, version, arrays, steps=0, **more):
    found = store(services, version, arrays, steps)
    record = ServingPolicy("cartpole", version, more.pop("weights_hash", found), "test", "a test", 0, **more)
    services.log.send([Record("policies", b"cartpole", msgspec.json.encode(record))])


def until(met, seconds=10.0):
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end
        time.sleep(LOOK_S)


def acting(**options):
    return follow("cartpole", look_every_s=LOOK_S, seed=0, **options)


def test_before_a_version_serves_chance_acts_and_says_how_likely(services):
    with acting() as agent:
        actions = [agent.act(OBS) for _ in range(200)]
        assert set(actions) == {0, 1}
        assert (agent.policy_version, agent.log_prob) == (None, -math.log(2))
        assert np.bincount(agent.act(np.zeros((400, 4)))).min() > 150
        np.testing.assert_allclose(agent.log_prob, np.full(400, -math.log(2)))


def test_an_agent_takes_each_version_as_it_is_promoted(services):
    promote(services, 1, constant(0))
    with acting() as agent:
        assert (agent.act(OBS), agent.policy_version) == (0, 1)
        assert agent.log_prob == pytest.approx(0.0, abs=1e-6)
        promote(services, 2, constant(1), held=True)
        until(lambda: agent.act(OBS) == 1)
        assert agent.policy_version == 2


def test_a_log_and_a_store_that_are_open_already_are_used_and_left_open(services):
    promote(services, 1, constant(1))
    with acting(log=services.log, policies=services.policies) as agent:
        assert (agent.act(OBS), agent.policy_version) == (1, 1)
    assert services.log.topic("policies").partitions == 2


def test_other_weights_than_were_promoted_do_not_act(services, caplog):
    """Nor does a policy of another task; a later, good version does."""
    promote(services, 1, constant(0))
    with acting() as agent:
        promote(services, 2, constant(1), weights_hash="0" * 64)
        until(lambda: "CorruptDataError" in agent.trouble)
        promote(services, 3, constant(1, width=5))
        until(lambda: "another task" in agent.trouble)
        assert (agent.act(OBS), agent.policy_version) == (0, 1)
        promote(services, 4, constant(1))
        until(lambda: agent.act(OBS) == 1)
        assert agent.trouble == ""
    assert any("acts on" in record.message for record in caplog.records)


def test_a_share_of_the_agents_tries_a_canary(services):
    """Which of them is said by their names; the others act by what serves."""
    tried = Canary(2, store(services, 2, constant(1)), 0.5, 10)
    promote(services, 1, constant(0), canary=tried)
    versions = []
    for i in range(12):
        with acting(agent_id=f"agent-{i}") as agent:
            versions.append((agent.act(OBS), agent.policy_version))
    assert set(versions) == {(0, 1), (1, 2)}


def test_an_agent_acts_on_where_log_and_store_are_gone(services, tmp_path, caplog):
    promote(services, 1, constant(1))
    agent = acting(keep="kept.safetensors")
    services.close()
    for path in tmp_path.joinpath(".headrace").rglob("*"):
        if path.is_file():
            path.unlink()
    time.sleep(5 * LOOK_S)
    assert (agent.act(OBS), agent.policy_version) == (1, 1)
    agent.close()
    with acting(keep="kept.safetensors") as again:  # one that begins now has the kept version
        assert "does not exist" in again.trouble
        assert (again.act(OBS), again.policy_version) == (1, 1)
    with pytest.raises(SettingsError, match="of task cartpole, not of other"):
        follow("other", keep="kept.safetensors")
    with pytest.raises(SettingsError, match=r"keep='.*': Is a directory: name a file"):
        follow("cartpole", keep=tmp_path)
    (tmp_path / "kept.safetensors").write_bytes(b"half a file")
    with acting(keep="kept.safetensors", fallback=0) as again:
        assert (again.act(OBS), again.policy_version) == (0, None)
    assert "keeps no version that can act" in caplog.text


def test_a_version_that_could_not_be_kept_is_kept_later(services, tmp_path):
    """It acts meanwhile, and the agent goes on saying what is wrong."""
    path = tmp_path / "kept.safetensors"
    with acting(keep=str(path)) as agent:
        path.mkdir()  # nothing can be written in its place
        promote(services, 1, constant(1))
        until(lambda: agent.trouble)
        time.sleep(5 * LOOK_S)
        assert "kept.safetensors" in agent.trouble
        assert (agent.act(OBS), agent.policy_version) == (1, 1)
        path.rmdir()
        until(path.is_file)
        until(lambda: not agent.trouble)


def test_a_log_that_another_took_the_place_of_is_noticed(services, tmp_path, monkeypatch):
    """An open file does not say that it was deleted: log and store are opened anew every so often."""
    monkeypatch.setattr(follower, "LOOKS", 3)
    promote(services, 1, constant(0))
    with acting() as agent:
        assert agent.act(OBS) == 0
        for path in (tmp_path / ".headrace").glob("*.db*"):
            path.unlink()
        with open_services(read_settings({}), create=True) as again:
            again.initialise(partitions=2)
            promote(again, 2, constant(1))
            until(lambda: agent.act(OBS) == 1)


def test_agents_may_keep_in_one_file(tmp_path):
    """At the same time, each writes it whole."""
    weights = pack(constant(1))
    path, version = tmp_path / "kept", loaded("cartpole", 1, weights_hash(weights), 0, weights)
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(lambda _: keep(path, version), range(64))] == [None] * 64
    assert kept(path, "cartpole").hash == version.hash
    assert [*tmp_path.iterdir()] == [path]


def test_observations_of_another_width_are_refused(services):
    promote(services, 1, constant(0))
    with acting() as agent:
        assert agent.act([1.0, 2.0, 3.0, 4.0]) == 0
        for wrong in (np.zeros(5), np.zeros(1), np.zeros((2, 5)), np.float32(1)):
            with pytest.raises(ValueError, match=r"takes \(4,\)"):
                agent.act(wrong)


def test_a_fallback_acts_until_a_version_serves(services):
    for fallback, expected in ((lambda obs: int(obs[0] > 0), 1), (0, 0)):
        with acting(fallback=fallback) as agent:
            assert agent.act(OBS) == expected
            assert (agent.policy_version, agent.log_prob) == (None, None)
            assert agent.act(np.stack([OBS, OBS])).tolist() == [expected] * 2
    with acting(fallback=np.int64(1)) as agent, acting(fallback=0.5) as continuous:
        assert agent.act(OBS) == 1
        assert continuous.act(OBS).tolist() == [0.5]
    promote(services, 1, constant(1))
    with acting(fallback=0) as agent:
        assert (agent.act(OBS), agent.policy_version) == (1, 1)


def test_where_nothing_says_what_the_actions_are_there_is_no_agent(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownTaskError, match=r"log sqlite:\.headrace/log\.db does not exist.*fallback="):
        follow("cartpole")
    with pytest.raises(SettingsError, match="unknown scheme"):
        follow("cartpole", log="nosuch:x")
    with follow("cartpole", env=gym.make("CartPole-v1")) as agent:
        assert agent.act(OBS) in {0, 1}


def test_a_dqn_explores_by_the_rows_that_were_learned_from(services):
    """Epsilon falls from 1 to .02 over 38,400 rows; the advisor's change of it is followed; else the best action."""
    promote(services, 1, constant(1, dueling=True), steps=19_200)
    with acting() as agent, acting(explore=False) as best:
        share = np.mean(agent.act(np.zeros((20_000, 4))) == 0)
        assert share == pytest.approx(0.51 / 2, abs=0.015)
        assert set(np.round(np.exp(agent.log_prob), 3)) == {0.255, 0.745}
        changed = Directive("d.1.1", "cartpole", "epsilon_end", 0.2, "a", "accepted", "b", "c", 0)
        services.log.send([Record("directives", b"cartpole", msgspec.json.encode(changed))])
        until(lambda: agent.act(OBS) in {0, 1} and agent.log_prob in {math.log(0.9), math.log(0.1)})
        assert {best.act(OBS) for _ in range(50)} == {1}
        assert best.log_prob == 0.0
        assert isinstance(agent._choice.chooser, EpsilonGreedy)
        promote(services, 2, constant(1, dueling=True), steps=0)  # an older one, promoted again
        until(lambda: agent.act(OBS) in {0, 1} and agent.policy_version == 2)
        assert agent._choice.chooser.epsilon == 0.2
        stated = msgspec.structs.replace(changed, directive_id="s.1", change="setting", target="epsilon_end", value=0.7)
        services.log.send([Record("directives", b"cartpole", msgspec.json.encode(stated))])
        until(lambda: agent._choice.chooser.epsilon == 0.7)


def test_chance_in_a_box_has_the_density_that_it_says():
    """Uniform between bounds, a half normal beyond one, a normal without any."""
    low, high = np.array([0.0, 2.0, -np.inf]), np.array([100.0, np.inf, np.inf])
    chance = UniformBox(low.astype(np.float32), high.astype(np.float32), np.random.default_rng(0))
    actions, log_probs = chance.many(np.zeros((5_000, 4)))
    assert actions.mean(axis=0) == pytest.approx([50.0, 2.0 + math.sqrt(2 / math.pi), 0.0], abs=1.0)
    assert (actions[:, 1] >= 2.0).all()
    row = actions[7].astype(np.float64)
    normals = -0.5 * (row[1] - 2.0) ** 2 - 0.5 * row[2] ** 2 - math.log(2.0 * math.pi)
    assert log_probs[7] == pytest.approx(-math.log(100.0) + math.log(2.0) + normals, abs=1e-5)


def rows(services, task):
    found = [json.loads(value) for batch in messages(services.log, "transitions") for value in batch.values]
    return [row for row in found if "heartbeat" not in row and row["task"] == task]


def test_recorded_steps_say_what_acted_and_how_likely_it_was(services):
    """But not where somebody else chose the action."""
    promote(services, 3, constant(1, size=1.0))
    env = record(gym.make("CartPole-v1"), task="cartpole")
    with acting(env=env) as agent:
        obs, _ = env.reset(seed=0)
        for step in range(6):
            action = agent.act(obs)
            obs, *_ = env.step(1 - action if step == 5 else action)
    env.close()
    sent = rows(services, "cartpole")
    one = 1.0 / (1.0 + math.exp(-1.0))
    for row in sent[:5]:
        expected = math.log(one if row["action"] else 1.0 - one)
        assert (row["policy_version"], row["log_prob"]) == (3, pytest.approx(expected, rel=1e-5))
    assert {"policy_version", "log_prob"}.isdisjoint(sent[5])


@pytest.mark.parametrize("name", ["FrozenLake-v1", "Blackjack-v1", "Pendulum-v1"])
def test_an_environments_own_observations_and_actions_are_taken(services, name):
    """A choice, a tuple of choices, a box; one environment, and two at once."""
    for env in (
        gym.make(name),
        gym.make_vec(name, 2, vector_kwargs={"autoreset_mode": AutoresetMode.NEXT_STEP}),
    ):
        task = name[:4] + str(getattr(env, "num_envs", 1))
        wrapped = record(env, task=task)
        with follow(task, env=wrapped, seed=0) as agent:
            obs, _ = wrapped.reset(seed=0)
            for _ in range(20):
                action = agent.act(obs)
                assert env.action_space.contains(action)
                obs, _, terminated, truncated, _ = wrapped.step(action)
                if np.ndim(terminated) == 0 and (terminated or truncated):
                    obs, _ = wrapped.reset()
        wrapped.close()
        assert all(np.isfinite(row["log_prob"]) for row in rows(services, task))


class Shifted(gym.ActionWrapper):
    """Its actions are -1 and 0."""

    def __init__(self, env):
        super().__init__(env)
        self.action_space = gym.spaces.Discrete(2, start=-1)

    def action(self, action):
        return action + 1


def test_actions_that_begin_elsewhere_than_at_0(services):
    """The environment has its own numbers, the record the task's."""
    promote(services, 1, constant(1))
    env = record(Shifted(gym.make("CartPole-v1")), task="cartpole")
    with acting(env=env) as agent:
        obs, _ = env.reset(seed=0)
        action = agent.act(obs)
        env.step(action)
    env.close()
    assert action == 0
    (row,) = rows(services, "cartpole")
    assert (row["action"], row["policy_version"]) == (1, 1)


def test_an_agent_loads_numpy_and_no_heavy_library(services):
    """So that it starts in a fifth of a second, and stays small."""
    promote(services, 1, constant(1))
    code = (
        "import sys; from headrace.pipelines.act import follow; import numpy as np\n"
        "agent = follow('cartpole'); assert agent.act(np.zeros(4, np.float32)) == 1\n"
        "heavy = {'torch', 'gymnasium', 'pyarrow', 'pandas', 'scipy', 'sklearn', 'matplotlib', 'click', 'jinja2'}\n"
        "print(*(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "\n"
