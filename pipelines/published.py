"""What the jobs published: reports, and the policies that serve, read from their topics."""

from collections.abc import Iterator

import msgspec

from headrace.pipelines.topics import messages
from headrace.schemas.errors import SettingsError
from headrace.schemas.ports import Log
from headrace.schemas.records import Report, ServingPolicy


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


def serving(log: Log) -> dict[str, ServingPolicy]:
    """Return what serves now, by task."""
    found: dict[str, ServingPolicy] = {}
    for batch in messages(log, "policies"):
        for key, value in zip(batch.keys, batch.values, strict=True):
            if value:
                policy = msgspec.json.decode(value, type=ServingPolicy)
                found[policy.task] = policy
            elif key:
                found.pop(key.decode(), None)  # a tombstone
    return found
