"""What people decide about directives: each decision is a record on `directives`, in their name."""

import msgspec

from headrace.pipelines.published import directives
from headrace.pipelines.topics import DIRECTIVES
from headrace.schemas.directives import SETTING
from headrace.schemas.errors import SettingsError
from headrace.schemas.ports import Clock, Log, Record
from headrace.schemas.records import Directive


def undo(log: Log, clock: Clock, task: str, directive_id: str, who: str, reason: str) -> Directive:
    """Ask `learn` to take a directive back; raises SettingsError where it is unknown, or not in force."""
    newest = {one.directive_id: one for one in directives(log, task)}
    if directive_id not in newest:
        raise SettingsError(f"no directive {directive_id!r}: `headrace directive list` shows those that there are")
    one = newest[directive_id]
    if one.verdict != "accepted":
        raise SettingsError(f"directive {directive_id} is {one.verdict}: only an accepted one can be undone")
    verdict = "undone" if one.change == SETTING else "undo"  # what a person has set that person takes back
    record = msgspec.structs.replace(one, verdict=verdict, decided_by=who, reason=reason, ts=clock())
    log.send([Record(DIRECTIVES, task.encode(), msgspec.json.encode(record))])
    return record
