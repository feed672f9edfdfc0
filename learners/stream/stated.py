"""What people state of a task's learner, by name and value: checked, and what it comes to.

Statements stand in the task's file, and in records on `directives` that `headrace learner set` writes. The fields of
an algorithm's configuration and of LearnSettings have the names; `algorithm` chooses whose.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final, NamedTuple, get_origin, get_type_hints

import msgspec

from headrace.learners.stream.algorithms import ALGORITHMS, Algorithm, algorithm
from headrace.learners.stream.training import Config, LearnSettings
from headrace.schemas.directives import SETTING
from headrace.schemas.errors import SettingsError
from headrace.schemas.reasons import did_you_mean
from headrace.schemas.records import Directive, TaskSpec

ALGORITHM: Final = "algorithm"
_GIVEN: Final = ("potential", "explore_rule", "explore_share")
"""Of an algorithm's configuration: these an advisor's directives make, and nobody states."""

_LIMITS: Final[Mapping[str, float]] = {
    **dict.fromkeys(("hidden", "critic_hidden"), 4_096),
    **dict.fromkeys(("replay_capacity", "rollout_rows"), 10_000_000),
    **dict.fromkeys(("batch_size", "gate_traces"), 65_536),
    **dict.fromkeys(("minibatch_size", "rollout_steps"), 1_000_000),
    **dict.fromkeys(("epochs", "samples_per_row"), 1_000),
    "quantiles": 512,
    "n_step": 20,
}
"""The greatest values of what takes memory or time: beyond, one task's learner would stop the others of its process."""
_LAYERS: Final = 8


class Learned(NamedTuple):
    """What a task is learned by."""

    config: Config
    settings: LearnSettings


def default_algorithm(spec: TaskSpec) -> str:
    """Return the first of the table that learns the task's actions."""
    return next(name for name in ALGORITHMS if spec.discrete or algorithm(name).continuous)


def names_of(config: Config) -> dict[str, Any]:
    """Return the type of every setting of a learner by this algorithm, `algorithm` but for."""
    hints = get_type_hints(LearnSettings) | get_type_hints(type(config))
    return {name: kind for name, kind in hints.items() if get_origin(kind) is not ClassVar and name not in _GIVEN}


def stated(spec: TaskSpec, records: Iterable[Directive]) -> dict[str, Any]:
    """Return what stands of a task's learner: by its file, and by the records, of each setting the newest."""
    newest = {one.directive_id: one for one in records if one.change == SETTING}
    said = {one.target: msgspec.json.decode(one.text) for one in newest.values() if one.verdict == "accepted"}
    by_file = {name: [*value] if isinstance(value, tuple) else value for name, value in spec.learner.items()}
    return by_file | said


def learned_by(
    spec: TaskSpec, values: Mapping[str, Any], config: Config | None = None, settings: LearnSettings | None = None
) -> Learned:
    """Return what a task is learned by: as is stated, else as `config` and `settings` have it, else by default.

    Values of another algorithm's settings wait for that one. Raises SettingsError, which names the setting.
    """
    name = values.get(ALGORITHM) or (config.algorithm if config else default_algorithm(spec))
    if name not in ALGORITHMS:
        raise SettingsError(f"{ALGORITHM} is {name!r}; there are {', '.join(ALGORITHMS)}")
    base = config if config and config.algorithm == name else algorithm(name).streamed
    types = names_of(base)
    said = {key: _converted(key, value, types[key]) for key, value in values.items() if key in types}
    return Learned(_with(base, said), _with(settings or LearnSettings(), said))


def require_able(spec: TaskSpec, config: Config) -> None:
    """Raise SettingsError where the algorithm can't learn the task's actions."""
    if not spec.discrete and not algorithm(config.algorithm).continuous:
        able = ", ".join(one for one in ALGORITHMS if algorithm(one).continuous)
        raise SettingsError(f"it has continuous actions, and {config.algorithm} learns discrete ones only; {able} can")


def require_known(spec: TaskSpec, values: Mapping[str, Any], standing: Mapping[str, Any] | None = None) -> Config:
    """Return what is learned by with values above those that stand.

    Raises SettingsError for a name that is no setting of the algorithm, and as the two functions above.
    """
    config = learned_by(spec, {**(standing or {}), **values}).config
    require_able(spec, config)
    known = [ALGORITHM, *names_of(config)]
    for name in values:
        if name not in known:
            others = [one for one in ALGORITHMS if name in names_of(algorithm(one).streamed)]
            meant = f"; it is one of {others[0]}" if others else did_you_mean(name, known)
            raise SettingsError(
                f"a learner by {config.algorithm} has no setting {name!r}{meant} (`headrace learner show TASK` lists "
                "those that it has)"
            )
    return config


def fixed_of(kind: Algorithm) -> tuple[str, ...]:
    """Return the settings that hold from where learning begins: whose they are, and what net and replay are made by."""
    return (ALGORITHM, *kind.fixed)


def changes(own: Config, old: Config, new: Config) -> dict[str, Any]:
    """Return what becomes otherwise of a training's own configuration where `new` is stated instead of `old`."""
    fixed, before = algorithm(own.algorithm).fixed, dataclasses.asdict(old)
    wanted = {name: value for name, value in dataclasses.asdict(new).items() if name not in fixed}
    return {name: value for name, value in wanted.items() if value != before.get(name)}


def _converted(name: str, value: object, kind: Any) -> Any:  # noqa: ANN401 a field's
    try:
        found = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{name} is {value!r}: {error}") from error
    sizes = found if isinstance(found, tuple) else ()
    if (isinstance(found, float) and not math.isfinite(found)) or (isinstance(found, tuple) and not sizes):
        raise SettingsError(f"{name} is {value!r}: a finite number, or sizes, are needed")
    if any(size < 1 for size in sizes):
        raise SettingsError(f"{name} is {value!r}: each size must be 1 or more")
    if len(sizes) > _LAYERS:
        raise SettingsError(f"{name} has {len(sizes)} layers: {_LAYERS} are allowed at most")
    if name in _LIMITS and max(sizes or (found,)) > _LIMITS[name]:
        raise SettingsError(f"{name} is {value!r}: {_LIMITS[name]:,} is allowed at most")
    return found


def _with(record: Any, said: Mapping[str, Any]) -> Any:  # noqa: ANN401 a frozen dataclass and the same
    own = {name: value for name, value in said.items() if name in record.__dataclass_fields__}
    try:
        return dataclasses.replace(record, **own)
    except ValueError as error:
        raise SettingsError(f"the learner can't be so: {error}") from error
