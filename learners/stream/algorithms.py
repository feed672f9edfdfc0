"""The table of algorithms: one entry each, whose record says how it follows a stream and how it trains in a simulator.

A record is imported when it is asked for: torch takes seconds to load, and the table's names are in help texts.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from headrace.learners.stream.training import Config, Counts, Learned, LearnSettings, Training
from headrace.schemas.errors import SettingsError
from headrace.schemas.records import TaskSpec

if TYPE_CHECKING:  # environments need Gymnasium, which takes a third of a second to load
    from headrace.learners.simulate.training import TrainingConfig

ALGORITHMS: Final[dict[str, str]] = {
    "dqn": "headrace.learners.dqn.algorithm",
    "ppo": "headrace.learners.ppo.algorithm",
}
"""By name: the module that holds the algorithm's record as `ALGORITHM`."""

SIMULATED_FIELDS: Final = ("source", "environment", "steps")
"""What a version that was trained in a simulator records beside its configuration."""


Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """An algorithm as headrace knows it.

    streamed: what it learns by on a stream, unless told otherwise; its type is that of all its configurations.
    simulated: how it trains in an environment for which there is nothing better; its type likewise. init: gives a
    task's first state, from such a configuration and a seed. load: gives the state that `state_to_arrays` wrote; raises
    ValueError or KeyError where that is another's. training: its kind of training. scheduled: gives what it learns by
    on a stream of so many rows, by the rows drawn for each. continuous: whether it learns continuous actions.
    needs_log_prob: whether it learns only from rows that say how likely their action was. fixed: fields of its
    configuration that hold from where learning begins, such as the net's sizes.
    """

    streamed: Config
    simulated: "TrainingConfig"
    init: Callable[[Any, TaskSpec, int], Any]
    load: Callable[[Arrays, Mapping[str, Any]], Any]
    training: type[Training[Any]]
    scheduled: Callable[[int, float], Config] | None = None
    continuous: bool = False
    needs_log_prob: bool = False
    fixed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names that stand twice in a version's record, which is flat: replay could not tell them apart."""
        inner = [*self.simulated.config.__dataclass_fields__]
        outer = [name for name in self.simulated.__dataclass_fields__ if name != "config"]
        simulated = Counter([*inner, *outer, *SIMULATED_FIELDS])
        streamed = Counter([*self.streamed.__dataclass_fields__, *LearnSettings.__dataclass_fields__])
        if twice := [name for names in (simulated, streamed) for name, count in names.items() if count > 1]:
            raise ValueError(f"{self.name}: a version's record would hold two values of {', '.join(twice)}: rename one")

    @property
    def name(self) -> str:
        """Its name in the table, in versions' records and in checkpoints."""
        return self.streamed.algorithm


def algorithm(name: str) -> Algorithm:
    """Return an algorithm's record; raises SettingsError for a name that the table does not have."""
    if name not in ALGORITHMS:
        raise SettingsError(f"algorithm {name!r} is unknown; known: {', '.join(ALGORITHMS)}")
    found: Algorithm = import_module(ALGORITHMS[name]).ALGORITHM
    return found


def begun(
    config: Config, spec: TaskSpec, seed: int, settings: LearnSettings, learned: Learned = lambda _: None
) -> Training[Any]:
    """Begin a task's training by the algorithm that the configuration is of. learned: is told each update's metrics."""
    kind = algorithm(config.algorithm)
    return kind.training(kind.init(config, spec, seed), spec.task, settings, learned)


def restored(
    arrays: Arrays, meta: Mapping[str, Any], spec: TaskSpec, settings: LearnSettings, counts: Counts, learned: Learned
) -> Training[Any]:
    """Go on from a checkpoint, by the algorithm under whose name it holds a state.

    Raises ValueError or KeyError where it holds none that the table has.
    """
    name = next((name for name in ALGORITHMS if name in meta), None)
    if name is None:
        raise ValueError(f"it is of none of the algorithms {', '.join(ALGORITHMS)}")
    kind = algorithm(name)
    return kind.training(kind.load(arrays, meta[name]), spec.task, settings, learned, counts, arrays)
