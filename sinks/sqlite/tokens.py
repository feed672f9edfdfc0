"""The tokens of the API in one SQLite file: a hash of each, and when it was last used."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from headrace.schemas.access import Token, TokenStore
from headrace.schemas.ports import Adapter
from headrace.sinks.sqlite.database import Database

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS tokens(
    token_id TEXT PRIMARY KEY, token BLOB NOT NULL, hash BLOB NOT NULL, revoked_ms INTEGER, last_used_ms INTEGER
)
"""
_SELECT: Final = "SELECT token, hash, revoked_ms, last_used_ms FROM tokens "


class SqliteTokens(TokenStore):
    """The file is made with the first token; until then there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: Database | None = None
        self._lock = threading.Lock()

    def add(self, token: Token, secret_hash: bytes) -> None:
        with self._open().transaction("add a token") as connection:
            values = (token.token_id, msgspec.json.encode(token), secret_hash)
            connection.execute("INSERT INTO tokens VALUES (?, ?, ?, NULL, NULL)", values)

    def find(self, token_id: str) -> tuple[Token, bytes] | None:
        rows = self._rows("WHERE token_id = ?", token_id)
        return rows[0] if rows else None

    def tokens(self) -> list[Token]:
        found = (token for token, _ in self._rows("ORDER BY token_id"))
        return sorted(found, key=lambda token: (token.created_ms, token.token_id))

    def revoke(self, token_id: str, now_ms: int) -> bool:
        if not self._path.exists():
            return False
        with self._open().transaction("revoke a token") as connection:
            sql = "UPDATE tokens SET revoked_ms = ? WHERE token_id = ? AND revoked_ms IS NULL"
            return connection.execute(sql, (now_ms, token_id)).rowcount > 0

    def used(self, at_ms: Mapping[str, int]) -> None:
        with self._open().transaction("note a token's use") as connection:
            sql = "UPDATE tokens SET last_used_ms = max(coalesce(last_used_ms, 0), ?) WHERE token_id = ?"
            connection.executemany(sql, [(now_ms, token_id) for token_id, now_ms in at_ms.items()])

    def close(self) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def _rows(self, where: str, *parameters: str) -> list[tuple[Token, bytes]]:
        if not self._path.exists():
            return []
        rows = self._open().rows(_SELECT + where, parameters, "read the tokens")
        return [(_token(row), row[1]) for row in rows]

    def _open(self) -> Database:
        with self._lock:
            if self._opened is not None and self._opened.replaced:  # another file says now who may do what
                self._opened.close()
                self._opened = None
            if self._opened is None:
                self._opened = Database(self._path, _SCHEMA)
                self._path.chmod(0o600)
            return self._opened


def _token(row: tuple[bytes, bytes, int | None, int | None]) -> Token:
    token = msgspec.json.decode(row[0], type=Token)
    return msgspec.structs.replace(token, revoked_ms=row[2], last_used_ms=row[3])


ADAPTER: Final = Adapter(lambda url, _clock, _create: SqliteTokens(Path(url.path)), local=True)
