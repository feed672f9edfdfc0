"""What the jobs published: reports, and the policies that serve, read from their topics."""

from collections.abc import Iterator, Sequence

import msgspec

from headrace.pipelines.topics import DIRECTIVES, POLICIES, messages, of_key
from headrace.schemas.errors import SettingsError
from headrace.schemas.ports import Log
from headrace.schemas.records import Directive, Report, ServingPolicy


def reports(log: Log, task: str | None = None) -> Iterator[Report]:
    """Stream the reports, in log order by partition; a repeated id is the same report."""
    for batch in messages(log, "reports"):
        for value in batch.values:
            report = msgspec.json.decode(value, type=Report) if value else None
            if report and task in {None, report.task}:
                yield report


def report(log: Log, report_id: str) -> Report:
    """Return one report; raises SettingsError."""
    for found in reports(log):
        if found.report_id == report_id:
            return found
    raise SettingsError(f"no report {report_id!r}: `headrace report list` shows those that there are")


def published(log: Log, task: str) -> list[ServingPolicy]:
    """Return the task's records on `policies` that the log still holds, in order; the last one is what holds now."""
    found: list[ServingPolicy] = []
    for values, _ in of_key(log, POLICIES, task):
        for value in values:
            if value:
                found.append(msgspec.json.decode(value, type=ServingPolicy))
            else:
                found.clear()  # a tombstone
    return found


def after(records: Sequence[ServingPolicy], seen: ServingPolicy | None) -> list[ServingPolicy]:
    """Return the records since one of them; where the log does not show it (any more, or yet), those later than it."""
    places = [place for place, record in enumerate(records) if record == seen]
    if places:
        return [*records[places[-1] + 1 :]]
    return [record for record in records if seen is None or record.ts > seen.ts]


def directives(log: Log, task: str) -> list[Directive]:
    """Return the task's records on `directives`, in order; of an id the last one is what holds."""
    return [
        msgspec.json.decode(value, type=Directive)
        for values, _ in of_key(log, DIRECTIVES, task)
        for value in values
        if value
    ]


def serving(log: Log) -> dict[str, ServingPolicy]:
    """Return what serves now, by task."""
    found: dict[str, ServingPolicy] = {}
    for batch in messages(log, POLICIES):
        for key, value in zip(batch.keys, batch.values, strict=True):
            if value:
                policy = msgspec.json.decode(value, type=ServingPolicy)
                found[policy.task] = policy
            elif key:
                found.pop(key.decode(), None)  # a tombstone
    return found
