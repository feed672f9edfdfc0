"""What learn itself changes while the gate goes on refusing: directives, undone when one is promoted. Pure."""

from typing import Final

import msgspec

from headrace.learners.advice.consult import Reasons
from headrace.learners.advice.ledger import PROBATION_VERSIONS, Ledger, Standing
from headrace.schemas.directives import ACTIONS, PROPOSALS_MAX
from headrace.schemas.records import Directive, PolicyVersion

WHO: Final = "learn"
_FACTORS: Final = {"learning_rate": 0.5, "epsilon_end": 2.0}
"""What is changed, by how much at a time. An algorithm that lacks one is left with the other."""
_MOST: Final = {"learning_rate": 8.0, "epsilon_end": 2.0}
"""How far it goes from what learning began with. What explores costs returns, and the best policy too is not beaten."""


def carefully(ledger: Ledger, version: PolicyVersion, ts: int) -> tuple[Ledger, list[Directive]]:
    """Learn slower and explore more after a version; nothing is left to change where the bounds are reached."""
    settings, records = ledger.settings(), []
    for number, (change, factor) in enumerate(_FACTORS.items(), PROPOSALS_MAX + 1):
        now, action = settings.get(change), ACTIONS[change]
        if now is None:
            continue
        first, most = float(ledger.base[change]), _MOST[change]
        value = min(max(now * factor, action.low, first / most), action.high, first * most)
        if (value - now) * (factor - 1.0) <= 0.0:
            continue
        record = Directive(
            directive_id=f"{version.task}.{version.version}.{number}",
            task=version.task,
            version=version.version,
            change=change,
            value=value,
            previous=now,
            proposed_by=WHO,
            verdict="accepted",
            decided_by=WHO,
            reason=f"{version.refusals} candidates in a row were refused",
            ts=ts,
        )
        standing = msgspec.convert(record, Standing, from_attributes=True)
        # Not on probation: what it would be compared with is a version that was refused.
        ledger = ledger.accepted(msgspec.structs.replace(standing, judged_versions=PROBATION_VERSIONS))
        records.append(record)
    return ledger, records


def over(ledger: Ledger) -> Reasons:
    """Return what is undone once a candidate is promoted."""
    return {one.directive_id: (WHO, "a candidate was promoted") for one in ledger.standing if one.proposed_by == WHO}
