"""Outcomes: what a task may declare, and that chunks hold the sums that a plain loop over the rows gives."""

import json
import math
from typing import Any

import numpy as np
import pytest
from chunk_examples import random_rows

from headrace.schemas.chunk import agent_stats, decode_stats, encode_stats, fold_stats, stats_by, total_stats
from headrace.schemas.errors import CorruptDataError, InvalidTaskError
from headrace.schemas.outcomes import measures, tallied, told
from headrace.schemas.records import TaskSpec, decode_task

SLOW = {
    "name": "time above the SLO",
    "unit": "%",
    "better": "lower",
    "of": {"observation": "p95", "next": True},
    "as": {"share_above": 0.25},
}
VALVE = {
    "task": "valve",
    "observations": ["load", "p95"],
    "actions": ["a", "b", "c"],
    "window_ms": 1000,
    "reward_terms": ["cost", "speed"],
}


def spec(*outcomes: dict[str, Any], **fields: Any) -> TaskSpec:
    return decode_task(json.dumps(VALVE | fields | {"outcomes": outcomes}).encode())


ALL = spec(
    SLOW,
    {**SLOW, "name": "idle", "of": {"observation": "load"}, "as": {"share_below": -1.5}, "scale": 2, "offset": -1},
    {"name": "cost", "unit": "EUR", "better": "lower", "of": {"reward_term": "cost"}, "as": "mean", "scale": -3},
    {"name": "cost a day", "unit": "EUR", "better": "lower", "of": {"reward_term": "cost"}, "as": "sum_per_episode"},
    {"name": "b taken", "unit": "%", "better": "higher", "of": {"action": "b"}, "as": "mean", "scale": 100},
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "time, above"}, "'time, above': its name must be 1 to 40 of A-Z"),
        ({"name": ""}, "its name must be"),
        ({"unit": "s"}, "a share is told in %; its unit is 's'"),
        ({"unit": "return", "as": "mean"}, "unit 'return' means something else"),
        ({"unit": "<b>", "as": "mean"}, "unit '<b>' is none"),
        ({"of": {}}, '"of" needs one of'),
        ({"of": {"observation": "p95", "action": "a"}}, '"of" needs one of'),
        ({"of": {"observation": "p99"}}, "observation 'p99' is none of the task's: load, p95"),
        ({"of": {"reward_term": "p95"}}, "reward_term 'p95' is none of the task's: cost, speed"),
        ({"of": {"action": "z"}}, "action 'z' is none of the task's: a, b, c"),
        ({"of": {"action": 1}}, "action '1' is none of the task's: a, b, c"),
        ({"of": {"action": "a", "next": True}}, '"next" belongs to an observation'),
        ({"as": {}}, 'a share needs one of "share_above" and "share_below"'),
        ({"as": {"share_above": 1, "share_below": 2}}, 'a share needs one of "share_above" and "share_below"'),
        ({"as": "median"}, r"Invalid enum value 'median' - at `\$.outcomes\[0\].as`"),
        ({"as": {"share_over": 1}}, "unknown field `share_over`"),
        ({"better": "up"}, r"Invalid enum value 'up' - at `\$.outcomes\[0\].better`"),
        ({"scale": 0}, "scale is 0"),
        ({"scale": 1e31}, "-1e30 to 1e30 is allowed"),
    ],
)
def test_what_is_wrong_with_an_outcome_is_said(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidTaskError, match=reason):
        spec(SLOW | change)


def test_names_are_apart_and_few() -> None:
    with pytest.raises(InvalidTaskError, match="'Time above the SLO' has the same first 24"):
        spec(SLOW | {"name": "Time above the SLO"}, SLOW)
    with pytest.raises(InvalidTaskError, match="outcomes has 9 entries; 8 are allowed"):
        spec(*(SLOW | {"name": f"n{place}"} for place in range(9)))


def test_a_dimension_of_continuous_actions_is_a_number() -> None:
    wide = {"low": [0, 0], "high": [1, 1]}
    mean = {"name": "opening", "unit": "", "better": "lower", "of": {"action": 1}, "as": "mean"}
    (ready,) = measures(spec(mean, actions=wide))
    acted = np.array([[0.25, 0.5], [0.75, 1.0]], np.float32)
    nothing = np.zeros((2, 2), np.float32)
    np.testing.assert_array_equal(tallied((ready,), nothing, acted, nothing, nothing), [[0.5, 1], [1, 1]])
    for wrong in (2, -1, "x"):
        with pytest.raises(InvalidTaskError, match="of continuous ones a dimension, 0 to 1, is allowed"):
            spec(mean | {"of": {"action": wrong}}, actions=wide)


