"""What an interval's rows tell: earnings and actions by version, and continuous actions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from test_explain_samples import CLOUD, PLAIN, START, fold

from headrace.learners.explain.interval import interval_facts
from headrace.learners.explain.rows import SampledRows, consecutive, row_facts
from headrace.learners.explain.series import interval_series
from headrace.learners.explain.template import TemplateNarrator
from headrace.schemas.grounding import fill, problems
from headrace.schemas.records import Bounds, Facts, TaskSpec
from headrace.schemas.transition import TransitionBatch

ARM = TaskSpec("arm", ("angle",), Bounds((-2.0,), (2.0,)), 1_000)


def batch(
    actions: NDArray[np.generic], reward: float, version: int, agents: int = 4, steps: int = 10, episode: str = "e"
) -> TransitionBatch:
    """Agents' episodes of so many steps each, one after another; actions: of all rows."""
    count = agents * steps
    return TransitionBatch(
        "arm",
        tuple(f"a{place}" for place in range(agents)),
        (episode,),
        agent=np.repeat(np.arange(agents, dtype=np.int32), steps),
        episode=np.zeros(count, np.int32),
        step=np.tile(np.arange(steps), agents),
        ts=np.zeros(count, np.int64),
        offset=np.arange(count),
        obs=np.zeros((count, 1), np.float32),
        action=actions,
        reward=np.full(count, reward, np.float32) + np.repeat(np.arange(agents), steps).astype(np.float32),
        next_obs=np.zeros((count, 1), np.float32),
        terminated=np.tile(np.arange(steps) == steps - 1, agents),
        truncated=np.zeros(count, bool),
        reward_terms=np.zeros((count, 0), np.float32),
        policy_version=np.full(count, version),
        log_prob=np.zeros(count, np.float32),
    )


def said(facts: Facts) -> str:
    narrative = TemplateNarrator().tell(facts)
    assert problems(narrative, facts) == []
    return " ".join(fill(one, facts) for one in narrative.sentences)


@pytest.mark.parametrize(("reward", "direction"), [(100.0, "up"), (-100.0, "down"), (0.5, "flat")])
def test_what_agents_earned_by_the_newer_version_stands_beside_the_older(reward: float, direction: str) -> None:
    actions = np.zeros(40, np.int32)
    rows = SampledRows([batch(actions + 1, reward, 4)], [batch(actions, 0.0, 3, episode="d")])
    found = {fact.fact_id: fact for fact in row_facts(PLAIN, rows)}
    # Ten steps of 0, 1, 2, 3 by the agents: 15 an episode; the newer version's rewards are greater by `reward`.
    assert_allclose([found["observed.3"].value, found["observed.4"].value], [15.0, 15.0 + 10 * reward])
    assert_allclose(found["earned.change"].value, 10 * reward)
    assert found["earned.change"].direction == direction
    assert (found["shift.3.open"].value, found["shift.4.open"].value) == (100.0, 0.0)
    text = said(interval_facts(PLAIN, fold(START, 0.5).totals(), None, rows=rows))
    assert "by v3 and" in text
    assert "they took \u201copen\u201d in 100 % of actions under the earlier of these versions and in 0 %" in text


def test_one_version_is_told_of_without_a_comparison() -> None:
    found = {fact.fact_id for fact in row_facts(PLAIN, SampledRows([batch(np.zeros(40, np.int32), 1.0, 3)]))}
    assert found == {"observed.3"}


def test_continuous_actions_are_told_by_mean_bounds_and_moves() -> None:
    actions = np.tile(np.array([-2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, -2.0], np.float32), 4)[:, None]
    rows = SampledRows([batch(actions, 1.0, -1)], [batch(actions * 0, 1.0, -1)])
    found = {fact.fact_id: fact.value for fact in row_facts(ARM, rows)}
    # Two of nine moves cross the whole range.
    assert_allclose([found["taken.d1"], found["smoothness.d1"]], [1.2, 100 * 2 / 9])
    assert (found["saturation.d1.lowest"], found["saturation.d1.highest"]) == (20.0, 80.0)
    total = fold(START, 0.5).totals()
    assert "the action was 1.2 on average" in said(interval_facts(ARM, total, None, rows=rows)).replace("1.20", "1.2")
    now, before = interval_series(ARM, total, None, rows)["action_shares"]
    assert (now.name, before.name) == ("this interval", "the interval before")
    assert_allclose([sum(now.y), sum(before.y)], 100.0)


def test_actions_without_an_upper_bound_never_lie_at_it() -> None:
    """As task files say it: the largest float32. Their moves are told of the range that was taken."""
    half_open = TaskSpec("arm", ("angle",), Bounds((-2.0,), (3.4e38,)), 1_000)
    actions = np.tile(np.array([-2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, -2.0], np.float32), 4)[:, None]
    found = {fact.fact_id: fact.value for fact in row_facts(half_open, SampledRows([batch(actions, 1.0, -1)]))}
    assert found["saturation.d1.lowest"] == 20.0
    assert "saturation.d1.highest" not in found
    assert_allclose(found["smoothness.d1"], 100 * 2 / 9)


def test_steps_follow_each_other_within_an_episode_and_without_a_gap() -> None:
    rows = batch(np.zeros(6, np.int32), 0.0, 1, agents=2, steps=3).take(np.array([2, 0, 3, 4]))
    first, second = consecutive(rows)
    assert [(int(a), int(b)) for a, b in zip(first, second, strict=True)] == [(2, 3)]


def test_an_interval_without_rows_read_is_told_as_before() -> None:
    total = fold(START, 0.5).totals()
    assert interval_facts(CLOUD, total, None) == interval_facts(CLOUD, total, None, rows=SampledRows([]))
