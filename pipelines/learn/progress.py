"""What a learner holds beside its algorithm's state, and how it and people decide about one policy in turn."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from headrace.learners.stream.training import LearnSettings
from headrace.pipelines.published import after
from headrace.schemas.policy_versions import with_one_lineage
from headrace.schemas.records import ChunkReference, LineageEntry, ServingPolicy


class Progress(msgspec.Struct):
    """What a checkpoint holds beside the algorithm's own state.

    inserted: references whose rows the training may still hold, in order, and the first row taken of each. first_row:
    how many rows came before them. base_row: of these, how many it never held. lineage, complete:
    as in `PolicyVersion`. version: the newest number taken; parent: the one that this learner made last. pending:
    policy records that are not yet on the log. seen: the newest one there that was applied. best: the version that has
    been shown to beat all before it, or that people let serve: candidates are judged against it. refusals: of
    candidates in a row by the gate. went_back_to: by whose weights learning went on after the newest candidate. stated:
    settings of the learner that hold since then. windows: how many event times have had windows, by the newest one's
    start, so that late windows and those of other groups don't count. rows_before: those that came before the newest.
    from_start: whether a person had the task learned anew: then it may be behind the commit of a group that had learned
    it before.
    """

    next_offset: int = 0
    rows_at_candidate: int = 0
    updates_at_candidate: int = 0
    first_row: int = 0
    base_row: int = 0
    inserted: list[tuple[ChunkReference, int]] = []
    lineage: list[LineageEntry] = []
    complete: bool = True
    version: int = 0
    parent: int | None = None
    serving: int | None = None
    best: int | None = None
    refusals: int = 0
    went_back_to: int | None = None
    stated: dict[str, Any] = {}
    windows: int = 0
    newest_start_ms: int | None = None
    rows_before: int = 0
    from_start: bool = False
    pending: list[ServingPolicy] = []
    seen: ServingPolicy | None = None
    format: Literal[2] = 2

    @classmethod
    def read(cls, fields: dict[str, Any]) -> "Progress":
        """Take it out of a checkpoint; those of the first format had lineage in three lists, one of them `windows`."""
        return msgspec.convert(fields if "format" in fields else with_one_lineage(fields) | {"windows": 0}, cls)

    def took(self, pieces: Sequence[tuple[ChunkReference, int]]) -> None:
        """Note the references that one window brought, and the first new row of each."""
        self.inserted += pieces
        window = self.lineage[-1].window + 1 if self.lineage else 0
        self.lineage += [LineageEntry(reference, first_row, window) for reference, first_row in pieces]

    def saw(self, start_ms: int, rows: int) -> None:
        """Note a window's event time, and how many rows came before it."""
        if self.newest_start_ms is None or start_ms > self.newest_start_ms:
            self.newest_start_ms, self.windows, self.rows_before = start_ms, self.windows + 1, rows

    def missing_rows(self, rows: int, settings: LearnSettings) -> int:
        """How many rows must come in before the next candidate is made, after so many; it needs an update too."""
        # The newest window may not be whole yet; and where partitions are read one after another, no window was.
        every = max(
            settings.candidate_after(self.rows_before, self.windows - 1), settings.candidate_after(rows, self.windows)
        )
        return max(0, every - (rows - self.rows_at_candidate))

    def forget(self, gone_rows: int) -> None:
        """Drop the references of which the training holds no row any more: it holds none of the first `gone_rows`."""
        count = 0
        for reference, first_row in self.inserted:
            if self.first_row + reference.rows - first_row > gone_rows:
                break
            self.first_row += reference.rows - first_row
            count += 1
        del self.inserted[:count]

    def begin_anew(self, rows: int) -> None:
        """Go on from `rows` rows without any that were held: what comes of it can't be retrained."""
        self.inserted, self.first_row, self.base_row, self.complete = [], rows, rows, False

    @property
    def opponent(self) -> int | None:
        """The version that a candidate is judged against, None while nothing serves."""
        return None if self.serving is None else self.best or self.serving

    def promoted(self, version: int, *, best: bool) -> None:
        """Let a version serve. best: whether it was shown to beat the best one before."""
        self.best = version if best else self.opponent or version
        self.serving = version

    @property
    def holding(self) -> ServingPolicy | None:
        """The record that holds promotion, if one does."""
        newest = self.pending[-1] if self.pending else self.seen
        return newest if newest and newest.held else None

    def apply(self, records: Sequence[ServingPolicy]) -> bool:
        """Apply what is on `policies` since the record that was applied last; whether a person decided.

        The pending ones among it were sent before a kill. Any other is a person's: it stands above what is pending,
        which is dropped; where one of ours came just after it, it is said once more.
        """
        fresh = after(records, self.seen)
        if not fresh:
            return False
        others = [one for one in fresh if one not in self.pending]
        sent = [place for place, one in enumerate(self.pending) if one in fresh]
        del self.pending[: sent[-1] + 1 if sent else 0]
        self.seen = fresh[-1]
        if others:
            self._yield_to(others[-1], again=others[-1] != fresh[-1])
        return bool(others)

    def sent(self, records: Sequence[ServingPolicy]) -> bool:
        """Note that the pending ones are on the log now, which may not show them yet; whether a person decided before.

        That one's decision, made while ours was on its way, is said once more.
        """
        ours, self.pending = self.pending, []
        fresh = after(records, self.seen)
        before = fresh[: fresh.index(ours[0])] if ours[0] in fresh else fresh
        self.seen = ours[-1]
        if before:
            self._yield_to(before[-1], again=True)
        return bool(before)

    def _yield_to(self, decided: ServingPolicy, *, again: bool) -> None:
        self.pending = [decided] if again else []
        self.serving = self.best = decided.version or None
