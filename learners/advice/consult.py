"""A consultation, pure: what failed is undone, the advisor is asked, what it proposes is checked and takes its verdict.

The stream's learner calls `consult` after each version (`pipelines/learn/advice.py`), a training loop every k steps.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.learners.advice.ledger import Ledger, Standing, problem
from headrace.learners.advice.rules import RuleAdvisor
from headrace.learners.judge.statistics import MeanInterval, paired_difference
from headrace.schemas.directives import (
    ACTIONS,
    PROPOSALS_MAX,
    REASON_CHARACTERS,
    LearningFacts,
    Proposal,
    key_of,
)
from headrace.schemas.errors import HeadraceError
from headrace.schemas.ports import Advisor
from headrace.schemas.records import Directive

logger = logging.getLogger(__name__)

Returns = NDArray[np.float64]
Verdict = Literal["proposed", "accepted", "refused"]
Fit = Callable[[int], tuple[float, ...] | None]
"""Gives the coefficients of a reward term's potential, by the term's place; None where it can't be fitted."""
Reasons = Mapping[str, tuple[str, str]]
"""By directive: who undoes it, and why."""


@dataclass(frozen=True, slots=True)
class Judging:
    """What versions are judged by, where their task has a simulator. Returns are float64[N], on the same traces.

    of_version: of a version, the newest one included. rules: of the decision rules that exploration may follow.
    floor: of the baseline that a first policy must beat.
    """

    of_version: Callable[[int], Returns]
    rules: Mapping[str, Returns]
    floor: Returns


def consult(
    ledger: Ledger,
    facts: LearningFacts,
    advisor: Advisor | None,
    *,
    task: str,
    judging: Judging | None = None,
    undo: Reasons | None = None,
    approved: Sequence[Directive] = (),
    fit: Fit = lambda _: None,
    apply: bool = True,
    ts: int = 0,
) -> tuple[Ledger, list[Directive]]:
    """Consult an advisor once. Returns the ledger from now on, and what happened, in order.

    facts: settings, probation and earlier are filled in here. advisor: None to judge only what stands already. judging:
    without it nothing is undone by the gate, and rules are accepted within their bounds. undo: what people take back.
    approved: what was proposed earlier and people want, checked as of now. fit: for shaping. apply: whether what passes
    is accepted, rather than logged as "proposed". ts: of the records, ms.
    """
    ledger, records = _undo(ledger, undo or {}, task, ts)
    if judging is not None:
        effects = _effects(ledger, judging, facts.version)
        fell = {
            name: f"the return at the gate fell since: {_said(by)}" for name, by in effects.items() if by.high < 0.0
        }
        ledger, failed = _undo(ledger.judged(effects), {name: ("gate", why) for name, why in fell.items()}, task, ts)
        records += failed
    for one in approved:
        ledger, record = _approved(ledger, one, facts, judging, fit, ts)
        records.append(record)
    if advisor is None:
        return ledger, records
    settings = ledger.settings(list(facts.terms), list(facts.rules))
    told = msgspec.structs.replace(facts, settings=settings, probation=ledger.probation, earlier=ledger.earlier)
    speaker, proposals = _proposals(advisor, told, task)
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
        ledger = ledger.remembered(record)
        records.append(record)
    return ledger, records


def _approved(
    ledger: Ledger, one: Directive, facts: LearningFacts, judging: Judging | None, fit: Fit, ts: int
) -> tuple[Ledger, Directive]:
    """Accept what a person approved, from this version on, if it passes the checks now."""
    settings = ledger.settings(list(facts.terms), list(facts.rules))
    proposal = Proposal(change=one.change, target=one.target, value=one.value, reason=one.reason)
    check = _check(proposal, settings, ledger, judging, fit)
    record = msgspec.structs.replace(
        one, version=facts.version, verdict="accepted", ts=ts, **_stated(proposal, settings)
    )
    if check.problem:
        why = _printable(f"{check.problem}; {one.decided_by} approved it: {one.reason}")
        record = msgspec.structs.replace(record, verdict="refused", decided_by=check.decided_by, reason=why)
    else:
        ledger = ledger.accepted(msgspec.convert(record, Standing, from_attributes=True), check.coefficients)
    return ledger.decided(record), record


def _proposals(advisor: Advisor, facts: LearningFacts, task: str) -> tuple[str, Sequence[Proposal]]:
    """Ask the advisor; where it can't be reached or speaks out of turn, the rules speak, and the record says why."""
    try:
        return advisor.name, advisor.propose(facts)
    except HeadraceError as error:
        logger.warning("%s: the rules advise instead of %s: %s", task, advisor.name, error)
        why = f"(instead of {advisor.name}: {error}) "
    rules = RuleAdvisor()
    return rules.name, [msgspec.structs.replace(one, reason=why + one.reason) for one in rules.propose(facts)]


def _stated(proposal: Proposal, settings: Mapping[str, float]) -> dict[str, Any]:
    """Write down what is proposed: names that are none of ours, and numbers that JSON has not, stay out of the log."""
    previous = settings.get(key_of(proposal.change, proposal.target))
    return {
        "change": proposal.change if proposal.change in ACTIONS else "unknown",
        "target": "" if previous is None else proposal.target,
        "value": proposal.value if math.isfinite(proposal.value) else 0.0,
        "previous": previous,
    }


def _effects(ledger: Ledger, judging: Judging, version: int) -> dict[str, MeanInterval]:
    """By how much the return at the gate has changed since each directive that is on probation."""
    return {
        one.directive_id: paired_difference(judging.of_version(version), judging.of_version(one.version))
        for one in ledger.standing
        if one.on_probation and one.version < version
    }


def _undo(ledger: Ledger, reasons: Reasons, task: str, ts: int) -> tuple[Ledger, list[Directive]]:
    records = []
    for one in ledger.standing:
        if one.directive_id in reasons:
            who, why = reasons[one.directive_id]
            said = {"task": task, "verdict": "undone", "decided_by": who, "reason": _printable(why), "ts": ts}
            records.append(msgspec.convert(msgspec.structs.asdict(one) | said, Directive))
            ledger = ledger.without([one.directive_id], who)
    return ledger, records


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
        by = worse(judging.rules[proposal.target], judging.floor)
        return _Checked(f"the rule is worse than the floor: {by}" if by else None, "gate")
    if proposal.change == "shaping" and proposal.target not in ledger.coefficients:
        coefficients = fit(int(proposal.target.removeprefix("term_")))
        unfit = None if coefficients else "too few rows have this term to fit its potential"
        return _Checked(unfit, coefficients=coefficients)
    return _Checked(None)


def worse(now: Returns, then: Returns) -> str | None:
    """Say by how much returns are lower on the same traces, float64[N] each; None where they are not shown to be."""
    by = paired_difference(now, then)
    return _said(by) if by.high < 0.0 else None


def _said(by: MeanInterval) -> str:
    return f"{by.mean:+.3f} [{by.low:+.3f}, {by.high:+.3f}] on {by.n} paired traces"


def _reason(proposal: Proposal, refused: str | None) -> str:
    because = f"; proposed because: {proposal.reason}" if proposal.reason else ""
    return refused + because if refused else proposal.reason


def _printable(text: str) -> str:
    """Cut a reason to length and to what can be printed: it may quote a model."""
    return "".join(c if c.isprintable() else " " for c in text)[:REASON_CHARACTERS]
