"""headrace train and evaluate as a user has them: reproducible, comparable, and nothing half-written."""

import json

import gymnasium
import numpy as np
import pytest

from headrace.schemas.errors import HeadraceError

CLOUD = "headrace/CloudService-v0"


class Broken(gymnasium.Env):
    """Raises at its fifth step, or tells NaN, or always pays the same."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, how="raises"):
        self.how, self.steps = how, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.how == "raises" and self.steps > 5:
            raise RuntimeError("the valve is stuck")
        reward = {"nan": np.nan, "huge": 1e30}.get(self.how, 1.0)
        return np.zeros(3, np.float32), reward, False, self.steps % 50 == 0, {}


@pytest.fixture
def broken():
    """Registers test/Broken-v0, once for every way to be broken."""
    names = {how: f"test/Broken-{how}-v0" for how in ("raises", "nan", "constant")}
    for how, name in names.items():
        gymnasium.register(name, lambda how=how: Broken(how), disable_env_checker=True)
    yield names
    for name in names.values():
        del gymnasium.registry[name]


def test_the_same_steps_and_seed_give_the_same_policy(shell):
    """Hash by hash; another seed's is another. Versions count on, and each says where it came from."""
    order = ("train", "ppo", "--steps", 10_240)
    first, again, other = (shell.json(*order, "--seed", seed) for seed in (3, 3, 4))
    assert [one["version"] for one in (first, again, other)] == ["cloud@1", "cloud@2", "cloud@3"]
    assert first["hash"] == again["hash"] != other["hash"]
    assert first["curve"] == again["curve"]
    assert first["curve"][-1]["steps"] >= first["steps"] == 10_240
    assert first["seconds"] > 0


def test_scenarios_vary_what_is_trained_on_and_are_replayed(shell):
    """With continuous actions; other weights than without, and the same ones again from the version's record."""
    (shell.folder / "heavy.json").write_text('[{"share": 0.5, "changes": {"g": 12.0}}]')
    order = ("train", "ppo", "--env", "Pendulum-v1", "--steps", 2_000)
    plain, varied = shell.json(*order), shell.json(*order, "--scenarios", "heavy.json")
    assert plain["hash"] != varied["hash"]
    shell.here("init")
    assert shell.json("policy", "replay", varied["version"])["equal"]
    (shell.folder / "wrong.json").write_text('{"g": 12.0}')
    with pytest.raises(HeadraceError, match="JSON array"):
        shell.here("train", "ppo", "--steps", "2000", "--scenarios", "wrong.json")


def test_an_advisor_proposes_scenarios(shell):
    """What it prints is a file for train; of an environment whose bounds nobody knows it proposes nothing."""
    found = shell.json("scenarios")
    assert [one["share"] for one in found] == [0.125] * 4
    assert {"flash": 8.0} in [one["changes"] for one in found]
    with pytest.raises(HeadraceError, match="by hand"):
        shell.here("scenarios", "--env", "Pendulum-v1")
    with pytest.raises(HeadraceError, match="proposes nothing"):
        shell.here("scenarios", "--advisor", "none:")


def test_policies_and_baselines_are_evaluated_on_the_same_traces(shell):
    """Unscaled returns, equal at every call; the first of many traces are the few."""
    shell.json("train", "ppo", "--steps", 10_240)
    order = ("evaluate", "--env", CLOUD, "--seed", 11)
    found = shell.json(*order, "--policy", "cloud@1", "--traces", 32)
    assert found == shell.json(*order, "--policy", "cloud@1", "--traces", 32)
    assert len(found["returns"]) == 32
    assert found["mean"] == pytest.approx(np.mean(found["returns"]))
    means = {}
    for name in ("static", "hpa", "rate_rule", "tuned_rule", "clairvoyant"):
        returns = shell.json(*order, "--baseline", name, "--traces", 64)["returns"]
        assert returns[:32] == shell.json(*order, "--baseline", name, "--traces", 32)["returns"]
        means[name] = np.mean(returns)
    assert means["hpa"] < means["rate_rule"] < means["tuned_rule"] < means["clairvoyant"]
    assert means["hpa"] < found["mean"] < 100


