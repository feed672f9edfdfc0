"""The rows that benches run on: a fleet of agents that take turns, with observations as a producer rounds them."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from headrace.pipelines.topics import TRANSITIONS
from headrace.schemas import codec, codec_arrow
from headrace.schemas.ports import Log, Record
from headrace.schemas.records import TaskSpec
from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch

WIDTH: Final = 8
ACTIONS: Final = ("a", "b", "c", "d")
SPEC: Final = TaskSpec(
    task="bench", observations=tuple(f"x{i}" for i in range(WIDTH)), actions=ACTIONS, window_ms=10_000
)
START_MS: Final = 1_700_000_000_000
FORMATS: Final = ("json", "arrow")
MESSAGE_ROWS: Final = {"json": 1, "arrow": 256}
SEGMENT: Final = {"json": 16_384, "arrow": 64}
"""Messages of a segment: 16,384 rows in either format."""
EPISODE_STEPS: Final = 1_000
BLOCK_ROWS: Final = 16_384


def step_ms(agents: int) -> int:
    """Return how much event time lies between an agent's rows: many agents are slow ones, so windows close for all."""
    return 100 if agents <= 64 else 2_000


def rows(agents: int, first: int, count: int) -> TransitionBatch:
    """Return `count` consecutive rows of the fleet, from row number `first` on."""
    number = np.arange(first, first + count)
    step = number // agents
    rng = np.random.default_rng(first)
    obs = rng.normal(size=(count + agents, WIDTH)).round(4).astype(np.float32)
    return TransitionBatch(
        task=SPEC.task,
        agents=tuple(f"agent-{i:05d}" for i in range(agents)),
        episodes=tuple(f"e{i}" for i in range(int(step[-1]) // EPISODE_STEPS + 1)),
        agent=(number % agents).astype(np.int32),
        episode=(step // EPISODE_STEPS).astype(np.int32),
        step=step,
        ts=START_MS + step * step_ms(agents),
        offset=number,
        obs=obs[:count],
        action=rng.integers(len(ACTIONS), size=count).astype(np.int32),
        reward=rng.normal(size=count).round(4).astype(np.float32),
        next_obs=obs[agents:],
        terminated=step % EPISODE_STEPS == EPISODE_STEPS - 1,
        truncated=np.zeros(count, np.bool_),
        reward_terms=np.zeros((count, 0), np.float32),
        policy_version=np.full(count, NO_POLICY_VERSION),
        log_prob=np.full(count, np.nan, np.float32),
    )


def json_records(batch: TransitionBatch) -> list[Record]:
    """Return one JSON message a row, keyed by its agent."""
    keys = [batch.agents[i].encode() for i in batch.agent.tolist()]
    values = codec.encode_json(batch, SPEC)
    return [Record(TRANSITIONS, key, value) for key, value in zip(keys, values, strict=True)]


def arrow_records(batch: TransitionBatch) -> list[Record]:
    """Return messages of at most 256 rows of one agent each, the agents taking turns."""
    order = np.argsort(batch.agent, kind="stable")
    starts = np.flatnonzero(np.diff(batch.agent[order], prepend=-1))
    out = []
    for place in np.split(order, starts[1:]):
        for first in range(0, len(place), MESSAGE_ROWS["arrow"]):
            some = batch.take(place[first : first + MESSAGE_ROWS["arrow"]])
            name = some.agents[some.agent[0]].encode()
            out.append(Record(TRANSITIONS, name, codec_arrow.encode(some, SPEC), codec.ARROW_HEADERS))
    return out


def messages(form: str, agents: int, total: int) -> Iterator[tuple[int, list[Record]]]:
    """Yield (rows, their messages) until `total` rows are given, whole blocks only."""
    block = agents * MESSAGE_ROWS["arrow"] if form == "arrow" else BLOCK_ROWS
    records = arrow_records if form == "arrow" else json_records
    for start in range(0, total, block):
        yield block, records(rows(agents, start, block))


def produce(log: Log, form: str, agents: int, total: int) -> int:
    """Send at least `total` rows; returns how many."""
    sent = 0
    for count, records in messages(form, agents, total):
        log.send(records)
        sent += count
    return sent
