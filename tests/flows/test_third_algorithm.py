"""A third algorithm, from this file alone: by its entry it trains, streams, is gated, replays and is explained."""

from dataclasses import dataclass, field, make_dataclass, replace
from importlib import import_module
from typing import ClassVar

import msgspec
import numpy as np
import pytest
from stream import SETTINGS, learn_with_kills, outcome, uncached, undisturbed

from headrace.learners.acting import Policy
from headrace.learners.cloud import ENVIRONMENT_ID
from headrace.learners.explain.template import TemplateNarrator
from headrace.learners.simulate.curve import Trained, seeds
from headrace.learners.simulate.training_environments import training_environment
from headrace.learners.stream.algorithms import ALGORITHMS, Algorithm
from headrace.learners.stream.training import Training
from headrace.learners.stream.trajectories import spanning
from headrace.pipelines.explain.job import Explainer, run_until_caught_up
from headrace.pipelines.fleet.job import cloud_task
from headrace.pipelines.policies.retrain import retrain
from headrace.pipelines.policies.train import Order, run_training
from headrace.pipelines.tasks import TaskTable
from headrace.pipelines.topics import messages
from headrace.schemas.records import Report
from headrace.sinks.files.policies import FilePolicyStore


@dataclass(frozen=True)
class RidgeConfig:
    """Each action's return over some steps, by ridge regression on the observation."""

    algorithm: ClassVar[str] = "ridge"
    span: int = 10
    discount: float = 0.9
    penalty: float = 1.0


@dataclass(frozen=True)
class RidgeState:
    """products: float64[A, D + 1, D + 1]; sums: float64[A, D + 1]."""

    config: RidgeConfig
    products: np.ndarray
    sums: np.ndarray


def fresh(config, width, actions):
    return RidgeState(config, np.zeros((actions, width + 1, width + 1)), np.zeros((actions, width + 1)))


def update(state, obs, action, target):
    """Add rows to the sums, in place."""
    inputs = np.concatenate([obs, np.ones((len(obs), 1))], axis=1).astype(np.float64)
    for one in range(len(state.sums)):
        rows = inputs[action == one]
        state.products[one] += rows.T @ rows
        state.sums[one] += rows.T @ target[action == one]


def policy_arrays(state):
    penalty = state.config.penalty * np.eye(state.sums.shape[1])
    weight = np.linalg.solve(state.products + penalty, state.sums[..., None])[..., 0].T.astype(np.float32)
    width = len(weight) - 1
    value = {"value.weight": np.zeros((width, 1), np.float32), "value.bias": np.zeros(1, np.float32)}
    return value | {"advantage.weight": weight[:-1].copy(), "advantage.bias": weight[-1].copy()}


@dataclass(frozen=True)
class RidgeTraining:
    """In a simulator: random actions, and the sums of what they earned at once."""

    config: RidgeConfig = field(default_factory=RidgeConfig)
    environments: int = 16

    def plain(self):
        return self

    def without_wait(self):
        return self

    def train(self, environment, seed, steps, follow, scenarios=()):
        environment_seed, _, rng = seeds(seed)
        made = training_environment(environment, self.environments, environment_seed, scenarios=scenarios)
        state = fresh(self.config, made.width, made.actions)
        curve, taken = follow(made), 0
        while taken < steps:
            obs, action = made.obs, rng.integers(made.actions, size=made.count)
            step = made.step(action)
            curve.add(step)
            update(state, obs, action, step.reward)
            taken += made.count
            state = curve.mark(taken, {}, state, taken, policy_arrays)
        return Trained(policy_arrays(state), taken, taken, curve.finish())


class StreamedRidge(Training):
    """On a stream: every row enters the sums once, and none is held."""

    held_rows = 0

    @property
    def updates(self):
        return self.counts.sampled

    def _add(self, rows):
        spanned = spanning(rows, self.config.span, self.config.discount)
        update(self.state, spanned.obs, spanned.action, spanned.reward)
        self.counts.sampled += len(rows)
        self._learned({"rows": float(len(rows))})

    def _update(self):
        pass

    def _forget(self):
        pass

    def let_go(self):
        return True

    def policy_arrays(self):
        return policy_arrays(self.state)

    def state_to_arrays(self):
        config = {"span": self.config.span, "discount": self.config.discount, "penalty": self.config.penalty}
        meta = {"algorithm": "ridge", "config": config}
        return {"products": self.state.products.copy(), "sums": self.state.sums.copy()}, meta


def init(config, spec, seed):
    return fresh(config, spec.width, spec.action_count)


