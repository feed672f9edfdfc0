"""Settings: where everything is and how jobs are watched, from --options, HEADRACE_* variables and defaults.

HEADRACE_*_FILE names a file that holds the value. An option beats its variable. An unknown variable is an error,
since a misspelt one would be silently ignored.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, InstanceOf, PlainSerializer
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from typing_extensions import override

from headrace.pipelines.service.address import MORE_PORTS, Address, parse_address
from headrace.schemas.errors import SettingsError
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


_Location = Annotated[InstanceOf[Url], BeforeValidator(parse_url), PlainSerializer(str)]
_Address = Annotated[InstanceOf[Address], BeforeValidator(parse_address), PlainSerializer(str)]


class Settings(BaseSettings):
    """Where everything is; without settings it lies under ./.headrace/. Build it by `read_settings`.

    metrics: where a job serves its metrics and health. log_format: of stderr.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", validate_default=True)

    log: _Location = parse_url("sqlite:.headrace/log.db")
    index: _Location = parse_url("sqlite:.headrace/index.db")
    cache: _Location = parse_url("memory:")
    policies: _Location = parse_url("file:.headrace/policies")
    mail: _Location = parse_url("file:.headrace/mail")
    narrator: _Location = parse_url("template:")
    advisor: _Location = parse_url("rules:?mode=log")
    metrics: _Address = Address(more_ports=MORE_PORTS)
    log_format: Annotated[LogFormat, BeforeValidator(parse_format)] = "text"

    @classmethod
    @override
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read options first, then the environment, and nothing else."""
        return init_settings, _Environment(settings_cls)


class _Environment(PydanticBaseSettingsSource):
    """HEADRACE_NAME, or the content of the file that HEADRACE_NAME_FILE names; any other HEADRACE_* is an error.

    pydantic-settings' own source ignores variables that it doesn't know, and reads secrets from one folder only.
    """

    @override
    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return read_variable(field_name, os.environ), field_name, False

    @override
    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        refuse_unknown(os.environ, list(fields))
        found = {name: self.get_field_value(field, name)[0] for name, field in fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def read_settings(options: Mapping[str, str | None] | None = None) -> Settings:
    """Return the settings; an option that is None counts as not given. Raises SettingsError."""
    given: dict[str, Any] = {name: value for name, value in (options or {}).items() if value is not None}
    unknown = [name for name in given if name not in Settings.model_fields]
    if unknown:
        raise SettingsError(f"unknown setting {unknown[0]!r}{suggest(unknown[0], list(Settings.model_fields))}")
    return Settings(**given)


def refuse_unknown(environ: Mapping[str, str], names: list[str]) -> None:
    """Raise SettingsError where a HEADRACE_* variable is none of ours."""
    known = [PREFIX + name.upper() for name in names]
    allowed = {*known, *(name + FILE_SUFFIX for name in known)}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in allowed:
            raise SettingsError(f"unknown variable {name}{suggest(name, known)} (each also with {FILE_SUFFIX})")


def read_variable(name: str, environ: Mapping[str, str]) -> str | None:
    """Return a setting's variable, or the file's content that it names; raises SettingsError."""
    variable = PREFIX + name.upper()
    value, path = environ.get(variable), environ.get(variable + FILE_SUFFIX)
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
    close = get_close_matches(name, known, n=1)
    meant = f"; did you mean {close[0]}?" if close else ";"
    return f"{meant} known: {', '.join(known)}"
