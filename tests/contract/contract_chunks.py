"""Chunk rows to put into an index: real transitions, as many as asked for."""

import numpy as np

from headrace.schemas.chunk import ChunkRow, encode_chunk, encode_stats, stats_by
from headrace.schemas.records import ChunkKey, WindowKey, WindowRow
from headrace.schemas.transition import TransitionBatch

START_MS = 1_700_000_040_000
WINDOW_MS = 60_000


def window_start(window: int) -> int:
    return START_MS + window * WINDOW_MS


def transitions(task: str, rows: int, seed: int = 0) -> TransitionBatch:
    """Return the first rows of an endless run of one agent."""
    random = np.random.default_rng(seed)
    obs = np.array([random.normal(size=4) for _ in range(rows + 1)], np.float32)
    return TransitionBatch(
        task=task,
        agents=("agent-1",),
        episodes=("episode-1",),
        agent=np.zeros(rows, np.int32),
        episode=np.zeros(rows, np.int32),
        step=np.arange(rows),
        ts=START_MS + np.arange(rows),
        offset=np.arange(rows),
        obs=obs[:-1],
        action=np.arange(rows, dtype=np.int32) % 3,
        reward=obs[:-1, 0],
        next_obs=obs[1:],
        terminated=np.zeros(rows, np.bool_),
        truncated=np.zeros(rows, np.bool_),
        reward_terms=np.zeros((rows, 0), np.float32),
        policy_version=np.full(rows, -1),
        log_prob=np.full(rows, np.nan, np.float32),
    )


def chunk(
    task: str, group: int = 0, window: int = 0, partition: int = 0, segment: int = 0, part: int = 0, rows: int = 3
) -> ChunkRow:
    key = ChunkKey(task, group, window_start(window), partition, segment, part)
    batch = transitions(task, rows, seed=segment)
    payload, checksum = encode_chunk(batch)
    stats = encode_stats(stats_by(batch, batch.agent, 1, 3).slice(0, 1, batch.agents))
    return ChunkRow(key, rows, rows + 1, checksum, payload, stats)


def window_row(task: str, group: int = 0, window: int = 0, partition: int = 0, received: int = 3) -> WindowRow:
    key = WindowKey(task, group, window_start(window), partition)
    return WindowRow(key, key.start_ms * 1000 + received, b'{"rows":%d,"duplicates":0}' % received)
