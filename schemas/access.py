"""Who may do what by the API: scopes, and tokens, of which a store holds no more than a hash."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Final, Literal, Protocol, get_args

import msgspec

from headrace.schemas.ports import Backend

Scope = Literal["read", "produce", "decide", "operate", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""read: what is known. produce: send transitions. decide: ask for actions. operate: read, and decide what serves.
admin: all of it.
"""

ID_BYTES: Final = 6
SECRET_BYTES: Final = 32
_TOKEN: Final = re.compile(r"hr_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token, without its secret. Times are in ms since 1970; None: never. per_second: requests it may make."""

    token_id: str
    name: str
    scopes: tuple[Scope, ...]
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    last_used_ms: int | None = None
    per_second: int = 1_000

    def active(self, now_ms: int) -> bool:
        """Whether it is neither revoked nor over."""
        return self.revoked_ms is None and (self.expires_ms is None or now_ms < self.expires_ms)


def written(token_id: str, secret: str) -> str:
    """Return a token as its holder sends it."""
    return f"hr_{token_id}_{secret}"


def read(text: str) -> tuple[str, str] | None:
    """Return a sent token's (token_id, secret); None for what is none."""
    found = _TOKEN.fullmatch(text)
    return (found[1], found[2]) if found else None


def secret_hash(secret: str) -> bytes:
    """Return what is stored of a secret: 256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).digest()


def is_secret(secret: str, stored: bytes) -> bool:
    """Whether the hash is the secret's, in a time that does not tell how much of it is."""
    return hmac.compare_digest(secret_hash(secret), stored)


class TokenStore(Backend, Protocol):
    """The tokens of the API, and a hash of each one's secret."""

    def add(self, token: Token, secret_hash: bytes) -> None:
        """Store a new token, durably."""

    def find(self, token_id: str) -> tuple[Token, bytes] | None:
        """Return a token, revoked or not, and the hash of its secret."""

    def tokens(self) -> list[Token]:
        """Return all tokens, revoked ones too, the oldest first."""

    def revoke(self, token_id: str, now_ms: int) -> bool:
        """Let a token be of use no more; whether it was until now."""

    def used(self, at_ms: Mapping[str, int]) -> None:
        """Note when tokens were last used."""
