"""Closing windows: heartbeats that move the stream time of each partition on."""

from headrace.pipelines.topics import TRANSITIONS
from headrace.schemas import codec
from headrace.schemas.ports import Log, Record


def close_ms(ts: int, window_ms: int, grace_ms: int) -> int:
    """Return the stream time that closes the window of an event time."""
    return ts - ts % window_ms + window_ms + grace_ms


def heartbeats(log: Log, task: str, agent_id: str, ts: int) -> list[Record]:
    """Return a heartbeat for each partition. Stream time follows it as far as the log's own time has come."""
    value = codec.heartbeat(task, agent_id, ts)
    partitions = range(log.topic(TRANSITIONS).partitions)
    return [Record(TRANSITIONS, agent_id.encode(), value, partition=partition) for partition in partitions]
