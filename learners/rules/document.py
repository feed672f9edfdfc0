"""Rule lists as text that a person reads and edits, and as the arrays that agents act by.

    # what stands behind a number sign is for people
    task cloud
    policy cloud@3
    if rate_t > 0.62 and ready_t <= 0.28 then +2
    otherwise 0

The first rule whose conditions all hold decides. A condition is about an observation, or about one and so many times
another (`rate_t - 3.1 ready_t > 0.2`). Observations and actions have the names of the task's file; continuous
actions are numbers, one a dimension, with commas between. `policy` says what the rules stand for; it may be missing.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.explain.regions import Condition, bounds
from headrace.learners.rules.network import CERTAIN, HIGH, LOGITS, LOW, MEAN, SUMS, RuleNetwork, rules_of
from headrace.learners.rules.quantities import Quantity
from headrace.schemas.errors import InvalidRulesError
from headrace.schemas.reasons import did_you_mean
from headrace.schemas.records import TaskSpec

Action = int | tuple[float, ...]
"""The place of a discrete action, or a continuous one."""
_SPREAD: Final = 1e-3
"""How far agents draw around a continuous action, in shares of its range: PPO and evaluation need a density."""
MOST_RULES: Final = 256
MOST_CONDITIONS: Final = 64
"""Of a file that is read, of one of its rules: what agents go by at every step must stay quick."""


@dataclass(frozen=True, slots=True)
class Rule:
    """If all conditions hold, then the action."""

    conditions: tuple[Condition[Quantity], ...]
    action: Action


@dataclass(frozen=True, slots=True)
class RuleList:
    """Rules in order; the last one has no conditions. policy: the version that they stand for, None where none is."""

    task: str
    rules: tuple[Rule, ...]
    policy: int | None = None


def written(rules: RuleList, spec: TaskSpec, notes: Sequence[str] = ()) -> str:
    """Write a list as text that `read` reads again. notes: lines for people."""
    lines = [f"# {note}" for note in notes] + [f"task {rules.task}"]
    lines += [f"policy {rules.task}@{rules.policy}"] if rules.policy is not None else []
    for rule in rules.rules[:-1]:
        told = " and ".join(f"{_told(of, spec)} {side} {limit:.9g}" for of, side, limit in rule.conditions)
        lines.append(f"if {told} then {_action_told(rule.action, spec)}")
    return "\n".join([*lines, f"otherwise {_action_told(rules.rules[-1].action, spec)}"]) + "\n"


def _told(of: Quantity, spec: TaskSpec) -> str:
    name = spec.observations[of.feature]
    sign = "-" if of.times < 0.0 else "+"
    return f"{name} {sign} {abs(of.times):.9g} {spec.observations[of.other]}" if of.times else name


def _action_told(action: Action, spec: TaskSpec) -> str:
    if isinstance(action, tuple):
        return ", ".join(f"{one:.9g}" for one in action)
    assert isinstance(spec.actions, tuple)
    return spec.actions[action]


def task_in(text: str) -> str:
    """Return the task that a list's text names; raises InvalidRulesError."""
    found = re.search(r"^\s*task\s+(\S+)\s*(#.*)?$", text, re.MULTILINE)
    if not found:
        raise InvalidRulesError("the rules name no task: write a line such as `task cloud` above them")
    return found[1]


def read(text: str, spec: TaskSpec) -> RuleList:
    """Read a list; raises InvalidRulesError, which names the line and what to write there."""
    draft = _Draft()
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        words = raw.partition("#")[0].split()
        try:
            if words:
                draft.take(words[0], words[1:], spec)
        except InvalidRulesError as error:
            raise InvalidRulesError(f"line {number}: {error}") from error
    _require(draft.ended, "the last line must say what is done where no rule holds: `otherwise ACTION`")
    return RuleList(spec.task, tuple(draft.rules), draft.policy)


class _Draft:
    """What was read so far."""

    def __init__(self) -> None:
        self.policy: int | None = None
        self.rules: list[Rule] = []
        self.ended = False

    def take(self, first: str, words: list[str], spec: TaskSpec) -> None:
        _require(not self.ended, "nothing may follow `otherwise`: it always holds")
        match first:
            case "task":
                _require(words == [spec.task], f"the rules are read for task {spec.task}")
            case "policy":
                self.policy = _version(words, spec)
            case "if":
                _require(len(self.rules) < MOST_RULES, f"a list has {MOST_RULES} rules at most, and `otherwise`")
                self.rules.append(_rule(words, spec))
            case "otherwise":
                self.rules.append(Rule((), _action(words, spec)))
                self.ended = True
            case _:
                _require(False, f"a line begins with task, policy, if, otherwise or #, not {first[:40]!r}")


def _require(fine: bool, message: str) -> None:
    if not fine:
        raise InvalidRulesError(message)


def _version(words: list[str], spec: TaskSpec) -> int:
    found = re.fullmatch(re.escape(spec.task) + r"@([1-9][0-9]{0,8})", " ".join(words))
    _require(bool(found), f"write the policy as {spec.task}@VERSION, not {' '.join(words)[:40]!r}")
    assert found
    return int(found[1])


