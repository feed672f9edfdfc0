"""Train a policy in an environment and store it, with all that it takes to train it again."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final

import msgspec
import torch

from headrace.learners import seeds
from headrace.learners.checkpoint import pack, weights_hash
from headrace.learners.simulate.curve import CurvePoint, Trained
from headrace.learners.simulate.environments import ENVIRONMENTS
from headrace.learners.simulate.training import TrainingConfig, train, training_for
from headrace.pipelines.policies.cut_short import train_unless_stopped
from headrace.pipelines.policies.evaluate import evaluated, task_of
from headrace.schemas.errors import LearnerDivergedError
from headrace.schemas.ports import PolicyStore
from headrace.schemas.records import PolicyVersion
from headrace.schemas.scenarios import Scenario

SELECTION_TRACES: Final = 512
SELECTION_EPISODES: Final = 20
"""Of environments that are run one episode after another."""
_WARM_UP_SHARE: Final = 0.05
_LEAST_STEPS: Final = 1_024
_MARGIN: Final = 0.95


@dataclass(frozen=True, slots=True)
class Order:
    """What to train. steps: of the environment, all episodes together; or seconds, from which steps are made.

    scenarios: variations of the environment that some of the episodes are of.
    """

    algorithm: str
    environment: str
    seed: int
    steps: int | None
    seconds: float | None
    task: str | None = None
    plain: bool = False
    scenarios: tuple[Scenario, ...] = ()


def run_training(
    store: PolicyStore, order: Order, on_start: Callable[[int], None], on_point: Callable[[CurvePoint], None]
) -> dict[str, Any]:
    """Train, store the policy as the task's next version, and return what the command prints.

    Nothing is stored unless all of it went well; what Ctrl-C stops is stored as it was at its last point. on_start is
    told the number of steps.

    Raises SettingsError, EnvironmentFailedError, LearnerDivergedError, or what the store raises.
    """
    torch.set_num_threads(1)  # bits must not depend on how many cores there are
    started_s = time.perf_counter()
    task = order.task or task_of(order.environment)
    store.versions(task)  # a name or a store that won't do is told now, not after the training
    training = training_for(order.algorithm, order.environment)
    training = training.plain() if order.plain else training
    steps = order.steps or _steps_in(training, order, started_s)
    on_start(steps)
    trained, stopped = train_unless_stopped(training, order.environment, order.seed, steps, on_point, order.scenarios)
    version = _stored(store, task, order, training, steps, trained, stopped)
    return {
        "version": f"{version.task}@{version.version}",
        "hash": version.weights_hash,
        "algorithm": order.algorithm,
        "environment": order.environment,
        "seed": order.seed,
        "steps": steps,
        "stopped": stopped,
        "environment_steps": trained.steps,
        "traces": _traces(order),
        "seconds": round(time.perf_counter() - started_s, 2),
        "mean_return": version.evaluation.get("policy"),
        "curve": [{"steps": point.steps, "mean_return": point.mean_return} for point in trained.curve],
    }


def _steps_in(training: TrainingConfig, order: Order, started_s: float) -> int:
    """How many steps fit into the seconds, by a short warm-up whose result is thrown away."""
    assert order.seconds is not None
    training = training.without_wait()  # else the warm-up might only fill replay
    enough_s = max(0.2, _WARM_UP_SHARE * order.seconds)
    steps, elapsed_s = _LEAST_STEPS // 2, 0.0
    while elapsed_s < enough_s:
        steps *= 2
        before_s = time.perf_counter()
        train(training, order.environment, order.seed, steps)
        elapsed_s = time.perf_counter() - before_s
    remaining_s = order.seconds - (time.perf_counter() - started_s)
    return max(_LEAST_STEPS, int(steps / elapsed_s * remaining_s * _MARGIN))


def _stored(
    store: PolicyStore,
    task: str,
    order: Order,
    training: TrainingConfig,
    steps: int,
    trained: Trained,
    stopped: int | None,
) -> PolicyVersion:
    weights = pack(trained.arrays)
    mean = float(evaluated(weights, order.environment, _traces(order), seeds.SELECTION.first).mean())
    if math.isnan(mean):
        raise LearnerDivergedError(f"the trained policy's mean return in {order.environment} is not a number")
    cut: dict[str, Any] = {} if stopped is None else {"stopped": stopped}
    varied = {"scenarios": msgspec.to_builtins(order.scenarios)} if order.scenarios else {}
    newest = max((one.version for one in store.versions(task)), default=0)
    version = PolicyVersion(
        task=task,
        version=newest + 1,
        parent=None,
        algorithm=order.algorithm,
        config={"source": "simulation", "environment": order.environment, "steps": steps}
        | cut
        | varied
        | _fields(training),
        seed=order.seed,
        code_version=metadata.version("headrace"),
        weights_hash=weights_hash(weights),
        environment_steps=trained.steps,
        updates=trained.updates,
        lineage=[],
        evaluation={"policy": mean},
        difference=None,
        promoted=False,
        reason=f"trained in simulation: {order.environment}, seed {order.seed}, {steps} steps"
        + (f", stopped by a person at {stopped}" if cut else ""),
    )
    store.put(version, weights)
    return version


def _traces(order: Order) -> int:
    return SELECTION_TRACES if order.environment in ENVIRONMENTS else SELECTION_EPISODES


def _fields(training: TrainingConfig) -> dict[str, Any]:
    fields = dataclasses.asdict(training)
    inner: dict[str, Any] = fields.pop("config")
    return fields | inner
