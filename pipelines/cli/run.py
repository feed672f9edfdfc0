"""headrace run: the streaming jobs."""

import os

import click
from typing_extensions import override

from headrace.pipelines.cli.lazy import Lazy, LazyGroup
from headrace.pipelines.runtime.stop import stopped_by_signals
from headrace.pipelines.service.deadline import ended_in_time

JOBS = {
    "ingest": Lazy("run_ingest", "Check, window and index transitions."),
    "learn": Lazy("run_learn", "Learn from windows; promote what passes the gate."),
    "explain": Lazy("run_explain", "Write reports on policies and intervals."),
    "fleet": Lazy("run_fleet", "Simulated agents that act with the newest policy."),
    "digest": Lazy("run_digest", "Mail the reports on schedule."),
}


class _Jobs(LazyGroup):
    """A job's modules take their time to load, its services to open; a stop meanwhile is clean too.

    Nothing is in hand before the job takes the signals itself, so they end the process where they find it. An exception
    (sys.exit) might be raised inside a lock that a driver waits for, and come out as that lock's own error, or never.
    """

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        ctx.with_resource(stopped_by_signals(lambda: os._exit(0)))
        ctx.with_resource(ended_in_time())
        return super().resolve_command(ctx, args)


@click.group("run", cls=_Jobs, lazy=JOBS)
def command() -> None:
    """Run a streaming job. SIGTERM or Ctrl-C is a clean stop: what is in hand is finished and committed.

    A job that can't as a dependency hangs is ended within 5 s of SIGTERM; the next run goes on from the last commit.
    """