def _rule(words: list[str], spec: TaskSpec) -> Rule:
    _require("then" in words[3:], "write a rule as `if NAME > NUMBER and NAME <= NUMBER then ACTION`")
    conditions, start, joint = [], 0, "and"
    while joint == "and":  # not up to the first `then`: an observation may have that name
        length = 6 if words[start + 1 : start + 2] in (["+"], ["-"]) else 3
        conditions.append(_condition(words[start : start + length], spec))
        start += length + 1
        joint = "".join(words[start - 1 : start])
        _require(len(conditions) <= MOST_CONDITIONS, f"a rule has {MOST_CONDITIONS} conditions at most")
    _require(joint == "then", "conditions have `and` between them, and `then ACTION` behind the last one")
    for of in {one.of for one in conditions}:
        low, high = bounds(conditions, of)
        _require(_open((low, high)), f"no {_told(of, spec)} is both > {low:g} and <= {high:g}")
    return Rule(tuple(conditions), _action(words[start:], spec))


def _condition(words: list[str], spec: TaskSpec) -> Condition[Quantity]:
    told = " ".join(words)[:80]
    fine = len(words) in {3, 6} and words[-2] in {"<=", ">"}
    _require(fine, f"{told!r} is no condition: write NAME > NUMBER or NAME + NUMBER NAME <= NUMBER")
    of = Quantity(_place(words[0], spec))
    if len(words) == 6:
        of = Quantity(of.feature, _number(words[1] + words[2]), _place(words[3], spec))
    return Condition(of, "<=" if words[-2] == "<=" else ">", _number(words[-1]))


def _place(name: str, spec: TaskSpec) -> int:
    _require(name in spec.observations, f"{name!r} is no observation of {spec.task}{_known(name, spec.observations)}")
    return spec.observations.index(name)


def _known(name: str, names: Sequence[str]) -> str:
    return did_you_mean(name, names) or f"; it has {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}"


def _number(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    _require(math.isfinite(found) and abs(found) < 1e38, f"{text[:40]!r} is no number")
    return found


def _action(words: list[str], spec: TaskSpec) -> Action:
    told = " ".join(words)
    if isinstance(spec.actions, tuple):
        _require(told in spec.actions, f"{told[:40]!r} is no action of {spec.task}{_known(told, spec.actions)}")
        return spec.actions.index(told)
    numbers = tuple(_number(part) for part in told.replace(",", " ").split())
    low, high = spec.actions.low, spec.actions.high
    _require(len(numbers) == len(low), f"an action of {spec.task} has {len(low)} numbers, not {len(numbers)}")
    for one, least, greatest in zip(numbers, low, high, strict=True):
        _require(least <= one <= greatest, f"the action {one:g} lies outside of {least:g} to {greatest:g}")
    return numbers


def simplest(conditions: Sequence[Condition[Quantity]]) -> tuple[Condition[Quantity], ...] | None:
    """Return conditions that say the same, at most one of a quantity's each side; None where they can't all hold."""
    kept = tuple(one for one in dict.fromkeys(conditions) if one.threshold in bounds(conditions, one.of))
    return kept if all(_open(bounds(kept, one.of)) for one in kept) else None


def _open(limits: tuple[float, float]) -> bool:
    return bool(np.float32(limits[0]) < np.float32(limits[1]))


def policy_arrays(rules: RuleList, spec: TaskSpec) -> dict[str, NDArray[Any]]:
    """Return the list as a policy's arrays, for `headrace.learners.acting.load_policy`."""
    about = [*dict.fromkeys(one.of for rule in rules.rules for one in rule.conditions)]
    sums = np.zeros((spec.width, len(about)), np.float32)
    for column, (feature, times, other) in enumerate(about):
        sums[feature, column] += 1.0
        sums[other, column] += np.float32(times)
    limits = [[bounds(rule.conditions, of) for of in about] for rule in rules.rules]
    low, high = np.moveaxis(np.array(limits, np.float32).reshape(len(rules.rules), len(about), 2), 2, 0)
    arrays: dict[str, NDArray[Any]] = {SUMS: sums, LOW: low, HIGH: high}
    given = np.array([one.action for one in rules.rules])
    if (box := spec.action_bounds) is None:
        return arrays | {LOGITS: CERTAIN * (np.eye(spec.action_count, dtype=np.float32)[given] - 1.0)}
    given, low, high = (np.asarray(one, np.float32) for one in (given, box.low, box.high))
    width = np.where(np.isfinite(high - low) & (high > low), high - low, np.abs(given).max(axis=0) + 1.0)
    spread = np.log(_SPREAD * width).astype(np.float32)
    return arrays | {MEAN: given, "log_std": spread, "action.low": low, "action.high": high}


def load_rules(rules: RuleList, spec: TaskSpec) -> Policy | BoxPolicy:
    """Return what acts by the list."""
    arrays = policy_arrays(rules, spec)
    return Policy(arrays) if spec.discrete else BoxPolicy(arrays)


def rule_network(rules: RuleList, spec: TaskSpec) -> RuleNetwork:
    """Return the list as what tells which of its rules decides."""
    found = rules_of(policy_arrays(rules, spec))
    assert found is not None
    return found
