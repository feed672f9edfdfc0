"""Directives in force: what may be accepted, what the configuration becomes by it, and what is undone. Pure.

The configuration is a function of the one that learning began with and of the directives that stand, in order: one
that is undone is as if it had never been.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from headrace.learners.judge.statistics import MeanInterval
from headrace.schemas.directives import ACTIONS, EARLIER_MAX, PROBATION_MAX, Action, EarlierDirective, Proposal, key_of
from headrace.schemas.records import Directive

PROBATION_VERSIONS: Final = 2
"""For so many versions a change is judged."""
GOVERNED: Final = (
    "learning_rate",
    "learning_rate_final",
    "epsilon_end",
    "epsilon_steps",
    "potential",
    "explore_rule",
    "explore_share",
)
"""What directives may decide of an algorithm's configuration, where it has it: learner or agents follow at any row."""
STANDING_MAX: Final = 64
"""Directives that can be undone; of more, the oldest that others have replaced are forgotten."""
_TOLERANCE: Final = 1e-9
"""Rounding that a rate of change may be over by."""
_DECIDERS: Final = frozenset({"bounds", "gate", "learn", "settings"})
"""Who decides beside people, whose names are told to nobody."""


class Standing(msgspec.Struct, frozen=True):
    """An accepted directive. version: the one after which it holds; judged_versions: those since that judged it."""

    directive_id: str
    change: str
    target: str
    value: float
    previous: float
    version: int
    proposed_by: str
    judged_versions: int = 0

    @property
    def key(self) -> str:
        """The setting that it changes."""
        return key_of(self.change, self.target)

    @property
    def on_probation(self) -> bool:
        """Whether a fall of the return still undoes it."""
        return self.judged_versions < PROBATION_VERSIONS


class Ledger(msgspec.Struct, frozen=True):
    """The configuration that learning began with, and what stands.

    coefficients: of each shaped term's potential over the observations, fixed when the term is first shaped. earlier:
    what became of the last EARLIER_MAX directives that were proposed, for the advisor alone.
    """

    base: dict[str, Any]
    standing: tuple[Standing, ...] = ()
    coefficients: dict[str, tuple[float, ...]] = {}
    earlier: tuple[EarlierDirective, ...] = ()

    @classmethod
    def begin(cls, config: Mapping[str, Any]) -> "Ledger":
        """Start with nothing in force, from an algorithm's whole configuration."""
        return cls({name: config[name] for name in GOVERNED if name in config})

    @property
    def probation(self) -> tuple[str, ...]:
        """The keys whose last change is still being judged."""
        return tuple(one.key for one in self.standing if one.on_probation)

    def settings(self, terms: Sequence[str] = (), rules: Sequence[str] = ()) -> dict[str, float]:
        """Return the present value of every setting that this algorithm has, by key."""
        config = self.config()
        values = {name: config[name] for name, a in ACTIONS.items() if not a.target and name in config}
        if "potential" in config:
            weights = {one.target: one.value for one in self.standing if one.change == "shaping"}
            values |= {key_of("shaping", term): weights.get(term, 0.0) for term in terms}
        if "explore_share" in config:
            followed = {config["explore_rule"]: config["explore_share"]}
            values |= {key_of("explore_rule", rule): followed.get(rule, 0.0) for rule in rules}
        return {key: float(value) for key, value in values.items()}

    def config(self) -> dict[str, Any]:
        """Return the configuration in force: the base, but for the fields that directives decide."""
        found: dict[str, Any] = {}
        weights: dict[str, float] = {}
        for one in self.standing:
            if one.change == "shaping":
                weights[one.target] = one.value
            elif one.change == "explore_rule":  # the rule that was named last is followed
                found |= {"explore_rule": one.target if one.value else "", "explore_share": one.value}
            elif one.change in ACTIONS:  # an older version may have had more of them
                found[one.change] = int(one.value) if ACTIONS[one.change].whole else one.value
        if "learning_rate" in found and "learning_rate_final" in self.base:
            share = self.base["learning_rate_final"] / self.base["learning_rate"]
            found["learning_rate_final"] = found["learning_rate"] * share
        if weights:
            columns = zip(*(self.coefficients[term] for term in weights), strict=True)
            found["potential"] = tuple(
                sum(w * c for w, c in zip(weights.values(), column, strict=True)) for column in columns
            )
        return self.base | found

    def accepted(self, one: Standing, coefficients: tuple[float, ...] | None = None) -> "Ledger":
        """Return the ledger with one more directive; coefficients: of a term that is shaped for the first time."""
        standing = (*self.standing, one)
        if len(standing) > STANDING_MAX:
            replaced = next((i for i, old in enumerate(standing) if old.key in {s.key for s in standing[i + 1 :]}), 0)
            standing = standing[:replaced] + standing[replaced + 1 :]
        added = {} if coefficients is None else {one.target: coefficients}
        return msgspec.structs.replace(self, standing=standing, coefficients=self.coefficients | added)

    def without(self, directive_ids: Sequence[str], decided_by: str = "person") -> "Ledger":
        """Return the ledger without some directives, which are undone now."""
        kept = tuple(one for one in self.standing if one.directive_id not in directive_ids)
        undone = {"verdict": "undone", "decided_by": decided_by if decided_by in _DECIDERS else "person"}
        told = self._retold(dict.fromkeys(directive_ids, undone))
        return msgspec.structs.replace(self, standing=kept, earlier=told)

    def decided(self, record: Directive) -> "Ledger":
        """Return the ledger with what became of an earlier directive that a person approved."""
        by = record.decided_by if record.decided_by in _DECIDERS else "person"
        told = self._retold({record.directive_id: {"verdict": record.verdict, "decided_by": by}})
        return msgspec.structs.replace(self, earlier=told)

    def judged(self, effects: Mapping[str, MeanInterval]) -> "Ledger":
        """Return the ledger after one more version has judged what is on probation; effects: by directive."""
        aged = tuple(
            msgspec.structs.replace(one, judged_versions=one.judged_versions + 1) if one.on_probation else one
            for one in self.standing
        )
        told = {name: {"effect": by.mean, "low": by.low, "high": by.high} for name, by in effects.items()}
        return msgspec.structs.replace(self, standing=aged, earlier=self._retold(told))

    def remembered(self, record: Directive) -> "Ledger":
        """Return the ledger with a record's verdict among the earlier ones."""
        _, number = _place(record.directive_id)
        one = msgspec.convert(msgspec.structs.asdict(record) | {"number": number}, EarlierDirective)
        return msgspec.structs.replace(self, earlier=(*self.earlier, one)[-EARLIER_MAX:])

    def _retold(self, changes: Mapping[str, Mapping[str, Any]]) -> tuple[EarlierDirective, ...]:
        """Return what became of the earlier directives; changes: fields by directive."""
        by_place = {_place(name): change for name, change in changes.items()}
        return tuple(
            msgspec.structs.replace(one, **by_place.get((one.version, one.number), {})) for one in self.earlier
        )


