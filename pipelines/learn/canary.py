"""A canary is judged after each window, and ended: by what its agents earned, or after as many windows as it may have.

What comes of it depends on the order of windows and on their append times alone: those count that were appended after
the record that began it.
"""

import logging

import msgspec

from headrace.learners.judge.canary import Found, Tally
from headrace.pipelines.learn.progress import Progress
from headrace.schemas.canary import Canary
from headrace.schemas.ports import Clock
from headrace.schemas.records import ServingPolicy

logger = logging.getLogger(__name__)

DECIDED_BY = "canary"


def at_window(progress: Progress, append_ms: int, clock: Clock) -> Found | None:
    """Judge the running canary by the windows before the one that begins; what is decided waits to be sent.

    append_ms: of the window's message. Returns what a canary that goes on has shown by now.
    """
    newest = progress.newest
    if newest is None or newest.canary is None:
        progress.canary = None
        return None
    if progress.canary is None or progress.canary.record != newest:
        progress.canary = Tally(newest)
    tally = progress.canary
    tally.close()
    found = tally.found() if tally.windows else None
    record = ended(tally, found, clock())
    if record is None:
        tally.begun |= append_ms > newest.ts
        return found
    logger.info("%s@%d serves, as its canary has ended: %s", record.task, record.version, record.reason)
    if record.version != newest.version:
        progress.promoted(record.version, best=True)
    progress.pending.append(record)
    progress.canary = None
    return None


def ended(tally: Tally, found: Found | None, ts: int) -> ServingPolicy | None:
    """Return the record that ends a canary, None while it goes on. A hold from before it goes on."""
    began, trial = tally.record, tally.record.canary
    assert trial is not None
    better, worse = found is not None and found.look.low > 0.0, found is not None and found.look.high < 0.0
    if not (better or worse or 0 < trial.windows <= tally.windows):
        return None
    serves, weights = began.version, began.weights_hash
    said = told(began, trial, found, tally.windows)
    if better and trial.promote:
        serves, weights = trial.version, trial.weights_hash
    elif better:
        said += f"; `headrace policy promote {began.task}@{trial.version}` lets it serve all"
    return msgspec.structs.replace(
        began, version=serves, weights_hash=weights, decided_by=DECIDED_BY, reason=said, ts=ts, canary=None
    )


def told(began: ServingPolicy, trial: Canary, found: Found | None, windows: int) -> str:
    """Say what a canary's agents earned against the others'."""
    names = f"{began.task}@{trial.version}", f"{began.task}@{began.version}"
    if found is None:
        return f"{names[0]} can't be told from {names[1]}: too little to compare by, after {windows} windows"
    look = found.look
    verb = "is not shown to differ from"
    if look.low > 0.0 or look.high < 0.0:
        verb = "is better than" if look.low > 0.0 else "is worse than"
    figures = f"{look.difference:+.4g} ({look.low:.4g} to {look.high:.4g}, 95 % at all looks together)"
    agents = f"{look.agents[0]} agents against {look.agents[1]}"
    return f"{names[0]} {verb} {names[1]}: {found.measure} {figures}, {agents}, after {windows} windows"
