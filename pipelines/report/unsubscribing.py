"""Links to unsubscribe by with one click (RFC 8058): a subscriber's token, signed so that nobody can make one up.

A token names the subscriber by a hash, so that no address stands in a web server's log.
"""

import base64
import hashlib
import hmac
import re
from email.utils import parseaddr
from typing import Final

from headrace.pipelines.report.addresses import TOKEN
from headrace.schemas.errors import InvalidTokenError, SettingsError

MIN_KEY: Final = 32
"""Characters: of a key in hexadecimal digits, 128 bits."""
_TOKEN: Final = re.compile(r"([0-9a-f]{24})\.([A-Za-z0-9_-]{22})", re.ASCII)
_PURPOSE: Final = b"headrace digest unsubscribe 1\0"


def parse_key(text: str) -> str:
    """Return the key that tokens are signed by, "" for none; raises SettingsError."""
    if text and (len(text) < MIN_KEY or not text.isprintable()):
        raise SettingsError(
            f"HEADRACE_DIGEST_KEY has {len(text)} characters; it needs {MIN_KEY} printable ones or more, such as "
            "`openssl rand -hex 32` prints"
        )
    return text


def identity(subscriber: str) -> str:
    """Return what names a subscriber, given by its key on the log, in a token."""
    return hashlib.sha256(subscriber.encode()).hexdigest()[:24]


def sign(key: str, subscriber: str) -> str:
    """Return a subscriber's token: 47 characters that may stand in a URL's path."""
    name = identity(subscriber)
    return f"{name}.{_mac(key, name)}"


def verify(key: str, token: str) -> str:
    """Return the identity of the subscriber that a token was signed for; raises InvalidTokenError."""
    match = _TOKEN.fullmatch(token)
    if not (key and match and hmac.compare_digest(_mac(key, match[1]), match[2])):
        raise InvalidTokenError("this link to unsubscribe is not one of ours, or a part of it is missing")
    return match[1]


def _mac(key: str, name: str) -> str:
    digest = hmac.digest(key.encode(), _PURPOSE + name.encode(), "sha256")
    return base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")


def unsubscribe_link(template: str, key: str, subscribers: list[str], sender: str) -> str:
    """Return what List-Unsubscribe of a mail says.

    A token is one recipient's: a mail to several has a link to the sender's mailbox instead.
    """
    if TOKEN not in template:
        return template
    if len(subscribers) != 1:
        return f"mailto:{parseaddr(sender)[1]}?subject=unsubscribe"
    return template.replace(TOKEN, sign(key, subscribers[0]))