def by_loop(rows: Any) -> dict[str, list[list[float]]]:
    """Each agent's sums and counts, added up row by row in Python."""
    found: dict[str, list[list[float]]] = {}
    for i in range(len(rows)):
        sums = found.setdefault(rows.agents[rows.agent[i]], [[0.0, 0] for _ in range(5)])
        load, p95, cost = float(rows.obs[i, 0]), float(rows.next_obs[i, 1]), float(rows.reward_terms[i, 0])
        values = (float(p95 > 0.25), float(2 * load - 1 < -1.5), -3 * cost, cost, 100.0 * (rows.action[i] == 1))
        for one, value in zip(sums, values, strict=True):
            if not math.isnan(value):
                one[0], one[1] = one[0] + value, one[1] + 1
    return found


def stats_of(rows: Any) -> Any:
    names = sorted({rows.agents[i] for i in rows.agent.tolist()})
    code = np.array([names.index(rows.agents[i]) for i in rows.agent.tolist()])
    return stats_by(rows, code, len(names), 3, measures(ALL)).slice(0, len(names), names)


@pytest.mark.parametrize("seed", range(10))
def test_sums_are_those_of_a_loop_and_fold_as_one(seed: int) -> None:
    """Equal to the bit, through bytes too; and folding part by part is folding at once."""
    rng = np.random.default_rng(seed)
    parts = [random_rows(rng, int(rng.integers(1, 40))) for _ in range(3)]
    for rows in parts:
        data = encode_stats(stats_of(rows))
        assert encode_stats(decode_stats(data)) == data
        for one in agent_stats(decode_stats(data)):
            expected = by_loop(rows)[one.agent_id]
            assert one.outcomes == tuple(total for total, _ in expected)
            assert one.outcome_rows == tuple(count for _, count in expected)
    many = [stats_of(rows) for rows in parts]
    assert encode_stats(fold_stats([fold_stats(many[:2]), many[2]])) == encode_stats(fold_stats(many))
    total = total_stats(fold_stats(many))
    assert total.outcome_rows[0] == total.rows == sum(map(len, parts))


def test_without_outcomes_bytes_are_what_they_were() -> None:
    rows = random_rows(np.random.default_rng(0), 9)
    plain = stats_by(rows, np.zeros(9, np.int64), 1, 3).slice(0, 1, ["a"])
    assert encode_stats(plain)[4:6] == b"\x95\x01"  # an array of five, version 1
    assert (agent_stats(plain)[0].outcomes, plain.rewards.shape[1]) == ((), 5)


def test_stats_that_claim_more_outcomes_than_there_may_be_are_damaged() -> None:
    rows = random_rows(np.random.default_rng(0), 9)
    stats = stats_of(rows)
    object.__setattr__(stats, "outcomes", 9)
    with pytest.raises(CorruptDataError, match="can't be read"):
        decode_stats(encode_stats(stats))


def test_outcomes_are_told_in_their_units() -> None:
    """Shares in %, means as they are, sums over the episodes that ended; what has no basis is left out."""
    rows = random_rows(np.random.default_rng(1), 30, odd=False)
    total = total_stats(stats_of(rows))
    cost = float(np.add.accumulate(rows.reward_terms[:, 0].astype(np.float64))[-1])
    found = told(ALL, total)
    assert found["time above the SLO"] == pytest.approx(100 * np.mean(rows.next_obs[:, 1] > 0.25))
    assert found["cost"] == pytest.approx(-3 * cost / 30)
    assert found["cost a day"] == pytest.approx(cost / total.episode_ends)
    assert found["b taken"] == pytest.approx(100 * np.mean(rows.action == 1))
    rows.terminated[:] = rows.truncated[:] = False
    rows.reward_terms[:] = np.nan
    assert told(ALL, total_stats(stats_of(rows))).keys() == {"time above the SLO", "idle", "b taken"}