@pytest.mark.parametrize(
    ("algorithm", "environment", "task"),
    [("ppo", "CartPole-v1", "cartpole"), ("dqn", "CartPole-v1", "cartpole"), ("ppo", "Pendulum-v1", "pendulum")],
)
def test_gymnasiums_environments(shell, algorithm, environment, task):
    """One choice or a vector of actions: trained, stored, evaluated by the same commands."""
    made = shell.json("train", algorithm, "--env", environment, "--steps", 2_048)
    assert made["version"] == f"{task}@1"
    found = shell.json("evaluate", "--policy", f"{task}@1", "--env", environment, "--traces", 3)
    assert len(found["returns"]) == 3


def test_seconds_become_steps(shell):
    """The number is in the result, and gives the same policy again."""
    timed = shell.json("train", "dqn", "--env", "CartPole-v1", "--seconds", 4)
    again = shell.json("train", "dqn", "--env", "CartPole-v1", "--steps", timed["steps"])
    assert again["hash"] == timed["hash"]


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
@pytest.mark.parametrize(
    ("how", "told"), [("raises", "the valve is stuck"), ("nan", "not finite|nan"), ("constant", "nothing to learn")]
)
def test_a_broken_environment_is_named_and_nothing_is_stored(shell, broken, algorithm, how, told):
    with pytest.raises(HeadraceError, match=told):
        shell.here("train", algorithm, "--env", broken[how], "--steps", 2_048)
    assert not list(shell.folder.glob("**/*.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train", "ppo"), "--steps or --seconds"),
        (("train", "ppo", "--steps", 5, "--seconds", 5), "--steps or --seconds"),
        (("train", "ppo", "--env", "Nowhere-v7", "--steps", 5), "Nowhere"),
        (("train", "dqn", "--env", "Pendulum-v1", "--steps", 5), "discrete"),
        (("evaluate",), "--policy or --baseline"),
        (("evaluate", "--policy", "cloud@9"), "cloud@9"),
        (("evaluate", "--baseline", "magic"), "magic"),
        (("evaluate", "--baseline", "hpa", "--env", "CartPole-v1"), "random, constant"),
    ],
)
def test_misuse_is_told(shell, arguments, told):
    with pytest.raises(HeadraceError, match=told):
        shell.here(*arguments)


def test_what_is_no_policys_name_is_told(shell):
    assert b"write TASK@VERSION" in shell("evaluate", "--policy", "cloud", code=2).stderr


def test_a_policy_of_another_task_is_refused(shell):
    shell.json("train", "dqn", "--env", "CartPole-v1", "--steps", 1_000)
    for environment in (CLOUD, "Pendulum-v1"):
        with pytest.raises(HeadraceError, match="trained for another task"):
            shell.here("evaluate", "--policy", "cartpole@1", "--env", environment)


LAKE = {
    "task": "lake",
    "observations": [f"s{i}" for i in range(16)],
    "actions": ["left", "down", "right", "up"],
    "window_ms": 10_000,
    "environment": "FrozenLake-v1",
    "environment_kwargs": {"is_slippery": False},
}


def test_a_task_names_its_environment(shell):
    """It is trained and evaluated there, with what it is made with; one that does not fit is refused."""
    shell.json("init")
    for name, change, told in (
        ("typo.json", {"environment": "FrozenLak-v1"}, "task lake: .*Did you mean: `FrozenLake`"),
        ("kwargs.json", {"environment_kwargs": {"ice": 1}}, "task lake: .*unexpected keyword argument 'ice'"),
        ("width.json", {"observations": ["x"]}, "task lake: .* has 16 observations, the task names 1"),
        ("none.json", {"environment": None}, "there is no environment to make"),
    ):
        (shell.folder / name).write_text(json.dumps(LAKE | change))
        with pytest.raises(HeadraceError, match=told):
            shell.here("task", "add", name)
    (shell.folder / "lake.json").write_text(json.dumps(LAKE))
    shell.json("task", "add", "lake.json")
    made = shell.json("train", "dqn", "--task", "lake", "--steps", 1_024)
    assert (made["version"], made["environment"]) == ("lake@1", 'FrozenLake-v1{"is_slippery":false}')
    order = ("evaluate", "--traces", 8)
    assert shell.json(*order, "--policy", "lake@1")["environment"] == made["environment"]
    still = shell.json(*order, "--baseline", "constant", "--env", made["environment"])
    assert set(still["returns"]) == {0.0}  # dry ice: no constant action reaches the goal
