"""A consultation, pure: what failed is undone, the advisor is asked, what it proposes is checked and takes its verdict.

The stream's learner calls `consult` after each version (`pipelines/learn/advice.py`), a training loop every k steps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.learners.advice.ledger import Ledger, Standing, fall, problem, rule_problem
from headrace.schemas.directives import (
    ACTIONS,
    PROPOSALS_MAX,
    REASON_CHARACTERS,
    LearningFacts,
    Proposal,
    key_of,
)
from headrace.schemas.records import Directive

Returns = NDArray[np.float64]
Verdict = Literal["proposed", "accepted", "refused"]


@dataclass(frozen=True, slots=True)
class Judging:
    """What versions are judged by, where their task has a simulator. Returns are float64[N], on the same traces.

    of_version: of a version, the newest one included; of_baseline: of a rule, None where there is none such; floor: of
    the baseline that a first policy must beat.
    """

    of_version: Callable[[int], Returns]
    of_baseline: Callable[[str], Returns | None]
    floor: Returns


class Asked(NamedTuple):
    """What an advisor said, and who it was."""

    proposals: Sequence[Proposal]
    speaker: str


Fit = Callable[[int], tuple[float, ...] | None]
"""Gives the coefficients of a reward term's potential, by the term's place; None where it can't be fitted."""


def no_fit(_place: int) -> None:
    """Of a learner that has no reward terms at hand."""


def consult(
    ledger: Ledger,
    facts: LearningFacts,
    ask: Callable[[LearningFacts], Asked] | None,
    *,
    task: str,
    judging: Judging | None = None,
    fit: Fit = no_fit,
    apply: bool = True,
    ts: int = 0,
) -> tuple[Ledger, list[Directive]]:
    """Consult an advisor once. Returns the ledger from now on, and what happened, in order.

    facts: settings and probation are filled in here. ask: gives an advisor's proposals; None to judge only what stands
    already. judging: without it nothing is undone, and rules are accepted within their bounds. fit: for shaping. apply:
    whether what passes is accepted, rather than logged as "proposed". ts: of the records, in ms.
    """
    ledger, records = _undo_failed(ledger, judging, facts.version, task, ts)
    if ask is None:
        return ledger, records
    settings = ledger.settings(list(facts.terms), list(facts.rules))
    proposals, speaker = ask(msgspec.structs.replace(facts, settings=settings, probation=ledger.probation))
    for number, proposal in enumerate(proposals[:PROPOSALS_MAX], 1):
        check = _check(proposal, settings, ledger, judging, fit)
        verdict: Verdict = "refused" if check.problem else "accepted" if apply else "proposed"
        record = Directive(
            directive_id=f"{task}.{facts.version}.{number}",
            task=task,
            version=facts.version,
            proposed_by=speaker,
            verdict=verdict,
            decided_by="settings" if verdict == "proposed" else check.decided_by,
            reason=_printable(_reason(proposal, check.problem)),
            ts=ts,
            **_stated(proposal, settings),
        )
        if verdict == "accepted":
            ledger = ledger.accepted(msgspec.convert(record, Standing, from_attributes=True), check.coefficients)
        records.append(record)
    return ledger, records


def _stated(proposal: Proposal, settings: Mapping[str, float]) -> dict[str, Any]:
    """Write down what is proposed: names that are none of ours, and numbers that JSON has not, stay out of the log."""
    previous = settings.get(key_of(proposal.change, proposal.target))
    return {
        "change": proposal.change if proposal.change in ACTIONS else "unknown",
        "target": "" if previous is None else proposal.target,
        "value": proposal.value if math.isfinite(proposal.value) else 0.0,
        "previous": previous,
    }


def _undo_failed(
    ledger: Ledger, judging: Judging | None, version: int, task: str, ts: int
) -> tuple[Ledger, list[Directive]]:
    """Undo what is on probation and since when the return at the gate has fallen; the rest of it grows older."""
    if judging is None:
        return ledger, []
    falls = {
        one.directive_id: fall(judging.of_version(version), judging.of_version(one.version))
        for one in ledger.standing
        if one.on_probation and one.version < version
    }
    ledger, records = undo(ledger, {name: ("gate", why) for name, why in falls.items() if why}, task, ts)
    return ledger.judged(), records


def undo(ledger: Ledger, reasons: Mapping[str, tuple[str, str]], task: str, ts: int) -> tuple[Ledger, list[Directive]]:
    """Undo directives. reasons: who decided and why, by directive."""
    records = []
    for one in ledger.standing:
        if one.directive_id in reasons:
            who, why = reasons[one.directive_id]
            said = {"task": task, "verdict": "undone", "decided_by": who, "reason": _printable(why), "ts": ts}
            records.append(msgspec.convert(msgspec.structs.asdict(one) | said, Directive))
    return ledger.without([*reasons]), records


class _Checked(NamedTuple):
    """Why a proposal is refused, None where it isn't; who says so; and a new term's coefficients."""

    problem: str | None
    decided_by: str = "bounds"
    coefficients: tuple[float, ...] | None = None


def _check(
    proposal: Proposal, settings: Mapping[str, float], ledger: Ledger, judging: Judging | None, fit: Fit
) -> _Checked:
    refused = problem(proposal, settings, ledger.probation)
    if refused:
        return _Checked(refused)
    if proposal.change == "explore_rule" and proposal.value and judging:
        return _Checked(rule_problem(judging.of_baseline(proposal.target), judging.floor), "gate")
    if proposal.change == "shaping" and proposal.target not in ledger.coefficients:
        coefficients = fit(int(proposal.target.removeprefix("term_")))
        unfit = None if coefficients else "too few rows have this term to fit its potential"
        return _Checked(unfit, coefficients=coefficients)
    return _Checked(None)


def _reason(proposal: Proposal, refused: str | None) -> str:
    because = f"; proposed because: {proposal.reason}" if proposal.reason else ""
    return refused + because if refused else proposal.reason


def _printable(text: str) -> str:
    """Cut a reason to length and to what can be printed: it may quote a model."""
    return "".join(c if c.isprintable() else " " for c in text)[:REASON_CHARACTERS]
