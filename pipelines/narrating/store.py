"""What a model has answered, and what it has cost by day.

In memory unless a file is named: a report that is on the log is never told again, so a restart asks again only about
what it had not committed. A file is for who restarts often, or pays by the token.
"""

import contextlib
import hashlib
import logging
import sqlite3
from typing import Any, Final, NamedTuple

import msgspec

from headrace.schemas.errors import StorageError
from headrace.schemas.narration.answer import AnswerSentence

logger = logging.getLogger(__name__)

MOST_ANSWERS: Final = 1_000
"""The oldest are forgotten."""
DAY_MS: Final = 86_400_000

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, sentences BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS spent (
    day INTEGER PRIMARY KEY, tokens INTEGER NOT NULL, money REAL NOT NULL, seconds REAL NOT NULL
) STRICT;
"""


class Spent(NamedTuple):
    """What was spent on a day. money: in the currency of the prices."""

    tokens: int = 0
    money: float = 0.0
    seconds: float = 0.0


class Store:
    """path: "" for memory. Raises StorageError where the file can't be opened; one that fails later is done without."""

    def __init__(self, path: str = "") -> None:
        try:
            self._database = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise StorageError(f"the narrator's store {path} can't be opened ({error})") from error
        self._path = path
        self._spent: dict[int, Spent] = {}

    def sentences(self, key: str) -> tuple[AnswerSentence, ...] | None:
        """Return what was answered; None where that is not known."""
        rows = self._run("SELECT sentences FROM answers WHERE key = ?", key)
        with contextlib.suppress(msgspec.MsgspecError):  # of another version of headrace
            return msgspec.json.decode(rows[0][0], type=tuple[AnswerSentence, ...]) if rows else None
        return None

    def keep(self, key: str, sentences: tuple[AnswerSentence, ...]) -> None:
        """Remember what was answered."""
        self._run("INSERT OR REPLACE INTO answers VALUES (?, ?)", key, msgspec.json.encode(sentences))
        self._run("DELETE FROM answers WHERE rowid <= (SELECT max(rowid) FROM answers) - ?", MOST_ANSWERS)

    def spent(self, now_ms: int) -> Spent:
        """Return what was spent on the day (UTC) of a time."""
        day = now_ms // DAY_MS
        if day not in self._spent:
            rows = self._run("SELECT tokens, money, seconds FROM spent WHERE day = ?", day)
            self._spent = {day: Spent(*rows[0]) if rows else Spent()}
        return self._spent[day]

    def spend(self, now_ms: int, more: Spent) -> None:
        """Add to what was spent on a day; earlier days are forgotten."""
        day, before = now_ms // DAY_MS, self.spent(now_ms)
        total = Spent(before.tokens + more.tokens, before.money + more.money, before.seconds + more.seconds)
        self._spent = {day: total}
        self._run("DELETE FROM spent WHERE day < ?", day)
        self._run("INSERT OR REPLACE INTO spent VALUES (?, ?, ?, ?)", day, *total)

    def _run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement; a file that is full, locked or damaged costs an answer again, and no report."""
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            logger.warning("the narrator's store %s: %s", self._path, error)
            return []

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._database.close()


def key_of(*parts: str) -> str:
    """Return the key of an answer: a hash of all that was asked."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