def load(arrays, meta):
    return RidgeState(RidgeConfig(**meta["config"]), arrays["products"], arrays["sums"])


ALGORITHM = Algorithm(streamed=RidgeConfig(), simulated=RidgeTraining(), init=init, load=load, training=StreamedRidge)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """All that it takes: one entry."""
    monkeypatch.setitem(ALGORITHMS, "ridge", __name__)


LEARNED = {"config": RidgeConfig()}


@pytest.mark.parametrize("environment", [ENVIRONMENT_ID, "CartPole-v1"])
def test_it_trains_in_a_simulator_and_replays(tmp_path, environment):
    """`train` stores a version of its name, whose record is enough to train it again to the bit."""
    store = FilePolicyStore(tmp_path)
    order = Order("ridge", environment, seed=1, steps=4_000, seconds=None)
    points = []
    result = run_training(store, order, points.append, points.append)
    task, _, number = result["version"].partition("@")
    (version,) = store.versions(task)
    assert version.algorithm == "ridge"
    assert version.config["steps"] == 4_000  # of the environment
    assert len(points) > 10
    assert retrain(store, None, task, None, int(number)).equal


def test_it_streams_and_every_version_replays(stream):
    """Versions name it and their lineage; retrained from that, each comes to the same weights."""
    stream.learn(**LEARNED)
    versions, weights, decided, _ = outcome(stream)
    assert {one.algorithm for one in versions} == {"ridge"}
    assert len(set(weights)) == len(versions) == 4
    assert decided == [1, 2, 3, 4]
    for version in versions:
        assert retrain(stream.store, uncached(stream), "cloud", cloud_task(), version.version).equal


def test_killed_it_goes_on_from_its_checkpoint(recorded, stream, tmp_path):
    """The checkpoint is found under its name, and leads to the weights of an undisturbed run."""
    expected = undisturbed(recorded, tmp_path / "undisturbed", **LEARNED)
    assert learn_with_kills(stream, 1, 12, **LEARNED)
    assert outcome(stream) == expected


def test_the_gate_judges_it(stream):
    """A candidate is compared on the gate's traces, and serves only if it wins."""
    stream.learn(**LEARNED, settings=replace(SETTINGS, gate="simulator"))
    for version in stream.store.versions("cloud"):
        assert version.difference is not None
        assert "paired traces" in version.reason
        assert version.promoted == (version.difference.low > 0.0)


def test_what_serves_is_explained_and_agents_act_by_it(stream):
    """A promoted version has a report of facts, and the fleet acts with it."""
    stream.learn(**LEARNED)
    job = Explainer(
        stream.log,
        stream.store,
        stream.chunks,
        TaskTable(stream.log, stream.layout),
        TemplateNarrator(),
        until_caught_up=True,
    )
    run_until_caught_up(job)
    job.close()
    reports = [msgspec.json.decode(v, type=Report) for batch in messages(stream.log, "reports") for v in batch.values]
    (report,) = [one for one in reports if one.kind == "version" and one.policy_version == 4]
    assert {"return.policy", "return.vs-serving", "differs.rate_rule"} <= {one.fact_id for one in report.facts.facts}
    fleet = stream.fleet(seed=9)
    fleet.emit_window(stream.advance)
    assert fleet.version == 4
    assert not Policy.from_bytes(stream.store.weights("cloud", 4)).softmax


@dataclass(frozen=True)
class NamedAsARecord(RidgeConfig):
    """A hyper-parameter that a version's record calls something else by."""

    steps: int = 10


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("simulated", RidgeTraining(NamedAsARecord())),
        ("streamed", make_dataclass("C", [("gate", str, "no")], bases=(RidgeConfig,), frozen=True)()),
        ("simulated", make_dataclass("T", [("penalty", float, 2.0)], bases=(RidgeTraining,), frozen=True)()),
    ],
)
def test_a_name_that_a_record_could_not_tell_apart_is_refused(kind, value):
    """A version's record is flat: two settings of one name would be one, and replay would take the wrong."""
    with pytest.raises(ValueError, match=r"steps|gate|penalty"):
        replace(ALGORITHM, **{kind: value})


@pytest.mark.parametrize("name", ["train", "demo", "run_learn"])
def test_the_commands_offer_the_tables_names(name):
    command = import_module(f"headrace.pipelines.cli.{name}").command
    (choice,) = [one for one in command.params if one.name == "algorithm"]
    assert {"dqn", "ppo"} <= set(choice.type.choices) <= set(ALGORITHMS)
