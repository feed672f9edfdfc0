"""Random logs: several tasks and content types, late and repeated rows, heartbeats, poison, a clock in the future."""

import json

import numpy as np

from headrace.schemas import codec, codec_arrow
from headrace.schemas.checker import known_task
from headrace.schemas.ports import MessageBatch, Record
from headrace.schemas.records import Bounds, Layout, Outcome, Share, Source, TaskSpec

TASKS = (
    TaskSpec(task="valve", observations=("x0", "x1"), actions=("a", "b"), window_ms=1_000, groups=4),
    TaskSpec(
        task="arm",
        observations=("p", "q", "r"),
        actions=Bounds(low=(-1.0,), high=(1.0,)),
        window_ms=700,
        groups=2,
        reward_terms=("speed", "cost"),
        outcomes=(
            Outcome("far", "%", "lower", Source(observation="q", next=True), Share(share_above=0.5)),
            Outcome("speed", "m/s", "higher", Source(reward_term="speed"), "mean", scale=1.7, offset=0.3),
        ),
    ),
)
T0 = 1_700_000_000_000


def transition(rng, spec, agent, step, ts, episode="e0"):
    """One good transition as a dict."""
    action = int(rng.integers(len(spec.actions))) if spec.discrete else [round(float(rng.uniform(-1, 1)), 3)]
    row = {
        "schema_version": 1,
        "task": spec.task,
        "agent_id": agent,
        "episode_id": episode,
        "step": step,
        "ts": ts,
        "obs": rng.normal(size=spec.width).round(3).tolist(),
        "action": action,
        "reward": round(float(rng.normal()), 3),
        "next_obs": rng.normal(size=spec.width).round(3).tolist(),
        "terminated": bool(rng.random() < 0.05),
        "truncated": bool(rng.random() < 0.05),
    }
    if spec.reward_terms and rng.random() < 0.5:
        row["reward_terms"] = {"speed": 0.5}
    if rng.random() < 0.5:
        row["policy_version"] = int(rng.integers(3))
    return row


def to_arrow(rows, spec):
    """The rows of one agent as one Arrow message."""
    values = [json.dumps(row).encode() for row in rows]
    count = len(values)
    batch = MessageBatch("t", 0, np.arange(count), np.full(count, T0 * 2), [None] * count, values, [()] * count)
    checked = codec.check(batch, {spec.task: known_task(spec, 0, Layout(log=""))}, Layout(log=""))
    assert not checked.rejected, checked.rejected
    return codec_arrow.encode(checked.batches[0], spec)


def random_records(rng, count, start_ms=T0, ahead_ms=400_000):
    """Yield (append time, Record) of about `count` messages; time goes on with them.

    ahead_ms: by how much some are ahead of it, which a log with another clock may have to be told.
    """
    now = start_ms
    steps = {}
    sent = []
    for _ in range(count):
        now += int(rng.integers(0, 120))
        spec = TASKS[int(rng.integers(len(TASKS)))]
        agent = f"{spec.task}-{int(rng.integers(5))}"
        late = int(rng.integers(0, 4_000)) if rng.random() < 0.15 else 0

        def row(spec=spec, agent=agent, late=late, now=now):
            steps[agent] = steps.get(agent, -1) + 1
            return transition(rng, spec, agent, steps[agent], max(0, now - late))

        kind = rng.random()
        headers = ()
        if kind < 0.6:
            value = json.dumps(row()).encode()
        elif kind < 0.7:
            value = json.dumps([row() for _ in range(int(rng.integers(1, 4)))]).encode()
        elif kind < 0.78:
            value = to_arrow([row() for _ in range(int(rng.integers(1, 6)))], spec)
            headers = codec.ARROW_HEADERS
        elif kind < 0.85 and sent:
            value, headers = sent[int(rng.integers(len(sent)))]
        elif kind < 0.9:
            value = codec.heartbeat(spec.task, agent, now)
        elif kind < 0.93:
            value = json.dumps({**row(), "ts": now + ahead_ms}).encode()
        else:
            value = [b"", b"{", b'{"task":"valve"}', json.dumps({**row(), "obs": [1e39] * 9}).encode()][
                int(rng.integers(4))
            ]
        sent.append((value, headers))
        yield now, Record("transitions", agent.encode(), value, headers)
