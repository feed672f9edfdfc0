"""The tree that finds a report's situations, by hand and by properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.learners.explain.regions import MAX_DEPTH, MAX_REGIONS, Condition, explained, regions, told


def test_the_feature_that_decides_is_split_by_and_no_other() -> None:
    """The action goes by the sign of the second feature alone."""
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1.0, 1.0, (4_000, 3)).astype(np.float32)
    targets = np.eye(2)[(obs[:, 1] > 0.0).astype(int)]
    found = regions(obs, targets)
    assert {one.of for region in found for one in region.conditions} == {1}
    assert explained(found, targets) > 0.9


def test_a_rule_of_two_features_is_found_by_two_conditions() -> None:
    rng = np.random.default_rng(0)
    obs = rng.uniform(-1.0, 1.0, (4_000, 4)).astype(np.float32)
    targets = np.where((obs[:, 0] > 0.2) & (obs[:, 3] > -0.3), 1.0, 0.0)[:, None]
    found = regions(obs, targets)
    assert {one.of for region in found for one in region.conditions} == {0, 3}
    assert explained(found, targets) > 0.9


def test_no_situation_is_made_where_nothing_tells() -> None:
    obs = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    for targets in (np.ones((500, 1)), np.eye(2)[np.random.default_rng(1).integers(2, size=500)]):
        found = regions(obs, targets)
        assert len(found) == 1 or explained(found, targets) < 0.1
    assert [one.conditions for one in regions(np.ones((50, 3), np.float32), np.eye(2)[np.arange(50) % 2])] == [()]


@given(st.integers(1, 300), st.integers(1, 4), st.integers(1, 3), st.integers(0, 1_000))
@settings(max_examples=60, deadline=None)
def test_regions_part_the_decisions(count: int, features: int, kinds: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    obs = rng.integers(-3, 4, (count, features)).astype(np.float32)
    found = regions(obs, np.eye(kinds)[rng.integers(kinds, size=count)])
    assert (np.sum([one.mask for one in found], axis=0) == 1).all()
    assert 1 <= len(found) <= MAX_REGIONS
    assert all(len(one.conditions) <= MAX_DEPTH and one.mask.any() for one in found)


@pytest.mark.parametrize(
    ("conditions", "text"),
    [
        ((Condition(0, ">", 0.05),), "pole_angle > 0.05"),
        ((Condition(0, ">", 0.05), Condition(0, "<=", 0.2)), "0.05 < pole_angle \u2264 0.2"),
        ((Condition(0, "<=", 0.05), Condition(0, "<=", -0.1)), "pole_angle \u2264 -0.1"),
        ((Condition(1, ">", 12_300.0), Condition(0, "<=", 1e-9)), "speed > 12300 and pole_angle \u2264 1e-09"),
    ],
)
def test_a_region_is_told_in_the_tasks_own_names(conditions: tuple[Condition, ...], text: str) -> None:
    assert told(conditions, ("pole_angle", "speed")) == text
