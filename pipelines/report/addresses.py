"""Where a digest goes and points: e-mail addresses and links, checked before anything is sent."""

import re
from email.utils import formataddr, parseaddr
from typing import Final

from headrace.schemas.errors import SettingsError

_ATOM: Final = r"[\w!#$%&'*+/=?^`{|}~-]+"
_ADDRESS: Final = re.compile(rf"{_ATOM}(\.{_ATOM})*@[a-z\d-]+(\.[a-z\d-]+)*", re.ASCII | re.IGNORECASE)
_UNSUBSCRIBE: Final = re.compile(r"(mailto|https):[^\s<>{}\"]+", re.ASCII)
_PAGE: Final = re.compile(r"https?://[^\s<>\"{}]+[^\s<>\"]*", re.ASCII)
_COMMA: Final = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')
"""A comma that is in no quoted name."""
PLACE: Final = "{report_id}"
TOKEN: Final = "{token}"  # noqa: S105 its place
NOBODY: Final = "none"
MAX_LINK: Final = 800
"""Characters of a link in a header, whose line ends at 998."""


def parse_mail_address(text: str) -> str:
    """Return one address as a header has it, with a name before it or without; raises SettingsError."""
    name, address = parseaddr(text)
    # What is left over beside them would be dropped, or be a second address.
    whole = text == address or text.endswith(f"<{address}>")
    if not (text.isprintable() and whole and _ADDRESS.fullmatch(address)):
        raise SettingsError(f"{text!r} is not an e-mail address such as team@example.org or Team <team@example.org>")
    return formataddr((name, address))


def parse_recipients(value: object) -> tuple[str, ...]:
    """Return addresses, given as such or in one text with commas between, none for `none`; raises SettingsError."""
    if value in {NOBODY, (NOBODY,)}:
        return ()
    parts = _COMMA.split(value) if isinstance(value, str) else [*value] if isinstance(value, tuple) else [str(value)]
    return tuple(parse_mail_address(part.strip()) for part in parts)


def parse_unsubscribe(text: str) -> str:
    """Return a mailto: or https: URL, the latter with or without `{token}` in it; raises SettingsError.

    https: alone may hold the token: who follows a link in the clear shows it to others.
    """
    plain = text.replace(TOKEN, "t") if text.startswith("https:") else text
    if not (text.isprintable() and text.isascii() and _UNSUBSCRIBE.fullmatch(plain)) or len(text) > MAX_LINK:
        raise SettingsError(
            f"{text!r} is not a mailto: or https: URL of at most {MAX_LINK} characters, such as "
            f"https://host/unsubscribe/{TOKEN}, {TOKEN} as it is"
        )
    return text


def parse_page_link(text: str) -> str:
    """Return the URL of a report's page, with `{report_id}` in it, or an empty text; raises SettingsError."""
    if text and not (_PAGE.fullmatch(text) and PLACE in text and "{" not in text.replace(PLACE, "")):
        raise SettingsError(
            f"{text!r} is no page of a report: write https://host/reports/{PLACE}.html, {PLACE} as it is"
        )
    return text
