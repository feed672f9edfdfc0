"""A chunk's canonical bytes: columns one after another, which depend on the rows alone.

Names are sorted, integers are stored as differences from row to row, what no row has takes no bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch

_MAX_ROWS = 1 << 16
_MAX_TERMS = 1 << 12
_FLOAT, _INT, _INT32 = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.int32)
_BYTE, _CODE = np.dtype(np.uint8), np.dtype(np.uint16)


class _Payload(Struct, array_like=True, frozen=True):
    version: int
    rows: int
    width: int
    task: str
    agents: list[str]
    episodes: list[str]
    agent: bytes
    episode: bytes
    step: bytes
    ts: bytes
    offset: bytes
    obs: bytes
    next_obs: bytes
    action: bytes
    discrete: bool
    reward: bytes
    ends: bytes
    term_count: int
    reward_terms: bytes
    policy_version: bytes
    log_prob: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Payload).decode


def sort_positions(keys: NDArray[Any]) -> NDArray[np.int64]:
    """Return the stable order of non-negative integer keys: one sort of (key, position) packed in int64."""
    bits = max(1, len(keys).bit_length())
    if len(keys) and int(keys.max()) >> (62 - bits):
        return np.argsort(keys, kind="stable")
    packed = (keys.astype(np.int64) << bits) | np.arange(len(keys))
    packed.sort()
    return packed & ((1 << bits) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """A dictionary-coded column, coded anew in each run of rows by the sorted list of the names that occur in it.

    names: of every run, one run's after another's. bounds: where each run's names begin, and where the last's end.
    code: int64[N], each row's place in `names`. local: uint16[N], its place among the run's own names.
    """

    names: list[str]
    bounds: list[int]
    code: NDArray[np.int64]
    local: NDArray[np.uint16]

    def of(self, run: int) -> list[str]:
        """Return a run's names."""
        return self.names[self.bounds[run] : self.bounds[run + 1]]


def code_runs(names: Sequence[str], column: NDArray[np.int32], starts: NDArray[np.int64]) -> Codes:
    """Code a column's runs; starts: int64[runs + 1], where each begins, and where the last ends."""
    runs = len(starts) - 1
    by_name = sorted(range(len(names)), key=names.__getitem__)
    rank = np.empty(len(names), np.int64)
    rank[by_name] = np.arange(len(names))
    run = np.repeat(np.arange(runs), np.diff(starts))
    cell = run * len(names) + rank[column]
    order = sort_positions(cell)
    ordered = cell[order]
    new = np.diff(ordered, prepend=-1) != 0
    code = np.empty(len(cell), np.int64)
    code[order] = np.cumsum(new) - 1
    cells = ordered[new]
    bounds = np.searchsorted(cells, np.arange(runs + 1) * len(names))
    local = (code - bounds[run]).astype(np.uint16)
    return Codes([names[by_name[i]] for i in (cells % len(names)).tolist()], bounds.tolist(), code, local)


class Payloads:
    """The canonical uncompressed bytes of runs of a batch's rows; what can be is computed for all runs at once."""

    def __init__(self, rows: TransitionBatch, starts: NDArray[np.int64], agents: Codes, episodes: Codes) -> None:
        assert (np.diff(starts) <= _MAX_ROWS).all()
        self._rows, self._starts = rows, starts.tolist()
        self._agents, self._episodes = agents, episodes
        self._step, self._ts, self._offset = (_differences(c, starts) for c in (rows.step, rows.ts, rows.offset))
        self._ends = rows.terminated.view(np.uint8) | (rows.truncated.view(np.uint8) << 1)
        self._terms, self._has_terms = _optional(rows.reward_terms, np.isnan(rows.reward_terms), starts)
        self._version, self._has_version = _optional(
            rows.policy_version, rows.policy_version == NO_POLICY_VERSION, starts
        )
        self._log_prob, self._has_log_prob = _optional(rows.log_prob, np.isnan(rows.log_prob), starts)

    def raw(self, run: int) -> bytes:
        """Return one run's bytes."""
        a, b = self._starts[run], self._starts[run + 1]
        rows = self._rows
        payload = _Payload(
            version=1,
            rows=b - a,
            width=rows.obs.shape[1],
            task=rows.task,
            agents=self._agents.of(run),
            episodes=self._episodes.of(run),
            agent=self._agents.local[a:b].tobytes(),
            episode=self._episodes.local[a:b].tobytes(),
            step=self._step[a:b].tobytes(),
            ts=self._ts[a:b].tobytes(),
            offset=self._offset[a:b].tobytes(),
            obs=rows.obs[a:b].tobytes(),
            next_obs=rows.next_obs[a:b].tobytes(),
            action=rows.action[a:b].tobytes(),
            discrete=rows.action.ndim == 1,
            reward=rows.reward[a:b].tobytes(),
            ends=self._ends[a:b].tobytes(),
            term_count=rows.reward_terms.shape[1],
            reward_terms=self._terms[a:b].tobytes() if self._has_terms[run] else b"",
            policy_version=self._version[a:b].tobytes() if self._has_version[run] else b"",
            log_prob=self._log_prob[a:b].tobytes() if self._has_log_prob[run] else b"",
        )
        return _encode(payload)


