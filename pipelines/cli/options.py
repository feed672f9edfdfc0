"""What every command has: the settings as options, -v, and open services handed to it."""

import functools
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

import click
from typing_extensions import override

from headrace.pipelines.cli.logs import log_to_stderr
from headrace.pipelines.service.address import MORE_PORTS
from headrace.pipelines.settings import LOG_FORMATS, Settings, parse_format, read_settings, read_variable
from headrace.pipelines.wiring import ADAPTERS, open_services

R = TypeVar("R")

SECTION: Final = "Settings"


class SettingOption(click.Option):
    """An option that the help lists apart from the command's own."""


class Command(click.Command):
    """A command whose help has a section for settings."""

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Options": [], SECTION: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record:
                sections[SECTION if isinstance(parameter, SettingOption) else "Options"].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def with_settings(function: Callable[..., R]) -> Callable[..., R]:
    """Give the function the settings as its first argument; add their options, and -v."""

    @functools.wraps(function)
    def call(*args: Any, verbose: bool, **options: Any) -> R:  # noqa: ANN401
        log_format = options["log_format"] or read_variable("log_format", os.environ) or LOG_FORMATS[0]
        log_to_stderr(verbose=verbose, log_format=parse_format(log_format), job=_job())
        given = {name: options.pop(name) for name in Settings.model_fields if name in options}
        return function(read_settings(given), *args, **options)

    decorated: Any = click.option("-v", "--verbose", is_flag=True, help="Log more, and show where a fault is.")(call)
    decorated = log_format_option(decorated)
    for part in reversed(ADAPTERS):
        schemes = ", ".join(f"{scheme}:" for scheme in ADAPTERS[part])
        default = Settings.model_fields[part].default
        described = f"{schemes}  [default: {default}; env: HEADRACE_{part.upper()}]"
        decorated = click.option(f"--{part}", metavar="URL", cls=SettingOption, help=described)(decorated)
    return cast(Callable[..., R], decorated)


def with_services(function: Callable[..., R]) -> Callable[..., R]:
    """Give the function open services as its first argument; add the settings' options, and -v."""

    @functools.wraps(function)
    def call(settings: Settings, *args: Any, **options: Any) -> R:  # noqa: ANN401
        with open_services(settings) as services:
            return function(services, *args, **options)

    return with_settings(call)


def _job() -> str:
    """Return the command's name as the log has it: of `headrace run ingest`, ingest."""
    context: click.Context | None = click.get_current_context()
    names: list[str] = []
    while context and context.parent:
        names.insert(0, str(context.info_name))
        context = context.parent
    return " ".join(names).removeprefix("run ")


log_format_option = click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    cls=SettingOption,
    help=f"Of stderr; json is one object a line.  [default: {LOG_FORMATS[0]}; env: HEADRACE_LOG_FORMAT]",
)
metrics_option = click.option(
    "--metrics",
    metavar="HOST:PORT|off",
    cls=SettingOption,
    help="Where /metrics, /healthz and /readyz are served.  "
    f"[default: {Settings.model_fields['metrics'].default}, or one of the {MORE_PORTS} ports after it; "
    "env: HEADRACE_METRICS]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON to stdout.")


class Moment(click.ParamType[int]):
    """A time: milliseconds since 1970, or ISO 8601 (UTC unless it says otherwise)."""

    name = "ms|iso"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if text.removeprefix("-").isdecimal():
            return int(text)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is neither milliseconds since 1970 nor a time such as 2026-01-31T12:00", param, ctx)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
