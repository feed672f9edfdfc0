"""Settings: where everything is and how jobs are watched, from --options, HEADRACE_* variables and defaults.

HEADRACE_*_FILE names a file that holds the value. An option beats its variable. An unknown variable is an error,
since a misspelt one would be silently ignored.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from headrace.pipelines.report.addresses import parse_recipients
from headrace.pipelines.report.unsubscribing import parse_key
from headrace.pipelines.service.address import MORE_PORTS, SERVE_PORT, Address, parse_address
from headrace.schemas.errors import SettingsError
from headrace.schemas.reasons import did_you_mean
from headrace.schemas.url import Url, parse_url

PREFIX: Final = "HEADRACE_"
FILE_SUFFIX: Final = "_FILE"
LogFormat = Literal["text", "json"]
LOG_FORMATS: Final = ("text", "json")


def parse_format(value: object) -> LogFormat:
    """Read a log's format; raises SettingsError."""
    if value not in LOG_FORMATS:
        raise SettingsError(f"--log-format {value!r}: known: {', '.join(LOG_FORMATS)}")
    return "json" if value == "json" else "text"


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A text that is never shown."""

    text: str

    def __repr__(self) -> str:
        return "***" if self.text else "none"


DEFAULTS: Final[Mapping[str, str | Address]] = {
    "log": "sqlite:.headrace/log.db",
    "index": "sqlite:.headrace/index.db",
    "cache": "memory:",
    "policies": "file:.headrace/policies",
    "tokens": "sqlite:.headrace/tokens.db",
    "mail": "file:.headrace/mail",
    "narrator": "template:",
    "advisor": "rules:?mode=log",
    "metrics": Address(more_ports=MORE_PORTS),
    "serve": Address(port=SERVE_PORT),
    "log_format": "text",
    "digest_to": "team@localhost",
    "digest_cron": "0 8 * * *",
    "digest_zone": "UTC",
    "digest_key": "",
}
_PARSERS: Final[Mapping[str, Callable[[object], Any]]] = {
    "metrics": parse_address,
    "serve": partial(parse_address, option="--address"),
    "log_format": parse_format,
    "digest_to": parse_recipients,
    "digest_cron": str,
    "digest_zone": str,
    "digest_key": lambda value: Secret(parse_key(str(value))),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Where everything is; without settings it lies under ./.headrace/. Build it by `read_settings`.

    metrics: where a job serves its metrics and health. serve: where the API and the console are. log_format: of stderr.
    digest_to, digest_cron, digest_zone: to whom and when digests go. digest_key: by what their links to unsubscribe are
    signed; only a variable gives it.
    """

    log: Url
    index: Url
    cache: Url
    policies: Url
    tokens: Url
    mail: Url
    narrator: Url
    advisor: Url
    metrics: Address
    serve: Address
    log_format: LogFormat
    digest_to: tuple[str, ...]
    digest_cron: str
    digest_zone: str
    digest_key: Secret


def read_settings(options: Mapping[str, object] | None = None) -> Settings:
    """Return the settings; an option that is None counts as not given. Raises SettingsError."""
    given = {name: value for name, value in (options or {}).items() if value is not None}
    for name in given:
        if name not in DEFAULTS:
            raise SettingsError(f"unknown setting {name!r}{suggest(name, list(DEFAULTS))}")
    found = {**DEFAULTS, **_variables(), **given}
    return Settings(**{name: _PARSERS.get(name, parse_url)(value) for name, value in found.items()})


def _variables() -> dict[str, str]:
    """Return the settings that have a variable; raises SettingsError where a HEADRACE_* variable is none of ours."""
    known = [PREFIX + name.upper() for name in DEFAULTS]
    allowed = {*known, *(name + FILE_SUFFIX for name in known)}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in allowed:
            raise SettingsError(f"unknown variable {name}{suggest(name, known)} (each also with {FILE_SUFFIX})")
    values = {name: read_variable(name) for name in DEFAULTS}
    return {name: value for name, value in values.items() if value is not None}


def read_variable(name: str) -> str | None:
    """Return a setting's variable, or the file's content that it names; raises SettingsError."""
    variable = PREFIX + name.upper()
    value, path = os.environ.get(variable), os.environ.get(variable + FILE_SUFFIX)
    if value is not None and path is not None:
        raise SettingsError(f"both {variable} and {variable}{FILE_SUFFIX} are set: unset one of them")
    if path is not None:
        variable += FILE_SUFFIX
        try:
            value = Path(path).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{variable}: {path} can't be read ({error})") from error
    if value is not None and not value:
        raise SettingsError(f"{variable} is empty: give it a value, or unset it for the default")
    return value


def suggest(name: str, known: list[str]) -> str:
    """Return the end of an error message: what was probably meant, and what is known."""
    return f"{did_you_mean(name, known) or ';'} known: {', '.join(known)}"
