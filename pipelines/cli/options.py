"""What every command has: the settings as options, -v, and open services handed to it."""

import functools
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

import click
from typing_extensions import override

from headrace.pipelines.cli.logs import log_to_stderr
from headrace.pipelines.cli.output import TABLE_ROWS
from headrace.pipelines.service.address import MORE_PORTS
from headrace.pipelines.settings import DEFAULTS, LOG_FORMATS, Settings, parse_format, read_settings, read_variable
from headrace.pipelines.wiring import ADAPTERS, open_services

R = TypeVar("R")

INTERRUPTED: Final = 130
"""The exit status of what Ctrl-C ended, as shells have it."""

_POLICY: Final = re.compile(r"([A-Za-z0-9._-]{1,64})@([1-9][0-9]{0,8})")


class SettingOption(click.Option):
    """An option that the help lists apart from the command's own."""


class Command(click.Command):
    """A command whose help has a section for settings."""

    @override
    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        for title, of_settings in (("Options", False), ("Settings", True)):
            chosen = [option for option in options if isinstance(option, SettingOption) is of_settings]
            records = [record for option in chosen if (record := option.get_help_record(ctx))]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def with_settings(function: Callable[..., R]) -> Callable[..., R]:
    """Give the function the settings as its first argument; add their options, -v and --json."""

    @functools.wraps(function)
    def call(*args: Any, verbose: bool, **options: Any) -> R:  # noqa: ANN401
        log_format = options["log_format"] or read_variable("log_format") or LOG_FORMATS[0]
        log_to_stderr(verbose=verbose, log_format=parse_format(log_format), job=_job())
        given = {name: options.pop(name) for name in DEFAULTS if name in options}
        return function(read_settings(given), *args, **options)

    decorated: Any = log_format_option(verbose_option(call))
    for part in reversed(ADAPTERS):
        schemes = ", ".join(f"{scheme}:" for scheme in ADAPTERS[part])
        described = f"{schemes}  [default: {DEFAULTS[part]}; env: HEADRACE_{part.upper()}]"
        decorated = click.option(f"--{part}", metavar="URL", cls=SettingOption, help=described)(decorated)
    return cast(Callable[..., R], json_option(decorated))


def with_services(function: Callable[..., R]) -> Callable[..., R]:
    """Give the function open services as its first argument; add what `with_settings` does."""

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


def _limit(context: click.Context, _option: click.Parameter, value: int | None) -> int | None:
    return value if value is not None or context.params.get("as_json") else TABLE_ROWS


verbose_option = click.option("-v", "--verbose", is_flag=True, help="Log more, and show where a fault is.")
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
    f"[default: {DEFAULTS['metrics']}, or one of the {MORE_PORTS} ports after it; "
    "env: HEADRACE_METRICS]",
)
json_option = click.option("--json", "as_json", is_flag=True, is_eager=True, help="JSON to stdout.")
task_option = click.option("--task", help="Only this task's.")
DEFAULT_ENVIRONMENT = "headrace/CloudService-v0"  # spelt out: the module that names it loads Gymnasium
environment_option = click.option(
    "--env",
    "environment",
    help="A Gymnasium environment's id; with what it is made with as JSON behind it, if need be: "
    f"'Taxi-v4{{\"is_rainy\": true}}'.  [default: the task's, or {DEFAULT_ENVIRONMENT}]",
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(0, 1_000_000_000),
    callback=_limit,
    help=f"At most so many.  [default: {TABLE_ROWS}; --json: all]",
)


class Within(click.FloatRange):
    """A number between two bounds; what is no number lies nowhere, though no comparison refuses it."""

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number from {self.min:g} to {self.max:g}", param, ctx)
        return number


class PolicyName(click.ParamType[tuple[str, int]]):
    """A policy: TASK@VERSION."""

    name = "task@version"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        match = _POLICY.fullmatch(str(value))
        if not match:
            self.fail(f"{value!r} is no policy: write TASK@VERSION, such as cloud@3", param, ctx)
        return match[1], int(match[2])


MILLISECONDS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
BYTES: Final = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class Quantity(click.ParamType[int]):
    """A number with a unit, as a whole number of the smallest; "none" is 0."""

    def __init__(self, units: Mapping[str, int], example: str) -> None:
        self.units = units
        self.example = example
        self.name = example

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "none":
            return 0
        match = re.fullmatch(rf"(?i)([0-9]{{1,9}}(?:\.[0-9]{{1,6}})?) ?({'|'.join(self.units)})", str(value))
        units = {name.lower(): size for name, size in self.units.items()}
        number = round(float(match[1]) * units[match[2].lower()]) if match else 0
        if not number:
            self.fail(f"{value!r} is no number with one of {', '.join(self.units)}, such as {self.example}", param, ctx)
        return number


class PolicyOrTask(click.ParamType[tuple[str, int | None]]):
    """A policy, TASK@VERSION; or TASK, for the version of it that serves."""

    name = "task[@version]"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int | None]:
        text = str(value)
        return PolicyName().convert(value, param, ctx) if "@" in text else (text, None)


class Timestamp(click.ParamType[int]):
    """A time from year 1 to 9999: milliseconds since 1970, or ISO 8601 (UTC unless it says otherwise)."""

    name = "ms|iso"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        try:
            ms = int(text) if text.removeprefix("-").isdecimal() else _ms(datetime.fromisoformat(text))
        except ValueError:
            self.fail(f"{text!r} is neither milliseconds since 1970 nor a time such as 2026-01-31T12:00", param, ctx)
        if not _FIRST_MS <= ms <= _LAST_MS:
            self.fail(f"{text!r} is out of range: {_FIRST_MS} to {_LAST_MS} ms, which are years 1 to 9999", param, ctx)
        return ms


def _ms(moment: datetime) -> int:
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


_FIRST_MS: Final = _ms(datetime(1, 1, 1))  # noqa: DTZ001 `_ms` takes it as UTC
_LAST_MS: Final = _ms(datetime(9999, 12, 31, 23, 59, 59))  # noqa: DTZ001 `_ms` takes it as UTC
