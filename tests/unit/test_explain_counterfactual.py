"""The nearest flip, by hand."""

import numpy as np
import pytest

from headrace.learners.explain.counterfactual import Flip, Span, nearest_flip, spans

UNIT = [Span(np.linspace(0.0, 1.0, 33), whole=False) for _ in range(3)]
HERE = np.array([0.2, 0.2, 0.2], np.float32)


@pytest.mark.parametrize(
    ("flips", "values"),
    [
        (lambda obs: obs[:, 0] >= 0.5, {0: 0.5}),
        (lambda obs: obs[:, 0] > 0.5, {0: 0.501}),
        (lambda obs: obs[:, 0] < 0.1234, {0: 0.123}),
        (lambda obs: (obs[:, 0] > 0.9) | (obs[:, 2] > 0.77), {2: 0.771}),
        (lambda obs: (obs[:, 1] > 0.6) | (obs[:, 1] < 0.1), {1: 0.0999}),
    ],
)
def test_a_threshold_is_found_where_it_is(flips, values) -> None:
    flip, tried = nearest_flip(flips, HERE, UNIT, [0, 1, 2])
    assert flip is not None
    assert flip.values == pytest.approx(values, abs=1e-12)
    ((_, value),) = values.items()
    assert flip.distance == pytest.approx(abs(value - 0.2), abs=1e-6)
    assert flips(flip.applied(HERE)[None])[0]
    assert tried == 3


def test_distances_are_shares_of_what_each_feature_had() -> None:
    """A move of 30 in 1,000 is nearer than one of .1 in 1."""
    wide = [Span(np.linspace(0.0, 1_000.0, 33), whole=False), UNIT[0]]
    flip, _ = nearest_flip(
        lambda obs: (obs[:, 0] >= 530.0) | (obs[:, 1] >= 0.3), np.array([500.0, 0.2], np.float32), wide, [1, 0]
    )
    assert flip == Flip({0: 530.0}, pytest.approx(0.03))


def test_of_a_feature_with_few_values_only_those_are_tried() -> None:
    whole = [Span(np.array([0.0, 4.0, 9.0]), whole=True)]
    flip, _ = nearest_flip(lambda obs: obs[:, 0] > 1.0, np.zeros(1, np.float32), whole, [0])
    assert flip == Flip({0: 4.0}, pytest.approx(4.0 / 9.0))


def test_two_features_are_changed_only_where_no_one_is_enough() -> None:
    """x0 + x1 > 1.5 needs both; the nearest point of the edge is (.75, .75)."""
    here = np.array([0.2, 0.2, 0.2], np.float32)
    flip, _ = nearest_flip(lambda obs: obs[:, 0] + obs[:, 1] > 1.5, here, UNIT, [2, 0, 1])
    assert flip is not None
    assert flip.values.keys() == {0, 1}
    assert flip.distance == pytest.approx(np.hypot(0.55, 0.55), rel=0.02)
    assert sum(flip.values.values()) > 1.5


def test_nothing_outside_of_what_data_had_is_told() -> None:
    assert nearest_flip(lambda obs: obs[:, 0] > 2.0, HERE, UNIT, [0, 1, 2]) == (None, 3)
    still = [Span(np.array([0.2]), whole=True)]
    assert nearest_flip(lambda obs: obs[:, 0] > 0.2, HERE[:1], still, [0]) == (None, 0)


def test_spans_are_what_rows_had() -> None:
    rows = np.stack([np.arange(100.0), np.arange(100) % 3, np.full(100, 7.0)], axis=1).astype(np.float32)
    rows[5, 0] = np.inf
    found = spans(rows)
    assert [(one.values[0], one.values[-1], one.whole, one.width) for one in found] == [
        (0.0, 99.0, False, 99.0),
        (0.0, 2.0, True, 2.0),
        (7.0, 7.0, True, 1.0),
    ]
