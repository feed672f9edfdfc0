"""What every command has: the settings as options, -v, and open services handed to it."""

import functools
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

import click
from typing_extensions import override

from headrace.pipelines.settings import Settings, read_settings
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
        log_to_stderr(verbose=verbose)
        urls = {part: options.pop(part) for part in ADAPTERS}
        return function(read_settings(urls), *args, **options)

    decorated: Any = click.option("-v", "--verbose", is_flag=True, help="Log more, and show where a fault is.")(call)
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


def log_to_stderr(*, verbose: bool) -> None:
    """Send headrace's own log to stderr; other packages' only from warnings on."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("headrace").setLevel(logging.DEBUG if verbose else logging.INFO)


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