def _differences(column: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each row's difference from the one before it, a run's first row as it is."""
    out = column.copy()
    np.subtract(column[1:], column[:-1], out=out[1:])
    out[starts[:-1]] = column[starts[:-1]]
    return out


def _optional(
    column: NDArray[Any], absent: NDArray[np.bool_], starts: NDArray[np.int64]
) -> tuple[NDArray[Any], list[bool]]:
    """Return the column with one form of NaN, and whether each run has any value."""
    runs = len(starts) - 1
    present = ~absent.all(axis=tuple(range(1, absent.ndim)))
    if not present.any():
        return column, [False] * runs
    if column.dtype == np.float32 and absent.any():
        column = np.where(absent, np.float32(np.nan), column)
    return column, np.logical_or.reduceat(present, starts[:-1]).tolist()


def payload_bytes(rows: TransitionBatch) -> bytes:
    """Return all rows' canonical uncompressed bytes; there is at least one row."""
    starts = np.array([0, len(rows)])
    agents, episodes = (
        code_runs(names, column, starts) for names, column in ((rows.agents, rows.agent), (rows.episodes, rows.episode))
    )
    return Payloads(rows, starts, agents, episodes).raw(0)


def _column(data: bytes, dtype: np.dtype[Any], *shape: int) -> NDArray[Any]:
    return np.frombuffer(data, dtype).reshape(shape)


def _codes(data: bytes, rows: int, names: list[str]) -> NDArray[np.int32]:
    code = _column(data, _CODE, rows).astype(np.int32)
    if code.max() >= len(names):
        raise ValueError(f"code {code.max()} of {len(names)} names")
    return code


def rows_of(raw: bytes) -> TransitionBatch:
    """Read canonical bytes; raises msgspec.MsgspecError, or ValueError where the columns don't fit together."""
    p = _decode(raw)
    if p.version != 1 or not (0 < p.rows <= _MAX_ROWS and p.width > 0 and 0 <= p.term_count <= _MAX_TERMS):
        raise ValueError(f"payload version {p.version}, {p.rows} rows, width {p.width}, {p.term_count} terms")

    ends = _column(p.ends, _BYTE, p.rows)
    action = _column(p.action, _INT32, p.rows) if p.discrete else _column(p.action, _FLOAT, p.rows, -1)
    terms = (
        _column(p.reward_terms, _FLOAT, p.rows, p.term_count)
        if p.reward_terms
        else np.full((p.rows, p.term_count), np.nan, _FLOAT)
    )
    versions = _column(p.policy_version, _INT, p.rows) if p.policy_version else np.full(p.rows, NO_POLICY_VERSION)
    return TransitionBatch(
        task=p.task,
        agents=tuple(p.agents),
        episodes=tuple(p.episodes),
        agent=_codes(p.agent, p.rows, p.agents),
        episode=_codes(p.episode, p.rows, p.episodes),
        step=_column(p.step, _INT, p.rows).cumsum(),
        ts=_column(p.ts, _INT, p.rows).cumsum(),
        offset=_column(p.offset, _INT, p.rows).cumsum(),
        obs=_column(p.obs, _FLOAT, p.rows, p.width),
        action=action,
        reward=_column(p.reward, _FLOAT, p.rows),
        next_obs=_column(p.next_obs, _FLOAT, p.rows, p.width),
        terminated=(ends & 1).view(np.bool_),
        truncated=(ends >> 1 & 1).view(np.bool_),
        reward_terms=terms,
        policy_version=versions,
        log_prob=_column(p.log_prob, _FLOAT, p.rows) if p.log_prob else np.full(p.rows, np.nan, _FLOAT),
    )
