"""A task: what its transitions look like."""

import math
import re
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from headrace.schemas.errors import InvalidTaskError
from headrace.schemas.formats import BYTE_ORDER_MARK, no_json
from headrace.schemas.names import name_checks
from headrace.schemas.records.outcome import Outcome, outcome_checks
from headrace.schemas.records.stream import MAX_TS_MS

ID_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"


NO_BOUND: Final = 1e30
"""A bound of an action this far from 0 is none: JSON has no infinity, so task files say the largest float32."""


Id = Annotated[str, Meta(pattern=ID_PATTERN)]


class Bounds(Struct, frozen=True, forbid_unknown_fields=True):
    """Lowest and highest value allowed, one of each per dimension."""

    low: tuple[float, ...]
    high: tuple[float, ...]


class TaskSpec(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a task's transitions look like. It never changes: another version is another task.

    actions: names of the discrete actions, or the bounds of continuous ones. window_ms: length of the tumbling
    event-time windows. groups: into how many rows the agents of a window are bundled. environment: the Gymnasium
    environment that simulates the task, if there is one; environment_kwargs: of its making. learner: settings of its
    learner that are not to be as `headrace run learn` has them, by name (`headrace learner show` lists them). outcomes:
    what its people go by, of which windows and reports tell. oldest_ms: the earliest event time; what lies before March
    1973 is taken for seconds, unless a task says that it is meant.
    """

    task: Id
    observations: tuple[str, ...]
    actions: tuple[str, ...] | Bounds
    window_ms: int
    groups: int = 64
    reward_terms: tuple[str, ...] = ()
    bounds: Bounds | None = None
    environment: str | None = None
    environment_kwargs: dict[str, Any] = {}
    learner: dict[str, str | bool | int | float | tuple[int, ...]] = {}
    oldest_ms: int = 100_000_000_000
    outcomes: tuple[Outcome, ...] = ()
    schema_version: Literal[1] = 1

    @property
    def width(self) -> int:
        """The number of observation features, D."""
        return len(self.observations)

    @property
    def environment_id(self) -> str | None:
        """What headrace calls the environment: its id, and what it is made with as JSON behind it, if anything."""
        kwargs = msgspec.json.encode(self.environment_kwargs, order="sorted").decode()
        return self.environment and self.environment + (kwargs if self.environment_kwargs else "")

    @property
    def discrete(self) -> bool:
        """Whether actions are named, rather than vectors."""
        return not isinstance(self.actions, Bounds)

    @property
    def action_bounds(self) -> Bounds | None:
        """The bounds of continuous actions, infinite where there is none; None where actions are discrete."""
        if not isinstance(self.actions, Bounds):
            return None
        sides = (self.actions.low, self.actions.high)
        low, high = (tuple(math.copysign(math.inf, x) if abs(x) >= NO_BOUND else x for x in side) for side in sides)
        return Bounds(low, high)

    @property
    def action_count(self) -> int:
        """The number of discrete actions, or of action dimensions."""
        return len(self.actions.low) if isinstance(self.actions, Bounds) else len(self.actions)


def decode_task(data: bytes) -> TaskSpec:
    """Read a task file; raises InvalidTaskError, which names the field."""
    try:
        spec = msgspec.json.decode(data.removeprefix(BYTE_ORDER_MARK), type=TaskSpec)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(TaskSpec))
        reason = no_json(data, error)
        raise InvalidTaskError(f"task file: {reason}. A task file has the fields: {known}.") from error
    problem = task_problem(spec)
    if problem:
        raise InvalidTaskError(f"task {spec.task}: {problem}")
    return spec


def task_problem(spec: TaskSpec) -> str | None:
    """Say what is wrong with a well-typed task, None if nothing is."""
    checks = (
        (re.fullmatch(ID_PATTERN[1:-1], spec.task) and spec.task.strip("."), f"its name must match {ID_PATTERN}"),
        (0 < spec.width <= 4096, f"observations has {spec.width} names; 1 to 4096 are allowed"),
        (0 < spec.action_count <= 4096, f"actions has {spec.action_count} entries; 1 to 4096 are allowed"),
        (0 < spec.window_ms <= 86_400_000 * 31, f"window_ms is {spec.window_ms}; 1 to 31 days are allowed"),
        (0 <= spec.oldest_ms <= MAX_TS_MS, f"oldest_ms is {spec.oldest_ms}; 0 to {MAX_TS_MS} are allowed"),
        (0 < spec.groups <= 65_536, f"groups is {spec.groups}; 1 to 65,536 are allowed"),
        (len(spec.reward_terms) <= 64, f"reward_terms has {len(spec.reward_terms)} names; 64 are allowed"),
        *name_checks("observations", spec.observations),
        *name_checks("reward_terms", spec.reward_terms),
        *name_checks("actions", () if isinstance(spec.actions, Bounds) else spec.actions),
        (_bounds_ok(spec.bounds, spec.width), "bounds: low and high need one value per observation, low <= high"),
        (_bounds_ok(spec.actions, spec.action_count), "actions: low and high need the same length, low <= high"),
        (spec.environment or not spec.environment_kwargs, "environment_kwargs: there is no environment to make"),
        *outcome_checks(
            spec.outcomes,
            spec.observations,
            spec.action_count if isinstance(spec.actions, Bounds) else spec.actions,
            spec.reward_terms,
        ),
    )
    return next((message for ok, message in checks if not ok), None)


def _bounds_ok(bounds: object, width: int) -> bool:
    if not isinstance(bounds, Bounds):
        return True
    return len(bounds.low) == len(bounds.high) == width and all(
        low <= high for low, high in zip(bounds.low, bounds.high, strict=True)
    )
