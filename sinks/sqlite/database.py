"""Opening SQLite well, once for log and index: durable, shared between processes, honest about errors."""

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from headrace.schemas.errors import StorageError, UnavailableError

BUSY_TIMEOUT_MS: Final = 5_000
FORMAT_VERSION: Final = 1

_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: "the disk is full: free space, then start again (nothing half-written was kept)",
    sqlite3.SQLITE_READONLY: "it is read-only: check the permissions of the file and of its folder",
    sqlite3.SQLITE_PERM: "access is refused: check the permissions of the file and of its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: check that its folder exists and is writable",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database: name another path, or move the file away",
    sqlite3.SQLITE_CORRUPT: "it is damaged: restore it, or move it away and build it again from its source",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write: check the disk, its free space and its quotas",
    sqlite3.SQLITE_TOOBIG: "a value is above SQLite's limit of 1 GB: send smaller messages",
    sqlite3.SQLITE_ERROR: "it holds other tables than headrace's: name another path",
}


class Database:
    """One connection to a database file, usable from any thread; its lock serialises them.

    A commit is forced to disk (WAL, synchronous=FULL), so that it survives kill -9 and a power cut. Several processes
    may read while one writes; a second writer waits its turn.
    """

    def __init__(self, path: str | Path, schema: str) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()
        _create_parent(self.path)
        with mapped(self.path, "open"):
            self._connection = sqlite3.connect(
                self.path,
                timeout=BUSY_TIMEOUT_MS / 1000,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
        try:
            with mapped(self.path, "open"):
                self._prepare(schema)
            self._identity = _identity(self.path)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, schema: str) -> None:
        self._connection.execute("PRAGMA page_size = 16384")
        self._connection.execute("PRAGMA foreign_keys = OFF")
        self._use_wal()
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA journal_size_limit = 67108864")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, FORMAT_VERSION}:
            raise StorageError(
                f"{self.path}: it has format {version}, this headrace reads {FORMAT_VERSION}: "
                "use the headrace that wrote it, or another path"
            )
        if not self._complete(schema):
            self._connection.executescript(
                f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version = {FORMAT_VERSION}; COMMIT;"
            )

    def _use_wal(self) -> None:
        """Switch to WAL; SQLite doesn't wait for other openers here, so this does."""
        deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if _primary(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
            else:
                return

    def _complete(self, schema: str) -> bool:
        """Tell whether the schema's tables are there, so that a reader never takes the write lock."""
        names = {name for (name,) in self._connection.execute("SELECT name FROM sqlite_schema")}
        wanted = (part.split("(")[0].split()[-1] for part in schema.split(";") if "CREATE" in part)
        return names.issuperset(wanted)

    @property
    def replaced(self) -> bool:
        """Whether the file was removed, or another put in its place, since it was opened."""
        return _identity(self.path) != self._identity

    def _require_there(self, doing: str) -> None:
        """Raise StorageError for a file that only this process still has: what it wrote there nobody would find."""
        if self.replaced:
            raise StorageError(
                f"{self.path}: {doing} failed: the file was removed or replaced since it was opened: "
                "put it back, or start again with the one that is there now"
            )

    @contextmanager
    def transaction(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Give the connection in a write transaction: all of the block is kept, durably, or none of it."""
        with self._lock, mapped(self.path, doing):
            self._require_there(doing)
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk rolls back by itself
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, parameters: Sequence[Any] = (), doing: str = "read") -> list[Any]:
        """Return a query's rows, all of them: no cursor stays open, so no snapshot is held."""
        with self._lock, mapped(self.path, doing):
            self._require_there(doing)
            return self._connection.execute(sql, parameters).fetchall()

    def pages(
        self, sql: str, within: tuple[Any, ...], after: tuple[Any, ...], rest: tuple[Any, ...], limit: int
    ) -> Iterator[list[Any]]:
        """Stream a query's rows page by page, each after the key of the last one's end.

        sql takes `within`, the key to go on after (first `after`), `rest` and `limit`; its rows begin with `within` and
        that key. No statement stays open between pages: it would hold a snapshot, in which this connection's other
        reads would not see what was written meanwhile.
        """
        while True:
            rows = self.rows(sql, (*within, *after, *rest, limit))
            yield rows
            if len(rows) < limit:
                return
            after = tuple(rows[-1][len(within) : len(within) + len(after)])

    def wipe(self) -> str:
        """Empty the write-ahead log into the file, as it holds the pages that were overwritten.

        Returns what stood in the way, and the remedy; "" where nothing did.
        """
        ((busy, _, _),) = self.rows("PRAGMA wal_checkpoint(TRUNCATE)", doing="checkpoint")
        if not busy:
            return ""
        return (
            f"what was removed still lies in {self.path}-wal, as another process read for more than {BUSY_TIMEOUT_MS} "
            f"ms: stop those that have {self.path.name} open, and the last to close it takes that file away"
        )

    def close(self) -> None:
        with self._lock:
            self._connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another at the same path; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _create_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: its folder cannot be created ({error.strerror}): name another path") from error


@contextmanager
def mapped(path: Path, doing: str) -> Iterator[None]:
    """Turn SQLite's errors into headrace's: UnavailableError when locked, StorageError when it can't work.

    What is neither (a programming error) passes as it is.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = _primary(error)
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise UnavailableError(
                f"{path}: {doing} failed: another process held the database for more than "
                f"{BUSY_TIMEOUT_MS} ms ({error}): it is tried again"
            ) from error
        if code in _REMEDIES:
            raise StorageError(f"{path}: {doing} failed ({error}): {_REMEDIES[code]}") from error
        raise


def _primary(error: sqlite3.Error) -> int | None:
    """Return the primary result code (extended codes have it in their low byte)."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
