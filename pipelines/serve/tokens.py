"""Making a token."""

import re
import secrets
from typing import Final

from headrace.schemas.access import ID_BYTES, SECRET_BYTES, Scope, Token, TokenStore, secret_hash, written
from headrace.schemas.errors import SettingsError
from headrace.schemas.ports import Clock

_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")


def create_token(
    store: TokenStore, clock: Clock, name: str, scopes: tuple[Scope, ...], expires_ms: int | None, per_second: int
) -> tuple[Token, str]:
    """Make a token; return it, and what its holder sends, which is stored nowhere. Raises SettingsError."""
    if not _NAME.fullmatch(name):
        raise SettingsError(f"token name {name!r}: 1 to 64 letters, digits and . _ @ - are allowed")
    if any(one.name == name and one.active(clock()) for one in store.tokens()):
        raise SettingsError(f"there is a token {name!r} already: revoke it first, or give this one another name")
    token_id, secret = secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    token = Token(
        token_id=token_id,
        name=name,
        scopes=scopes,
        created_ms=clock(),
        expires_ms=expires_ms,
        per_second=per_second,
    )
    store.add(token, secret_hash(secret))
    return token, written(token_id, secret)
