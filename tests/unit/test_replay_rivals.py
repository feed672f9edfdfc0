"""Two replays of the quarantine at the same time: each message is sent once, and the late one says what to do."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from headrace.pipelines.query.rejected import Replayed, replay
from headrace.pipelines.topics import REJECTED, TRANSITIONS
from headrace.schemas.errors import CommitConflictError
from headrace.schemas.ports import Commit, Record
from headrace.sinks.sqlite.log import SqliteLog

COUNT = 250
"""More than two commits of a replay."""


class Overtaken(SqliteLog):
    """A log that lets a rival go first at the commit that `at` counts down to."""

    at = 0
    rival: Callable[[], object]

    def move(
        self,
        group: str,
        topic: Any,
        seen: Mapping[int, int],
        commits: Mapping[int, Commit],
        outputs: Sequence[Record],
    ) -> None:
        self.at -= 1
        if self.at == 0:
            self.rival()
        super().move(group, topic, seen, commits, outputs)


def rejected(number: int) -> Record:
    place = (("topic", TRANSITIONS.encode()), ("partition", b"0"), ("offset", str(number).encode()))
    return Record(REJECTED, b"key", str(number).encode(), (*place, ("rule", b"clock"), ("reason", b"ahead")), 0)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_the_late_one_says_to_run_it_again_and_nothing_is_sent_twice(tmp_path: Path, at: int) -> None:
    other = SqliteLog(tmp_path / "log.db", lambda: 0)
    log = Overtaken(tmp_path / "log.db", lambda: 0)
    for topic in (REJECTED, TRANSITIONS):
        log.create(topic, 1)
    log.send([rejected(i) for i in range(COUNT)])
    log.at, log.rival = at, lambda: replay(other, ["clock"], again=False)
    told = "^another process sends again what the rule clock rejected: no message is sent twice; run it again"
    with pytest.raises(CommitConflictError, match=told):
        replay(log, ["clock"], again=False)
    assert replay(log, ["clock"], again=False) == Replayed()
    sent = log.read(TRANSITIONS, 0, 0, 1_000)
    assert [int(value or b"") for value in sent.values] == [*range(COUNT)]
    log.close()
    other.close()
