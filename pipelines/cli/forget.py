"""headrace forget: what must go."""

import sys
from contextlib import nullcontext

import click

from headrace.pipelines.cli.options import Command, Timestamp, with_services
from headrace.pipelines.cli.output import echo, iso, print_answer, print_json
from headrace.pipelines.cli.serving import alone
from headrace.pipelines.query.forget import KEPT, Forgetting, Gone
from headrace.pipelines.query.scan import task_spec
from headrace.pipelines.topics import INGEST, REJECTED, TRANSITIONS, WINDOWS
from headrace.pipelines.wiring import Services


@click.command("forget", cls=Command)
@click.option("--task", help="The task's name.")
@click.option("--before", "before_ms", type=Timestamp(), help="What happened before this time goes.")
@click.option("--group", help="Instead: a group of the log whose job is run no more, so that nothing waits for it.")
@click.option("--yes", "remove", is_flag=True, help="Remove it. Without it, it is only counted.")
@with_services
def command(
    services: Services, *, task: str | None, before_ms: int | None, group: str | None, remove: bool, as_json: bool
) -> None:
    """Remove a task's rows before a time: its chunks, windows, sampled decisions and messages.

    Windows go whole: those that end by that time. On SQLite the log's messages are overwritten as well; on Kafka they
    stay until the topic's retention takes them. There is no way back. Stop ingest first: it holds rows that it would
    write again (on SQLite this is checked).

    With --group, a group's commits go instead: `headrace doctor` lists the groups.
    """
    if group is not None and task is None and before_ms is None:
        _forget_group(services, group, remove=remove, as_json=as_json)
        return
    if group is not None or task is None or before_ms is None:
        raise click.UsageError("name --task and --before, or --group alone")
    spec = task_spec(services.log, task)
    end_ms = before_ms - before_ms % spec.window_ms
    with alone(services, INGEST, "it would write rows of its open segment back") if remove else nullcontext():
        gone = Forgetting(services.log, spec, services.layout, end_ms, remove).run(services.index, services.cache)
    if as_json:
        print_json([{"task": task, "before_ms": end_ms, "removed": remove, **_counts(gone), "faults": gone.faults}])
    else:
        for name, count in _counts(gone).items():
            echo(f"{count:>9}  {name.replace('_', ' ')}")
        did = "removed" if remove else "would go: --yes removes it, and there is no way back"
        echo(f"of {task}, before {iso(end_ms)} UTC: {did}. {KEPT}")
    for fault in gone.faults:
        echo(f"headrace: {fault}", err=True)
    sys.exit(1 if gone.faults else 0)


def _forget_group(services: Services, group: str, *, remove: bool, as_json: bool) -> None:
    known = [name for name in services.log.groups() if name != INGEST]  # what the index holds rests on ingest's commits
    if group not in known:
        raise click.UsageError(f"{group} is no group that may go: {', '.join(known) or 'the log has none'}")
    if remove:
        services.log.drop(group)
    did = "its commits are gone" if remove else "its commits would go: --yes removes them"
    print_answer({"group": group, "removed": remove}, f"group {group}: {did}", as_json=as_json)


def _counts(gone: Gone) -> dict[str, int]:
    return {
        "chunks": gone.index.chunks,
        "windows": gone.index.windows,
        "sampled_decisions": gone.index.decisions,
        "messages": gone.messages[TRANSITIONS],
        "messages_that_stay_as_they_hold_later_rows_too": gone.straddling,
        "summaries_on_the_log": gone.messages[WINDOWS],
        "rejected_messages": gone.messages[REJECTED],
        "cache_entries": gone.entries,
    }
