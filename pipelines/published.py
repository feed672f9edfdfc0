"""What the jobs published: reports with their ratings, and the policies that serve, read from their topics."""

from collections.abc import Iterator, Sequence

from headrace.pipelines.topics import DIRECTIVES, POLICIES, RATINGS, REPORTS, decoded, messages, newest, records
from headrace.schemas.errors import SettingsError
from headrace.schemas.ports import Log
from headrace.schemas.records import Directive, Rating, Report, ServingPolicy


def reports(log: Log, task: str | None = None) -> Iterator[Report]:
    """Stream the reports, in log order by partition; a repeated id is the same report."""
    return (report for report in records(messages(log, REPORTS), Report) if task in {None, report.task})


def report(log: Log, report_id: str) -> Report:
    """Return one report; raises SettingsError."""
    for found in reports(log):
        if found.report_id == report_id:
            return found
    raise SettingsError(f"no report {report_id!r}: `headrace report list` shows those that there are")


def ratings(log: Log, task: str | None = None) -> list[Rating]:
    """Return each person's last rating of each report, the oldest first."""
    found = newest(log, RATINGS, Rating).values()
    return sorted((one for one in found if task in {None, one.task}), key=lambda one: (one.ts, one.report_id, one.who))


def published(log: Log, task: str) -> list[ServingPolicy]:
    """Return the task's records on `policies` that the log still holds, in order; the last one is what holds now."""
    found: list[ServingPolicy] = []
    for batch in messages(log, POLICIES, task):
        for value, policy in zip(batch.values, decoded(batch, ServingPolicy, strict=True), strict=True):
            if policy:
                found.append(policy)
            elif not value:
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
    return [*records(messages(log, DIRECTIVES, task), Directive, strict=True)]


def serving(log: Log) -> dict[str, ServingPolicy]:
    """Return what serves now, by task."""
    return newest(log, POLICIES, ServingPolicy, strict=True)