def _place(directive_id: str) -> tuple[int, int]:
    """Return the version and the number there; the task's name, which comes before them, may have dots."""
    _, version, number = directive_id.rsplit(".", 2)
    return int(version), int(number)


def problem(proposal: Proposal, settings: Mapping[str, float], probation: Sequence[str]) -> str | None:
    """Say why a proposal is refused, None where nothing forbids it: the table's names, bounds and rates of change."""
    action = ACTIONS.get(proposal.change)
    if action is None:
        return f"no such action; there are {', '.join(ACTIONS)}"
    key = key_of(proposal.change, proposal.target)
    if bool(action.target) != bool(proposal.target) or key not in settings:
        return f"no such setting of this learner; there are {', '.join(settings)}"
    if key in probation:
        return f"the last change of {key} is still being judged"
    if len(probation) >= PROBATION_MAX:
        return f"{len(probation)} changes are being judged; at most {PROBATION_MAX} may be at a time"
    return _value_problem(proposal.value, action) or _rate_problem(proposal.value, settings[key], action)


def _value_problem(value: float, action: Action) -> str | None:
    if not math.isfinite(value) or (action.whole and not float(value).is_integer()):
        return f"{value} is not {'a whole' if action.whole else 'a finite'} number"
    if not action.low <= value <= action.high:
        return f"{value:g} is out of bounds, {action.low:g} to {action.high:g}"
    return None


def _rate_problem(value: float, now: float, action: Action) -> str | None:
    ratio, step = action.ratio, action.step
    if value == now:
        return f"{now:g} is what it is already"
    if ratio and not now / ratio * (1 - _TOLERANCE) <= value <= now * ratio * (1 + _TOLERANCE):
        return f"{value:g} is too far from {now:g}: at most {ratio:g} times, or a part of {ratio:g}"
    if step and abs(value - now) > step * (1 + _TOLERANCE):
        return f"{value:g} is too far from {now:g}: at most {step:g} away"
    return None
