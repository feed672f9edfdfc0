"""What people decide about directives: each decision is a record on `directives`, in their name."""

from typing import Final, Literal, NamedTuple

import msgspec

from headrace.pipelines.published import directives
from headrace.pipelines.topics import DIRECTIVES
from headrace.schemas.directives import SETTING
from headrace.schemas.errors import CommitConflictError, SettingsError, UnknownRecordError
from headrace.schemas.ports import Clock, Log, Record
from headrace.schemas.records import Directive, DirectiveVerdict

Act = Literal["approve", "reject", "undo"]


class _Step(NamedTuple):
    """From which verdict an act leads to which, what it is called then, and what comes of it."""

    of: DirectiveVerdict
    to: DirectiveVerdict
    done: str
    follows: str


STEPS: Final[dict[Act, _Step]] = {
    "approve": _Step(
        "proposed", "approve", "approved", "is made at the next version of {task}, if it passes the checks then"
    ),
    "reject": _Step("proposed", "refused", "rejected", "is refused, and changes nothing of {task}"),
    "undo": _Step("accepted", "undo", "undone", "will be undone at the next version of {task}"),
}


def direct(
    log: Log,
    clock: Clock,
    task: str,
    directive_id: str,
    act: Act,
    who: str,
    reason: str,
    seen_ts: int | None = None,
) -> Directive:
    """Decide about a directive; raises UnknownRecordError, SettingsError where its verdict leaves nothing to decide.

    What is approved or undone is so by `learn`, at its next version, which checks the bounds as of then. seen_ts: of
    the record that they saw, where they say it; raises CommitConflictError where another has come since.
    """
    newest = {one.directive_id: one for one in directives(log, task)}
    if directive_id not in newest:
        why = f"no directive {directive_id!r}: `headrace directive list` shows those that there are"
        raise UnknownRecordError(why)
    one, step = newest[directive_id], STEPS[act]
    if seen_ts is not None and one.ts != seen_ts:
        by = f"{one.decided_by} has decided meanwhile: {directive_id} is {one.verdict} ({one.reason})"
        raise CommitConflictError(f"{by}: look again, and decide then")
    if one.verdict != step.of:
        raise SettingsError(
            f"directive {directive_id} is {one.verdict}: what is {step.of} can be {step.done}, nothing else"
        )
    # What a person has set that person takes back.
    verdict: DirectiveVerdict = "undone" if act == "undo" and one.change == SETTING else step.to
    record = msgspec.structs.replace(one, verdict=verdict, decided_by=who, reason=reason, ts=clock())
    log.send([Record(DIRECTIVES, task.encode(), msgspec.json.encode(record))])
    return record


def open_to(one: Directive) -> tuple[Act, ...]:
    """Return what people can decide about a directive as it stands."""
    return tuple(act for act, step in STEPS.items() if step.of == one.verdict)


def told(record: Directive, act: Act) -> str:
    """Say what comes of a decision."""
    return f"{record.directive_id} {STEPS[act].follows.format(task=record.task)}"
