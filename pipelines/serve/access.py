"""Who asks: tokens, their scopes and their rates."""

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from headrace.pipelines.serve.problems import RefusedError
from headrace.schemas.access import SCOPES, Scope, Token, TokenStore, is_secret, read
from headrace.schemas.errors import HeadraceError
from headrace.schemas.ports import Clock

logger = logging.getLogger(__name__)

COOKIE: Final = "headrace"
KNOWN_S: Final = 1.0
"""How long what the store said of a token is believed: so soon a revoked one is refused."""
MOST_KNOWN: Final = 10_000
STRANGERS_PER_SECOND: Final = 20
"""Requests with a bad token, from one address."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. name: what stands in the record of what they decide."""

    name: str
    scopes: tuple[Scope, ...]
    token_id: str = ""

    def allows(self, scope: Scope) -> bool:
        """Whether they may do what needs the scope. Who may operate sees what there is to decide on."""
        return scope in self.scopes or "admin" in self.scopes or (scope == "read" and "operate" in self.scopes)


class Rates:
    """Token buckets by name, a second's requests deep; the ones used longest ago are forgotten."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, per_second: int) -> bool:
        """Take one request from a bucket; whether there was one."""
        now_s = time.monotonic()
        left, at_s = self._buckets.pop(name, (float(per_second), now_s))
        left = min(float(per_second), left + (now_s - at_s) * per_second)
        taken = left >= 1.0
        self._buckets[name] = left - taken, now_s
        if len(self._buckets) > MOST_KNOWN:
            self._buckets.popitem(last=False)
        return taken


class Gate:
    """Tells by its token who asks. Without any token ever made, whoever reaches a loopback address is the owner."""

    def __init__(self, store: TokenStore, clock: Clock, owner: str) -> None:
        self._store = store
        self._clock = clock
        self._owner = Caller(owner, SCOPES)
        self._known: OrderedDict[str, tuple[float, tuple[Token, bytes] | None]] = OrderedDict()
        self._needed: tuple[float, bool] = (-KNOWN_S, False)
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()
        self.rates = Rates()

    def needs_token(self) -> bool:
        """Whether a token is asked for: since the first one was made, also when all are revoked."""
        now_s = time.monotonic()
        if not self._needed[1] and now_s - self._needed[0] >= KNOWN_S:
            self._needed = now_s, bool(self._store.tokens())
        return self._needed[1]

    def caller(self, sent: str | None, address: str) -> Caller:
        """Return who sent a token, or none; raises RefusedError (401, 429)."""
        if sent is None and not self.needs_token():
            return self._owner
        token = self._token(sent) if sent else None
        if token is None:
            if not self.rates.take(f"stranger {address}", STRANGERS_PER_SECOND):
                raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, "too many requests without a token", _RETRY)
            detail = "this token is unknown, revoked or over" if sent else "a token is needed"
            remedy = "send one as `Authorization: Bearer TOKEN`; `headrace token create NAME` makes it"
            raise RefusedError(HTTPStatus.UNAUTHORIZED, f"{detail}: {remedy}", _CHALLENGE)
        if not self.rates.take(token.token_id, token.per_second):
            detail = f"more than {token.per_second} requests a second with the token {token.name}: slow down"
            raise RefusedError(HTTPStatus.TOO_MANY_REQUESTS, detail, _RETRY)
        return Caller(token.name, token.scopes, token.token_id)

    def _token(self, sent: str) -> Token | None:
        parts = read(sent)
        if parts is None:
            return None
        found = self._find(parts[0])
        if found is None or not is_secret(parts[1], found[1]) or not found[0].active(self._clock()):
            return None
        self._note(parts[0])
        return found[0]

    def _find(self, token_id: str) -> tuple[Token, bytes] | None:
        now_s = time.monotonic()
        with self._lock:
            known = self._known.get(token_id)
        if known is not None and now_s - known[0] < KNOWN_S:
            return known[1]
        found = self._store.find(token_id)
        with self._lock:
            self._known[token_id] = now_s, found
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return found

    def _note(self, token_id: str) -> None:
        with self._lock:
            self._used[token_id] = self._clock()

    def store_uses(self) -> None:
        """Store when tokens were last used; where that fails nobody is refused for it."""
        with self._lock:
            used, self._used = self._used, {}
        try:
            if used:
                self._store.used(used)
        except HeadraceError as error:
            logger.warning("when tokens were last used can't be stored: %s", error)


_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="headrace"'}
_RETRY: Final = {"Retry-After": "1"}
_bearer: Final = HTTPBearer(auto_error=False, description="A token that `headrace token create` printed.")


def require(caller: Caller, scope: Scope) -> Caller:
    """Return the caller; raises RefusedError (403) where they lack the scope."""
    if not caller.allows(scope):
        has = ", ".join(caller.scopes)
        detail = f"this needs the scope {scope}; the token {caller.name} has {has}"
        raise RefusedError(HTTPStatus.FORBIDDEN, detail)
    return caller


def needs(scope: Scope) -> Any:  # noqa: ANN401 what FastAPI takes for a dependency
    """Return a dependency: the caller, refused with 403 unless they have the scope."""

    # On the event loop: a thread for it would cost more than all else.
    async def checked(request: Request, _: Annotated[object, Depends(_bearer)]) -> Caller:
        return require(request.state.caller, scope)

    return Depends(checked)


Reads = Annotated[Caller, needs("read")]
Produces = Annotated[Caller, needs("produce")]
Decides = Annotated[Caller, needs("decide")]
Operates = Annotated[Caller, needs("operate")]
