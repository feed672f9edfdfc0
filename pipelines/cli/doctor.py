"""headrace doctor: what is reachable, which version, what to do."""

import sys

import click

from headrace.pipelines import doctor
from headrace.pipelines.cli.options import Command, with_services
from headrace.pipelines.cli.output import print_json, print_table
from headrace.pipelines.wiring import Services


@click.command("doctor", cls=Command)
@with_services
def command(services: Services, *, as_json: bool) -> None:
    """Check settings, backends, topics, layout and ingest's lag; exit 1 when something is wrong."""
    checks = doctor.examine(services)
    ok = all(check.ok for check in checks)
    if as_json:
        print_json([{"ok": ok, "checks": checks}])
    else:
        print_table(("", "check", "found"), doctor.rows(checks))
    sys.exit(0 if ok else 1)
