"""Rows of one chunk, made at random; and the stats that a plain loop over them gives."""

import numpy as np
from codec_examples import row_values

from headrace.schemas.records import AgentStats
from headrace.schemas.transition import TransitionBatch


def random_rows(rng, count, agents=3, width=2, actions=3, terms=2, odd=True):
    """Rows in log order. odd: zeros of both signs, absent optional values, names that sort otherwise than they come."""
    names = [f"agent-{i}" for i in range(agents)]
    episodes = [f"e{i}" for i in range(4)]
    rng.shuffle(names)
    rng.shuffle(episodes)
    reward = rng.choice([-0.0, 0.0, 0.1, 0.3, 1e8, -1e8, 1e-30, 3.0], count) if odd else rng.normal(size=count)
    reward_terms = rng.normal(size=(count, terms))
    reward_terms[rng.random((count, terms)) < (0.5 if odd else 0)] = np.nan
    return TransitionBatch(
        task="valve",
        agents=tuple(names),
        episodes=tuple(episodes),
        agent=rng.integers(agents, size=count).astype(np.int32),
        episode=rng.integers(4, size=count).astype(np.int32),
        step=rng.integers(0, 2**40, count),
        ts=rng.integers(0, 2**41, count),
        offset=np.sort(rng.integers(0, 2**40, count)),
        obs=rng.normal(size=(count, width)).astype(np.float32),
        action=rng.integers(actions, size=count).astype(np.int32)
        if actions
        else rng.normal(size=(count, 2)).astype(np.float32),
        reward=reward.astype(np.float32),
        next_obs=rng.normal(size=(count, width)).astype(np.float32),
        terminated=rng.random(count) < 0.2,
        truncated=rng.random(count) < 0.2,
        reward_terms=reward_terms.astype(np.float32),
        policy_version=rng.choice([-1, 0, 3, 2**62], count) if odd else np.full(count, 1),
        log_prob=np.where(rng.random(count) < 0.5, np.nan, rng.normal(size=count)).astype(np.float32),
    )


def renamed(rows, rng):
    """The same rows under dictionaries of another order, with names that do not occur."""
    out = {name: getattr(rows, name) for name in rows.__slots__}
    for names, column in (("agents", "agent"), ("episodes", "episode")):
        wider = [*out[names], "zz-unused", "0-unused"]
        order = rng.permutation(len(wider))
        place = np.argsort(order)
        out[names] = tuple(wider[i] for i in order)
        out[column] = place[out[column]].astype(np.int32)
    again = TransitionBatch(**out)
    assert row_values(again) == row_values(rows)
    return again


def plain_stats(rows, actions, name_of=None):
    """Stats by agent, summed row by row in Python; name_of: an agent's name in the stats."""
    found = {}
    for i in range(len(rows)):
        name = rows.agents[rows.agent[i]] if name_of is None else name_of(rows.agents[rows.agent[i]])
        s = found.setdefault(
            name,
            {
                "rows": 0,
                "reward_sum": 0.0,
                "rewards": [],
                "terms": [0.0] * rows.reward_terms.shape[1],
                "actions": [0] * actions,
                "ends": 0,
                "versions": {},
                "offsets": [],
            },
        )
        s["rows"] += 1
        s["reward_sum"] += float(rows.reward[i])
        s["rewards"].append(float(rows.reward[i]) + 0.0)
        for k, value in enumerate(rows.reward_terms[i].tolist()):
            if value == value:  # noqa: PLR0124 not NaN
                s["terms"][k] += value
        if actions:
            s["actions"][rows.action[i]] += 1
        s["ends"] += bool(rows.terminated[i] or rows.truncated[i])
        if rows.policy_version[i] >= 0:
            version = int(rows.policy_version[i])
            s["versions"][version] = s["versions"].get(version, 0) + 1
        s["offsets"].append(int(rows.offset[i]))
    return [
        AgentStats(
            name,
            s["rows"],
            s["reward_sum"],
            min(s["rewards"]),
            max(s["rewards"]),
            tuple(s["terms"]),
            tuple(s["actions"]),
            s["ends"],
            s["versions"],
            min(s["offsets"]),
            max(s["offsets"]),
        )
        for name, s in sorted(found.items())
    ]
