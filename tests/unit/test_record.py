"""The recorder: any Gymnasium environment's steps, equal on the log to what the agent saw."""

import gc
import json
import re
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from headrace.learners.simulate.fitting import misfit
from headrace.learners.spaces import NumericSpaces
from headrace.pipelines.record import record
from headrace.pipelines.record.task import Asked, derive_task, made_again_by
from headrace.pipelines.settings import read_settings
from headrace.pipelines.tasks import TaskTable, add_task, task_specs
from headrace.pipelines.topics import messages
from headrace.pipelines.wiring import open_services
from headrace.schemas import codec
from headrace.schemas.errors import EnvironmentFailedError, InvalidTaskError, SettingsError
from headrace.schemas.ports import Record
from headrace.schemas.records import Bounds, Layout, TaskSpec

T0 = 1_700_000_000_000


class Ticks:
    """A clock that goes on by 100 ms a look."""

    def __init__(self) -> None:
        self.now_ms = T0

    def __call__(self) -> int:
        self.now_ms += 100
        return self.now_ms


class Counter(gym.Env):
    """Counts to `length`, then terminates; observation and reward say where it is."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(3, start=-1)

    def __init__(self, length: int = 3) -> None:
        self.length = length
        self.count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.array([0, 0.1], np.float32), {}

    def step(self, action):
        self.count += 1
        obs = np.array([self.count, 0.1], np.float32)
        return obs, self.count / 10, self.count >= self.length, False, {"speed": 0.5}


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    settings = read_settings({"log": "sqlite:log.db", "index": "sqlite:index.db"})
    with open_services(settings, create=True) as opened:
        opened.initialise(partitions=2)
        yield opened


def sent(services) -> tuple[list[dict], list[dict]]:
    """The transitions and the heartbeats on the log; every message must be one that ingest accepts."""
    layout = Layout(log="")
    table = TaskTable(services.log, layout)
    table.refresh()
    rows, beats = [], []
    for batch in messages(services.log, "transitions"):
        assert codec.check(batch, table, layout).rejected == []
        for value in batch.values:
            row = json.loads(value)
            (beats if "heartbeat" in row else rows).append(row)
    return rows, beats


def test_steps_become_transitions(services, caplog):
    env = record(Counter(), task="count", log="sqlite:log.db", agent_id="a1", reward_terms=["speed"], clock=Ticks())
    for _ in range(2):
        env.reset()
        for i in range(3):
            env.policy_version = 7
            env.log_prob = -0.5 if i == 0 else None
            env.step(-1 + i)
    env.close()
    rows, beats = sent(services)
    assert caplog.records == [], "what could be closed is closed"
    assert len(rows) == 6
    assert rows[1] == {
        "schema_version": 1,
        "task": "count",
        "agent_id": "a1",
        "episode_id": f"{T0 + 100}-0",
        "step": 1,
        "ts": T0 + 300,
        "obs": [1.0, 0.1],
        "action": 1,
        "reward": 0.2,
        "next_obs": [2.0, 0.1],
        "terminated": False,
        "truncated": False,
        "reward_terms": {"speed": 0.5},
        "policy_version": 7,
    }
    assert [row["step"] for row in rows] == [0, 1, 2] * 2
    assert [row.get("log_prob") for row in rows] == [-0.5, None, None] * 2
    assert [row["terminated"] for row in rows] == [False, False, True] * 2
    assert len({row["episode_id"] for row in rows}) == 2
    last = rows[-1]["ts"]
    assert [beat["ts"] for beat in beats] == [last - last % 10_000 + 15_000] * 2, "one a partition, window and grace"


@pytest.mark.parametrize("bad", [np.zeros(5, np.float32), ["a", "b"], None])
def test_an_observation_of_another_shape_loses_no_step(services, bad):
    """It is refused as it comes; what was recorded before is sent, and recording goes on with an episode anew."""

    class Liar(Counter):
        def step(self, action):
            obs, *rest = super().step(action)
            return bad if self.count == 3 else obs, *rest

    env = record(Liar(length=9), task="count", log="sqlite:log.db", agent_id="a1", clock=Ticks())
    env.reset()
    env.step(0)
    env.step(0)
    with pytest.raises(EnvironmentFailedError, match=r"agent a1: the observation that step 2 gave .* (2|is 2)"):
        env.step(0)
    env.step(0)
    with pytest.raises(SettingsError, match="the action 4294967296 can't be recorded; the space has 3 choices"):
        env.step(2**32)
    env.reset()
    env.step(0)
    env.close()
    rows, _ = sent(services)
    assert [(row["step"], row["obs"][0]) for row in rows] == [(0, 0.0), (1, 1.0), (0, 0.0)]


def test_the_windows_stay_open_until_their_time_has_come(services):
    env = record(Counter(), task="count", log="sqlite:log.db")
    env.reset()
    env.step(0)
    env.close()
    _, beats = sent(services)
    end, newest = 0, 0
    for batch in messages(services.log, "transitions"):
        newest = max(newest, int(batch.append_ts.max()))
        end = max(end, *(json.loads(value)["ts"] for value in batch.values))
    assert end <= newest, "a heartbeat is never ahead of the log's clock"
    assert len(beats) == 2


def test_what_closes_the_last_windows_is_said(services, caplog):
    """The line to send is a heartbeat that ingest accepts, of the time at which the window closes."""
    env = record(Counter(), task="count", log="sqlite:log.db", agent_id="a1")
    env.reset()
    env.step(0)
    env.close()
    (told,) = [one.getMessage() for one in caplog.records if one.name.endswith("record.writer")]
    (line,) = re.findall(r"echo '(.*)' \| headrace produce -", told)
    services.log.send([Record("transitions", b"a1", line.encode())])
    (row,), beats = sent(services)
    last = row["ts"] - row["ts"] % 10_000 + 15_000
    assert [beat["agent_id"] for beat in beats if beat["ts"] == last] == ["a1"]


def test_closing_twice_sends_one_heartbeat_a_partition(services):
    env = record(Counter(), task="count", log=services.log, clock=Ticks())
    env.reset()
    env.step(0)
    env.close()
    env.close()
    assert [len(found) for found in sent(services)] == [1, 2]
    services.log.topic("tasks")  # a log that was handed in stays open


def test_a_vector_environments_autoreset_rows_are_left_out(services):
    vector = SyncVectorEnv([lambda: Counter(2), lambda: Counter(3)], autoreset_mode=AutoresetMode.NEXT_STEP)
    env = record(vector, task="count", log=services.log, agent_id="a", clock=Ticks())
    env.reset()
    for _ in range(7):
        env.step(np.array([0, 1]))
    env.close()
    rows, _ = sent(services)
    steps = {name: [(r["step"], r["obs"][0]) for r in rows if r["agent_id"] == name] for name in ("a-0", "a-1")}
    assert steps["a-0"] == [(0, 0), (1, 1), (0, 0), (1, 1), (0, 0)]
    assert steps["a-1"] == [(0, 0), (1, 1), (2, 2), (0, 0), (1, 1), (2, 2)]


def test_other_autoresets_are_refused(services):
    vector = SyncVectorEnv([Counter], autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(SettingsError, match="NEXT_STEP"):
        record(vector, task="count", log=services.log)


def test_a_known_task_is_used_and_another_shape_refused(services):
    for _ in range(2):
        record(Counter(), task="count", log=services.log, window_ms=5_000).close()
    assert record(Counter(), task="count", log=services.log).unwrapped.length == 3
    with pytest.raises(InvalidTaskError, match="it has 2 observations and 3 actions, the environment 4 and 2 actions"):
        record(gym.make("CartPole-v1"), task="count", log=services.log)


def test_a_log_that_was_not_made_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="create it with `headrace init`") as caught:
        record(Counter(), task="count", log="sqlite:none.db")
    assert len(caught.traceback) <= 3, "what is told is the sentence, not how headrace came to it"
    assert not (tmp_path / "none.db").exists()


def test_spaces_are_flattened():
    space = spaces.Dict(a=spaces.Discrete(3), b=spaces.Box(0, 1, (2, 2)))
    box = spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, np.inf], np.float32))
    spec = derive_task("t", NumericSpaces(space, box), Asked())
    assert spec.observations == tuple(f"x{i}" for i in range(7))
    assert isinstance(spec.actions, Bounds)
    assert spec.actions.low[0] == -1
    assert np.isfinite(spec.actions.low).all()
    assert spec.action_bounds == Bounds((-1.0, -np.inf), (1.0, np.inf))
    one_sided = spaces.Box(np.array([0.0], np.float32), np.array([3.4e38], np.float32))
    assert NumericSpaces(space, one_sided).bounds.tolist() == [[0.0], [np.inf]]
    assert derive_task("t", NumericSpaces(space, one_sided), Asked()).action_bounds == Bounds((0.0,), (np.inf,))
    assert derive_task("t", NumericSpaces(space, spaces.Discrete(2)), Asked()).action_bounds is None
    numbers = NumericSpaces(spaces.Discrete(4), spaces.Discrete(3, start=-1))
    assert derive_task("t", numbers, Asked()).actions == ("-1", "0", "1")


@pytest.mark.parametrize(
    ("observation_space", "action_space", "names", "message"),
    [
        (spaces.Sequence(spaces.Discrete(2)), spaces.Discrete(2), (), "wrap the environment"),
        (spaces.Discrete(2), spaces.MultiDiscrete([2, 2]), (), "neither one choice"),
        (spaces.Discrete(2), spaces.Discrete(2), ("one",), "1 names of observations; the space has 2"),
    ],
)
def test_spaces_that_are_no_numbers_are_refused(observation_space, action_space, names, message):
    with pytest.raises((SettingsError, InvalidTaskError), match=message):
        derive_task("t", NumericSpaces(observation_space, action_space), Asked(observations=names))


def test_the_flattened_step_is_accepted(services):
    class Odd(Counter):
        observation_space = spaces.Tuple((spaces.Discrete(3), spaces.Box(0, 1, (1,))))
        action_space = spaces.Box(-1, 1, (2,))

        def reset(self, *, seed=None, options=None):
            return (1, np.array([0.5], np.float32)), {}

        def step(self, action):
            return (2, np.array([0.25], np.float32)), 1.0, False, True, {}

    env = record(Odd(), task="odd", log=services.log, clock=Ticks())
    env.reset()
    env.step(np.array([0.1, -0.1], np.float32))
    env.close()
    rows, _ = sent(services)
    assert (rows[0]["obs"], rows[0]["next_obs"]) == ([0, 1, 0, 0.5], [0, 0, 1, 0.25])
    assert rows[0]["action"] == [0.1, -0.1]


class Elsewhere(Counter):
    """Registered by this module."""


gym.register("elsewhere/Elsewhere-v0", entry_point=f"{__name__}:Elsewhere", max_episode_steps=9)
gym.register("elsewhere/Script-v0", entry_point=Elsewhere)


@pytest.mark.parametrize(
    ("env", "found"),
    [
        (lambda: gym.make("CartPole-v1", render_mode="rgb_array"), ("CartPole-v1", {})),
        (lambda: gym.make("CartPole-v1", max_episode_steps=30), ("CartPole-v1", {"max_episode_steps": 30})),
        (lambda: gym.make_vec("CartPole-v1", 2), ("CartPole-v1", {})),
        (
            lambda: gym.make_vec("Pendulum-v1", 2, vector_kwargs={"autoreset_mode": AutoresetMode.NEXT_STEP}, g=9.0),
            ("Pendulum-v1", {"g": 9.0}),
        ),
        (
            lambda: gym.make("FrozenLake-v1", is_slippery=False),
            ("FrozenLake-v1", {"map_name": "4x4", "is_slippery": False}),
        ),
        (lambda: gym.wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1")), ("CartPole-v1", {})),
        (lambda: gym.make("elsewhere/Elsewhere-v0", length=4), (f"{__name__}:elsewhere/Elsewhere-v0", {"length": 4})),
        (lambda: gym.make("elsewhere/Elsewhere-v0", length=object()), (None, {})),
        (lambda: gym.make("elsewhere/Elsewhere-v0", length=np.inf), (None, {})),
        (lambda: gym.make("elsewhere/Script-v0"), (None, {})),
        (lambda: gym.wrappers.TransformReward(gym.make("CartPole-v1"), abs), (None, {})),
        (lambda: gym.wrappers.vector.TransformReward(gym.make_vec("CartPole-v1", 2), abs), (None, {})),
        (Counter, (None, {})),
    ],
)
def test_the_task_names_the_environment_where_its_id_makes_it_again(env, found):
    assert made_again_by(env()) == found


def test_the_recorded_task_names_its_environment(services):
    record(gym.make("CartPole-v1"), task="cart", log=services.log).close()
    spec = task_specs(services.log)["cart"]
    assert (spec.environment_id, misfit(spec)) == ("CartPole-v1", None)


class Spaced(Counter):
    """A counter with another action space."""

    def __init__(self, action_space):
        super().__init__()
        self.action_space = action_space


TWO, BOX = spaces.Discrete(2), spaces.Box(-1, 1, (1,))
OTHERWISE = {
    "other actions": (TWO, {"actions": ["left", "right"]}, TWO, {"actions": ["right", "left"]}, "are left, right, not"),
    "other observations": (TWO, {"observations": ["a", "b"]}, TWO, {"observations": ["b", "a"]}, "are a, b, not b, a"),
    "a term that it has not": (TWO, {"reward_terms": ["a"]}, TWO, {"reward_terms": ["b", "a"]}, "no reward terms b"),
    "other bounds": (BOX, {}, spaces.Box(-2, 2, (1,)), {}, "bounds are -1.0 to 1.0, the environment's -2.0 to 2.0"),
    "a vector for a choice": (TWO, {}, spaces.Box(-1, 1, (2,)), {}, "2 actions, the environment 2 and 2 dimensions"),
    "another first action": (TWO, {}, spaces.Discrete(2, start=-1), {}, "actions are 0, 1, not -1, 0"),
    "other windows": (TWO, {"window_ms": 5}, TWO, {"window_ms": 6}, "windows are of 5 ms, not 6"),
    "an older clock": (TWO, {}, TWO, {"clock": lambda: 7}, "oldest_ms is 100000000000, and the clock is at 7"),
}


@pytest.mark.parametrize(("space", "first", "other", "then", "told"), OTHERWISE.values(), ids=OTHERWISE)
def test_a_task_that_is_known_otherwise_is_refused(services, space, first, other, then, told):
    record(Spaced(space), task="t", log=services.log, **first).close()
    with pytest.raises(InvalidTaskError, match=f"task t is known, and is another than asked for here: .*{told}"):
        record(Spaced(other), task="t", log=services.log, **then)
    for same in (first, {}):
        record(Spaced(space), task="t", log=services.log, **same).close()


def test_bounds_of_a_task_file_are_those_of_the_space(services):
    """.1 as a double and as a float32, and what is infinite."""
    space = spaces.Box(np.array([-0.1, -np.inf], np.float32), np.array([0.1, np.inf], np.float32))
    largest = 3.4028234663852886e38
    add_task(services.log, TaskSpec("t", ("a", "b"), Bounds((-0.1, -largest), (0.1, largest)), 1_000))
    record(Spaced(space), task="t", log=services.log).close()


def test_a_virtual_clock_may_begin_at_0(services):
    """And begin anew: what was recorded before stays apart."""
    for _ in range(2):
        now_ms = iter(range(0, 10_000, 100))
        env = record(Counter(), task="count", log=services.log, clock=lambda now_ms=now_ms: next(now_ms))
        env.reset()
        env.step(0)
        env.close()
    rows, _ = sent(services)
    assert [row["ts"] for row in rows] == [100, 100]
    assert len({(row["episode_id"], row["step"]) for row in rows}) == 2


@pytest.mark.parametrize("clock", [lambda: T0 // 1000, lambda: T0 / 1000])
def test_a_clock_of_seconds_is_refused(services, clock):
    with pytest.raises(InvalidTaskError, match=r"task count: the clock gives seconds, 1700000000.*; give milliseconds"):
        record(Counter(), task="count", log=services.log, clock=clock)


@pytest.mark.parametrize(("high", "good"), [(5.0, True), (1.0, False)])
def test_bounds_of_observations_hold_what_the_environment_gives(services, high, good):
    """A side that the environment does not bound may be bounded by the task."""

    class Bounded(Counter):
        observation_space = spaces.Box(np.array([0, -np.inf], np.float32), np.array([5, np.inf], np.float32))

    spec = TaskSpec("t", ("a", "b"), ("l", "m", "r"), 1_000, bounds=Bounds((0.0, -9.0), (high, 9.0)))
    add_task(services.log, spec)
    if good:
        record(Bounded(), task="t", log=services.log, actions=["l", "m", "r"]).close()
    else:
        with pytest.raises(
            InvalidTaskError, match=r"observations' bounds are 0.0, -9.0 to 1.0, 9.0, the environment's"
        ):
            record(Bounded(), task="t", log=services.log)


class Telling(Counter):
    """Gives the rewards and infos that it is given, one a step."""

    def __init__(self, *steps):
        super().__init__(length=100)
        self.steps = list(steps)

    def step(self, action):
        obs, _, terminated, truncated, _ = super().step(action)
        reward, info = self.steps.pop(0)
        return obs, reward, terminated, truncated, info


def test_a_vector_environments_terms_are_those_that_were_told(services):
    """Where an environment tells nothing its place is filled with 0: that is no term."""
    told = [[{"cost": -2.0}] * 3, [{"cost": -5}, {}, {"cost": -5}], [{}] * 3]
    vector = SyncVectorEnv([lambda infos=infos: Telling(*((1.0, info) for info in infos)) for infos in told])
    env = record(vector, task="told", log=services.log, reward_terms=["cost"], clock=Ticks())
    env.reset()
    for _ in range(3):
        env.step(np.zeros(3, int))
    env.close()
    found = [[r.get("reward_terms", {}).get("cost") for r in of_agent(services, f"agent-{i}")] for i in range(3)]
    assert found == [[-2.0] * 3, [-5.0, None, -5.0], [None] * 3]


def of_agent(services, agent_id):
    return [row for row in sent(services)[0] if row["agent_id"] == agent_id]


@pytest.mark.parametrize("vector", [False, True])
def test_what_is_not_finite_is_sent_as_it_is_and_rejected(services, vector):
    """Nothing that was told becomes absent, null or another number; but NaN in an array of log_prob is untold."""
    cost = {"cost": -1.0}
    steps = [(1.0, cost), (np.nan, cost), (1e39, cost), (1.0, {"cost": np.inf}), (1.0, {"cost": np.nan})]
    inner = Telling(*steps, (1.0, cost), (1.0, cost), (1.0, {}))
    env = SyncVectorEnv([lambda: inner]) if vector else inner
    env = record(env, task="odd", log=services.log, reward_terms=["cost"], clock=Ticks())
    env.reset()
    for log_prob in (*[-0.5] * 5, -np.inf, np.nan, None):
        env.log_prob = [log_prob] if vector else log_prob
        env.step(np.zeros(1, int) if vector else 0)
    env.close()
    table = TaskTable(services.log, Layout(log=""))
    table.refresh()
    batches = list(messages(services.log, "transitions"))
    checked = [codec.check(batch, table, Layout(log="")) for batch in batches]
    assert sorted(batch.step.tolist() for one in checked for batch in one.batches) == [[0, 6, 7] if vector else [0, 7]]
    reasons = {
        json.loads(batch.values[r.position])["step"]: r.reason.partition(":")[0].partition(",")[0]
        for batch, one in zip(batches, checked, strict=True)
        for r in one.rejected
    }
    assert [reasons[step] for step in sorted(reasons)] == [
        "reward is NaN",
        "reward is Infinity",
        "reward_terms.cost is Infinity",
        "reward_terms.cost is NaN",
        "log_prob is -Infinity",
        *([] if vector else ["log_prob is NaN"]),
    ]


@pytest.mark.parametrize("knows", [True, False])
def test_a_reset_of_some_begins_their_episodes_alone(services, knows):
    """Unless the environment does not know the mask, and has reset them all."""

    class Deaf(SyncVectorEnv):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)

    vector = (SyncVectorEnv if knows else Deaf)([lambda: Counter(9)] * 2)
    env = record(vector, task="count", log=services.log, clock=Ticks())
    env.reset()
    for _ in range(2):
        env.step(np.zeros(2, int))
    env.reset(options={"reset_mask": np.array([True, False])})
    env.step(np.zeros(2, int))
    env.close()
    places = [
        [(r["episode_id"].rpartition("-")[2], r["step"], r["obs"][0]) for r in of_agent(services, f"agent-{i}")]
        for i in range(2)
    ]
    begun = [("0", 0, 0.0), ("0", 1, 1.0), ("1", 0, 0.0)]
    assert places == [begun, [("0", 0, 0.0), ("0", 1, 1.0), ("0", 2, 2.0)] if knows else begun]


def test_an_episode_that_has_ended_is_not_begun_by_a_reset_of_others(services):
    """Its autoreset comes with the next step, which is none of its own."""
    env = record(SyncVectorEnv([lambda: Counter(9), lambda: Counter(1)]), task="count", log=services.log, clock=Ticks())
    env.reset()
    env.step(np.zeros(2, int))
    env.reset(options={"reset_mask": np.array([True, False])})
    env.step(np.zeros(2, int))
    env.step(np.zeros(2, int))
    env.close()
    assert [(row["step"], row["obs"][0]) for row in of_agent(services, "agent-1")] == [(0, 0.0), (0, 0.0)]


def test_an_action_is_recorded_as_it_was_given(services):
    """Whatever the environment, or the caller later, writes into its array."""

    class Doubling(Counter):
        action_space = spaces.Box(-1, 1, (1,))

        def step(self, action):
            action *= 2
            return super().step(0)

    env = record(Doubling(), task="double", log=services.log, clock=Ticks())
    env.reset()
    action = np.array([0.25], np.float32)
    env.step(action)
    action[:] = 0.75
    env.close()
    assert sent(services)[0][0]["action"] == [0.25]


def test_what_is_not_closed_is_sent_all_the_same(services):
    env = record(Counter(), task="count", log=services.log, clock=Ticks())
    env.reset()
    env.step(0)
    assert sent(services) == ([], [])
    del env
    gc.collect()
    assert [len(found) for found in sent(services)] == [1, 2]
