"""Acting for agents that ask over the network: the versions that serve, loaded, and what they decide.

A thread looks what serves, and puts a loaded version in the old one's place as a whole: a request has one or the other.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import simdjson
from numpy.typing import NDArray

from headrace.learners.acting import BoxPolicy, Policy
from headrace.pipelines.act.versions import Version, loaded
from headrace.pipelines.policies.control import require_fit
from headrace.pipelines.query.similar import not_finite
from headrace.pipelines.serve.view import View
from headrace.schemas.errors import HeadraceError, RejectedDataError, UnavailableError
from headrace.schemas.policy_versions import acts_by
from headrace.schemas.ports import PolicyStore
from headrace.schemas.records import ServingPolicy, TaskSpec

logger = logging.getLogger(__name__)

LOOK_S: Final = 0.1
AGAIN_S: Final = 2.0
"""When what could not be loaded is tried again."""
MOST_OBSERVATIONS: Final = 4_096

_rows: Final = msgspec.json.Decoder(list[list[float]]).decode
_parser: Final = simdjson.Parser()  # for the event loop's thread alone


class Decisions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a version decides for each observation.

    actions: numbers of discrete actions, else a list of numbers each. names: of discrete actions. margins: by how much
    the best action's value (of a softmax policy: its logit) is above the next one's; absent for continuous actions,
    and where there is one action alone.
    """

    task: str
    version: int
    actions: list[int | list[float]]
    names: list[str] | None = None
    margins: list[float] | None = None


@dataclass(frozen=True, slots=True)
class _Serving:
    record: ServingPolicy
    versions: dict[int, Version]


class Deciders:
    """What serves each task, loaded. store: gives the policy store, or raises."""

    def __init__(self, view: View, store: Callable[[], PolicyStore]) -> None:
        self._view = view
        self._store = store
        self._serving: dict[str, _Serving] = {}
        self._trouble: dict[str, tuple[float, str]] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="deciders", daemon=True)

    def start(self) -> None:
        """Begin to follow, by a thread."""
        self._thread.start()

    def close(self) -> None:
        """Follow no more."""
        self._closed.set()
        self._thread.join(timeout=1.0)

    def version(self, task: str, agent_id: str) -> Version:
        """Return the version that an agent acts by; raises UnavailableError where there is none."""
        serving = self._serving.get(task)
        number = acts_by(serving.record, agent_id) if serving else 0
        if serving is None or not number:
            raise UnavailableError(self._why(task))
        return serving.versions[number]

    def numbers(self) -> dict[str, int]:
        """Return the version that decides, by task."""
        return {task: serving.record.version for task, serving in self._serving.copy().items()}

    def _why(self, task: str) -> str:
        view, trouble = self._view, self._trouble.get(task)
        if trouble:
            return trouble[1]
        if view.trouble:
            return f"what serves {task} is not known: {view.trouble}"
        return f"no version serves {task}: `headrace policy list` shows what was made, and why not"

    def _run(self) -> None:
        while not self._closed.wait(LOOK_S):
            for task, known in [*self._view.tasks.items()]:
                if known.decisions:
                    self.follow(task, known.decisions[-1])

    def follow(self, task: str, record: ServingPolicy) -> None:
        """Take what serves a task by a record; what can't be loaded is tried again, and what is there acts on."""
        known = self._serving.get(task)
        if known and known.record is record:
            return
        if time.monotonic() - self._trouble.get(task, (-AGAIN_S, ""))[0] < AGAIN_S:
            return
        try:
            self._serving[task] = self._loaded(record, known.versions if known else {})
            self._trouble.pop(task, None)
        except HeadraceError as error:
            self._tell(task, record, str(error))
        except Exception as error:  # what a thread dies of nobody sees
            logger.exception("%s@%d can't be loaded", task, record.version)
            self._tell(task, record, f"{type(error).__name__}: {error}")

    def _tell(self, task: str, record: ServingPolicy, trouble: str) -> None:
        told = f"{task}@{record.version} is to serve, and can't be loaded: {trouble}"
        if self._trouble.get(task, (0.0, ""))[1] != told:
            logger.warning("%s", told)
        self._trouble[task] = time.monotonic(), told

    def _loaded(self, record: ServingPolicy, known: dict[int, Version]) -> _Serving:
        wanted = {record.version: record.weights_hash}
        if record.canary:
            wanted[record.canary.version] = record.canary.weights_hash
        versions: dict[int, Version] = {}
        for number, expected in wanted.items():
            if number and number in known and known[number].hash == expected:
                versions[number] = known[number]
            elif number:
                versions[number] = loaded(record.task, number, expected, 0, self._store().weights(record.task, number))
                require_fit(self._view.spec(record.task), versions[number].policy, record.task, number)
                logger.info("%s@%d decides", record.task, number)
        return _Serving(record, versions)


def observations(text: bytes, spec: TaskSpec) -> NDArray[np.float32]:
    """Read float32[B, D] of a JSON array of arrays; raises RejectedDataError, which names the width or the place."""
    found = _parsed(text, spec.width)
    if found is None:  # what is wrong, or written as simdjson has it not
        try:
            rows = _rows(text)
        except msgspec.MsgspecError as error:
            raise RejectedDataError(f"obs: {error}: an array of observations is expected, each an array") from error
        found = np.array(_checked(rows, spec), np.float64).reshape(len(rows), spec.width)
    if not 0 < len(found) <= MOST_OBSERVATIONS:
        raise RejectedDataError(f"obs: {len(found)} observations; 1 to {MOST_OBSERVATIONS} are allowed in a request")
    with np.errstate(over="ignore"):
        obs = found.astype(np.float32)
    if (fault := not_finite(obs, found, spec)) is not None:
        raise RejectedDataError(f"obs: {fault}")
    return obs


def _parsed(text: bytes, width: int) -> NDArray[np.float64] | None:
    """Read by simdjson, in a third of the time; None for what is no array of rows of so many numbers."""
    try:
        array = _parser.parse(text)
        if not isinstance(array, simdjson.Array) or any(
            not isinstance(row, simdjson.Array) or len(row) != width for row in array
        ):
            return None
        return np.frombuffer(array.as_buffer(of_type="d"), np.float64).reshape(len(array), width)
    except (ValueError, TypeError, RuntimeError):
        return None


def _checked(rows: list[list[float]], spec: TaskSpec) -> list[list[float]]:
    for place, row in enumerate(rows):
        if len(row) != spec.width:
            names = ", ".join(spec.observations[:8]) + (", ..." if spec.width > 8 else "")
            raise RejectedDataError(
                f"obs[{place}] has {len(row)} numbers: an observation of {spec.task} has {spec.width} ({names})"
            )
    return rows


def decide(version: Version, obs: NDArray[np.float32], spec: TaskSpec) -> Decisions:
    """Return the greedy actions for float32[B, D]."""
    policy = version.policy
    if isinstance(policy, BoxPolicy):
        return Decisions(version.task, version.number, policy.act(obs).astype(np.float64).tolist())
    values = policy.q_values(obs)
    actions: list[int | list[float]] = values.argmax(axis=1).tolist()
    labels: Any = spec.actions
    names = [labels[action] for action in actions]
    return Decisions(version.task, version.number, actions, names, _margins(policy, values))


def _margins(policy: Policy, values: NDArray[np.floating]) -> list[float] | None:
    if policy.actions < 2:
        return None
    two = np.partition(values, -2, axis=1)[:, -2:].astype(np.float64)
    margins: list[float] = np.maximum(two[:, 1] - two[:, 0], 0.0).tolist()
    return margins
