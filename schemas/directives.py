"""What an advisor may change and how far, what it is told, and what it may answer.

ACTIONS is the one table of what can be changed. Facts hold numbers and names of headrace's own: a task's reward terms
and actions are aliased by their place (`term_0`), so nothing that a producer or a task file names reaches an advisor.
"""

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

Target = Literal["", "term", "rule"]


class Action(Struct, frozen=True):
    """A setting that may be changed, to a value from low to high.

    ratio: the most that one directive multiplies or divides it by; step: the most that one adds or takes away (one of
    the two is given). whole: whether it is a whole number. target: what a directive must name beside it.
    """

    description: str
    low: float
    high: float
    ratio: float = 0.0
    step: float = 0.0
    whole: bool = False
    target: Target = ""


ACTIONS: Final[dict[str, Action]] = {
    "epsilon_end": Action("exploration after its ramp, a share of the decisions", 0.01, 0.3, ratio=2.0),
    "epsilon_steps": Action("length of the exploration's ramp, in rows", 1_000, 10_000_000, ratio=2.0, whole=True),
    "learning_rate": Action("the schedule's first rate; its last one keeps its share of it", 1e-6, 1e-2, ratio=2.0),
    "shaping": Action("weight of a reward term's potential, added as shaping", -1.0, 1.0, step=0.25, target="term"),
    "explore_rule": Action("share of exploration that follows a decision rule", 0.0, 0.8, step=0.4, target="rule"),
}
SETTING: Final = "setting"
"""A directive's change that no advisor proposes: a person states a setting of the task's learner, `target`."""
EARLIER_MAX: Final = 8
"""Directives, the newest last, whose verdicts an advisor is told."""
PROPOSALS_MAX: Final = 3
"""Read of an advisor's answer; what it says beyond is dropped."""
PROBATION_MAX: Final = 3
"""So many changes are judged at a time: of more, nobody could say which did what."""
REASON_CHARACTERS: Final = 300


class EarlierDirective(Struct, frozen=True):
    """What became of a directive, under headrace's own names alone.

    version, number: at which it was proposed, and its place there. change, target, value, previous, verdict: as in its
    record (`Directive`). decided_by: "bounds", "gate", "learn" or "settings"; "person" where people undid it. effect:
    mean return at the gate of the newest version that judged it less that of `version`, paired by trace, with its 95 %
    interval from low to high; None where nothing has judged it.
    """

    version: int
    number: int
    change: str
    target: str
    value: float
    previous: float | None
    verdict: str
    decided_by: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """What was changed to what, the verdict, and the effect where it is known."""
        effect = "" if self.effect is None else f" {self.effect:+.3g} [{self.low:+.3g}, {self.high:+.3g}]"
        return f"{key_of(self.change, self.target)} {self.value:.4g} {self.verdict}{effect}"


class LearningFacts(Struct, frozen=True):
    """How learning goes, at the version that was just made.

    settings: present values by key (`key_of`); what the algorithm lacks is absent. probation: keys whose last change is
    still being judged. exploration: epsilon now. loss, td_abs: means over the updates since the last version; what ends
    in `before` is of the interval before. returns: at the gate, by version, the newest last. floor, rules: there, of
    the baseline that a first policy must beat, and of the decision rules. terms: mean of each reward term a row.
    actions: share of each. earlier: what became of earlier directives, the newest last.
    """

    version: int
    rows: int
    updates: int
    skipped_updates: int
    settings: dict[str, float]
    probation: tuple[str, ...] = ()
    exploration: float = 0.0
    loss: float | None = None
    td_abs: float | None = None
    td_abs_before: float | None = None
    returns: tuple[float, ...] = ()
    floor: float | None = None
    rules: dict[str, float] = {}
    terms: dict[str, float] = {}
    terms_before: dict[str, float] = {}
    actions: tuple[float, ...] = ()
    earlier: tuple[EarlierDirective, ...] = ()


class Proposal(Struct, frozen=True, forbid_unknown_fields=True):
    """What an advisor would change: an action of the table, to which value, of which term or rule, and why."""

    change: str
    value: float
    target: str = ""
    reason: str = ""


def key_of(change: str, target: str = "") -> str:
    """Name a setting: the action, and where it has one its target."""
    return f"{change}.{target}" if target else change


def described(facts: LearningFacts, names: Sequence[str]) -> str:
    """Say what some facts are; a name that is none is left out."""
    return "; ".join(stated(facts, names))[:REASON_CHARACTERS]


def stated(facts: LearningFacts, names: Sequence[str]) -> list[str]:
    """Write some facts as a name and its numbers in four digits, each once; a name that is none is left out."""
    known = set(facts.__struct_fields__)
    return [f"{name} {_told(getattr(facts, name))}" for name in dict.fromkeys(names) if name in known]


def _told(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return ", ".join(_told(one) for one in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_told(one)}" for key, one in value.items()) or "none"
    return "unknown" if value is None else str(value)
