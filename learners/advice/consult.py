"""A consultation, pure: what failed is undone, the advisor is asked, what it proposes is checked and takes its verdict.

The stream's learner calls `consult` after each version (`pipelines/advice.py`), a training loop every k steps.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
    """Consult an advisor once.

    Args:
        ledger: what is in force.
        facts: how learning goes; settings and probation are filled in here.
        ask: gives an advisor's proposals; None to judge only what stands already.
        task: whose directives they are.
        judging: returns at the gate; without it nothing is undone, and rules are accepted within their bounds.
        fit: for shaping.
        apply: whether what passes is accepted, rather than logged as "proposed".
        ts: of the records, in ms.

    Returns:
        The ledger from now on (`ledger.config()` is the configuration), and what happened, in order.
    """
    ledger, records = undo_failed(ledger, judging, facts.version, task, ts)
    if ask is None:
        return ledger, records
    settings = ledger.settings(list(facts.terms), list(facts.rules))
    facts = msgspec.structs.replace(facts, settings=settings, probation=ledger.probation)
    proposals, speaker = ask(facts)
    for number, proposal in enumerate(proposals[:PROPOSALS_MAX], 1):
        verdict, decided_by, reason, coefficients = _verdict(proposal, settings, ledger, judging, fit, apply=apply)
        record = _record(proposal, settings, task, facts.version, number, speaker)
        record = msgspec.structs.replace(record, verdict=verdict, decided_by=decided_by, reason=safe(reason), ts=ts)
        if verdict == "accepted":
            ledger = ledger.accepted(_standing(record), coefficients)
        records.append(record)
    return ledger, records


def undo_failed(
    ledger: Ledger, judging: Judging | None, version: int, task: str, ts: int
) -> tuple[Ledger, list[Directive]]:
    """Undo what is on probation and since when the return at the gate has fallen; the rest of it grows older."""
    if judging is None:
        return ledger, []
    records = []
    for one in ledger.standing:
        reason = None
        if one.on_probation and one.version < version:
            reason = fall(judging.of_version(version), judging.of_version(one.version))
        if reason:
            records.append(undone(one, task, "gate", reason, ts))
    return ledger.without([record.directive_id for record in records]).judged(), records


def undone(one: Standing, task: str, who: str, reason: str, ts: int) -> Directive:
    """Return the record of an undoing; the ledger's `without` does it."""
    return Directive(
        directive_id=one.directive_id,
        task=task,
        change=one.change,
        target=one.target,
        value=one.value,
        previous=one.previous,
        version=one.version,
        proposed_by=one.proposed_by,
        verdict="undone",
        decided_by=who,
        reason=safe(reason),
        ts=ts,
    )


Verdict = Literal["proposed", "accepted", "refused"]


def _verdict(
    proposal: Proposal,
    settings: dict[str, float],
    ledger: Ledger,
    judging: Judging | None,
    fit: Fit,
    *,
    apply: bool,
) -> tuple[Verdict, str, str, tuple[float, ...] | None]:
    """Return the verdict on a proposal, who gave it, why, and a new term's coefficients."""
    refused, decided_by = problem(proposal, settings, ledger.probation), "bounds"
    coefficients = None
    if not refused and proposal.change == "explore_rule" and proposal.value and judging:
        refused, decided_by = rule_problem(judging.of_baseline(proposal.target), judging.floor), "gate"
    if not refused and proposal.change == "shaping" and proposal.target not in ledger.coefficients:
        coefficients = fit(int(proposal.target.removeprefix("term_")))
        refused = None if coefficients else "too few rows have this term to fit its potential"
    if refused:
        why = f"; proposed because: {proposal.reason}" if proposal.reason else ""
        return "refused", decided_by, refused + why, None
    return ("accepted", decided_by, proposal.reason, coefficients) if apply else (
        "proposed", "settings", proposal.reason, None,
    )  # fmt: skip


def _record(
    proposal: Proposal, settings: dict[str, float], task: str, version: int, number: int, speaker: str
) -> Directive:
    """Write a proposal down: names that are none of ours, and numbers that JSON has not, stay out of the log."""
    previous = settings.get(key_of(proposal.change, proposal.target))
    return Directive(
        directive_id=f"{task}.{version}.{number}",
        task=task,
        change=proposal.change if proposal.change in ACTIONS else "unknown",
        target=proposal.target if previous is not None else "",
        value=proposal.value if math.isfinite(proposal.value) else 0.0,
        previous=previous,
        version=version,
        proposed_by=speaker,
        verdict="refused",
        decided_by="",
        reason="",
        ts=0,
    )


def _standing(record: Directive) -> Standing:
    assert record.previous is not None
    return Standing(
        directive_id=record.directive_id,
        change=record.change,
        target=record.target,
        value=record.value,
        previous=record.previous,
        version=record.version,
        proposed_by=record.proposed_by,
    )


def safe(text: str) -> str:
    """Cut a reason to length and to what can be printed: it may quote a model."""
    return "".join(c if c.isprintable() else " " for c in text)[:REASON_CHARACTERS]
