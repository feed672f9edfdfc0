"""headrace serve."""

import click

from headrace.pipelines.cli.options import Command, SettingOption, with_services
from headrace.pipelines.service.deadline import ended_in_time
from headrace.pipelines.settings import DEFAULTS
from headrace.pipelines.wiring import Services


@click.command("serve", cls=Command)
@click.option(
    "--address",
    "serve",
    metavar="HOST:PORT",
    cls=SettingOption,
    help=f"Where to listen.  [default: {DEFAULTS['serve']}; env: HEADRACE_SERVE]",
)
@with_services
def command(services: Services, *, as_json: bool) -> None:
    """Serve the REST API and the console on one address, until SIGTERM or Ctrl-C.

    On a loopback address it is open to this machine's users until the first token is made (`headrace token create`);
    any other address needs a token. The API describes itself at /openapi.json; the page for people is at /.
    """
    del as_json  # every command has it; a server prints nothing
    from headrace.pipelines.serve.job import serve  # noqa: PLC0415 it loads FastAPI

    _ = services.layout  # there is one, and it is this log's
    with ended_in_time():
        serve(services, services.settings.serve)
