"""A URL that says where a backend is: how it is read, and how it is shown without its secrets."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from headrace.schemas.errors import SettingsError

_SECRET_OPTION = re.compile(r"(?i)([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&#]*")
_PASSWORD = re.compile(r"(//[^:/?#@]*:).*@")


@dataclass(frozen=True, slots=True, repr=False)
class Url:
    """Where a backend is. `text` is the whole of it, password included; printing a Url masks that.

    user: None where the URL has neither user nor password. host: as it is written, such as `h1:9042,h2`.
    path: percent-decoded; absolute after `scheme:///`, relative after `scheme:`. options: of the query string.
    """

    text: str
    scheme: str
    user: str | None
    password: str
    host: str
    path: str
    options: Mapping[str, str]

    def __str__(self) -> str:
        return masked(self.text)

    __repr__ = __str__

    def whole(self, option: str, default: int) -> int:
        """Return an option that is a whole number; raises SettingsError."""
        text = self.options.get(option, str(default))
        if not text.isdecimal():
            raise SettingsError(f"{self}: {option} is {text!r}; a whole number is needed, such as {default}")
        return int(text)


def masked(text: str) -> str:
    """Return a URL without the secrets in it: the password, and options whose names sound secret."""
    if _has_userinfo(text):
        text = _PASSWORD.sub(r"\1***@", text)
    return _SECRET_OPTION.sub(r"\1***", text)


def _has_userinfo(text: str) -> bool:
    """Tell whether an @ may end a password; where the URL is malformed, assume that it does."""
    try:
        parts = urlsplit(text)
        portless = parts.port is None
    except ValueError:
        return True
    return "@" in parts.netloc or not (portless or parts.hostname)


def parse_url(value: object) -> Url:
    """Read a URL; raises SettingsError. Whether its scheme is known is for `wiring` to say."""
    if isinstance(value, Url):
        return value
    text = str(value)
    try:
        parts = urlsplit(text)
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise SettingsError(f"{masked(text)!r} is not a URL: write it as SCHEME:PATH or SCHEME://HOST/PATH") from error
    if not parts.scheme:
        raise SettingsError(f"{masked(text)!r} has no scheme: write it as SCHEME:PATH, such as sqlite:{masked(text)}")
    if parts.fragment or text.endswith("#"):
        raise SettingsError(f"{masked(text)!r}: write a # in a path as %23")
    credentials, _, host = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    # sqlite:////abs/path, as SQLAlchemy writes it, means what sqlite:///abs/path means.
    path = re.sub("^/+", "/", unquote(parts.path))
    return Url(text, parts.scheme, unquote(user) if credentials else None, unquote(password), host, path, dict(options))
