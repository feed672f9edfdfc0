"""Value-learning losses, against tables worked out by hand and a slow plain reference."""

import numpy as np
import pytest

from headrace.learners.dqn.losses import double_q_learning, huber_error, quantile_huber, squared_error


def reference_double_q(*, q_tm1, a_tm1, r_t, discount_t, q_t_value, q_t_selector):
    errors = []
    for row in range(len(a_tm1)):
        best = 0
        for action in range(len(q_t_selector[row])):
            if q_t_selector[row][action] > q_t_selector[row][best]:
                best = action
        target = r_t[row] + discount_t[row] * q_t_value[row][best]
        errors.append(target - q_tm1[row][a_tm1[row]])
    return errors


def test_double_q_error_equals_the_hand_computed_table():
    """Row 0: 1 + .5 * 4 - 2; row 1: the selector's choice is priced by the other net; row 2: terminal."""
    error = double_q_learning(
        q_tm1=np.array([[1.0, 2.0], [3.0, 0.0], [5.0, 7.0]]),
        a_tm1=np.array([1, 0, 1]),
        r_t=np.array([1.0, -1.0, 2.0]),
        discount_t=np.array([0.5, 0.5, 0.0]),
        q_t_value=np.array([[4.0, 0.0], [8.0, -2.0], [9.0, 9.0]]),
        q_t_selector=np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
    )
    assert error.tolist() == [1.0, -5.0, -5.0]


def test_double_q_error_equals_the_slow_reference():
    """On random values the loops of the reference give the same errors."""
    rng = np.random.default_rng(0)
    q_tm1, q_t_value, q_t_selector = (rng.standard_normal((50, 5)) for _ in range(3))
    a_tm1, r_t = rng.integers(5, size=50), rng.standard_normal(50)
    discount_t = 0.9 * (rng.random(50) < 0.8)
    arguments = {"q_tm1": q_tm1, "a_tm1": a_tm1, "r_t": r_t, "discount_t": discount_t}
    arguments |= {"q_t_value": q_t_value, "q_t_selector": q_t_selector}
    np.testing.assert_allclose(double_q_learning(**arguments), reference_double_q(**arguments), rtol=1e-12)


def test_squared_error_is_half_the_square():
    """The table: 0, 1/2, 9/2; the derivative is the error."""
    loss, slope = squared_error(np.array([0.0, 1.0, -3.0]))
    assert loss.tolist() == [0.0, 0.5, 4.5]
    assert slope.tolist() == [0.0, 1.0, -3.0]


@pytest.mark.parametrize("wrong", [1, 2, 3, 4, 5])
def test_shapes_that_would_broadcast_are_refused(wrong):
    """A column [B, 1] where [B] is due would silently give [B, B] errors."""
    arguments = [np.zeros((4, 3)), np.zeros(4, np.int64), np.zeros(4), np.zeros(4)]
    arguments += [np.zeros((4, 3)), np.zeros((4, 3))]
    arguments[wrong] = arguments[wrong][:, None]
    with pytest.raises(AssertionError):
        double_q_learning(*arguments)


def test_hubers_error_by_hand():
    """The square up to 1, a line beyond, joined smoothly."""
    loss, slope = huber_error(np.array([0.0, 0.5, -1.0, 3.0, -3.0]))
    np.testing.assert_allclose(loss, [0.0, 0.125, 0.5, 2.5, 2.5])
    np.testing.assert_allclose(slope, [0.0, 0.5, -1.0, 1.0, -1.0])


def test_the_quantile_loss_equals_a_plain_loop():
    """Each predicted quantile against each target's, by the side it errs on (Dabney et al., eq. 10)."""
    rng = np.random.default_rng(0)
    predicted, target = rng.standard_normal((6, 4)), 2 * rng.standard_normal((6, 4))
    expected = np.zeros(6)
    for row in range(6):
        for i in range(4):
            for j in range(4):
                error = float(target[row, j] - predicted[row, i])
                size = abs(error)
                huber = 0.5 * error**2 if size <= 1 else size - 0.5
                expected[row] += abs((i + 0.5) / 4 - (error < 0)) * huber / 4
    np.testing.assert_allclose(quantile_huber(predicted, target)[0], expected, rtol=1e-5)


def test_the_quantile_losss_gradient_equals_differences():
    """Of each predicted quantile, by central differences in float64."""
    rng = np.random.default_rng(1)
    predicted, target = rng.standard_normal((5, 3)), 2 * rng.standard_normal((5, 3))
    _, gradient = quantile_huber(predicted, target)
    for i in range(3):
        step = np.zeros(3)
        step[i] = 1e-4
        above, below = (quantile_huber(predicted + sign * step, target)[0] for sign in (1, -1))
        np.testing.assert_allclose(gradient[:, i], (above - below) / 2e-4, atol=1e-4)


def test_the_quantile_loss_finds_the_quantiles():
    """Descended on draws of a skewed distribution, the predictions end at its quantiles, not at its mean."""
    draws = np.random.default_rng(0).exponential(3.0, (4_000, 1)).repeat(4, axis=1)
    predicted = np.zeros(4)
    for _ in range(400):
        _, gradient = quantile_huber(np.broadcast_to(predicted, draws.shape), draws, limit=0.05)
        predicted = predicted - 2.0 * gradient.mean(axis=0)
    expected = np.quantile(draws[:, 0], [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(predicted, expected, atol=0.15)
