"""The dueling network: sizes, the identity of dueling, its gradient, and arrays there and back."""

import numpy as np
import pytest
import torch

from headrace.learners.networks import (
    NetworkShape,
    activations,
    arrays_from_parameters,
    initial_parameters,
    parameter_gradient,
    parameters_from_arrays,
    q_values,
    split_parameters,
)

SHAPE = NetworkShape(observation_width=3, hidden=(7, 5), actions=4)


def parameters(seed=0):
    return initial_parameters(SHAPE, np.random.default_rng(seed))


def test_the_flat_vector_holds_every_parameter_once():
    """3*7+7 + 7*5+5 + 5*1+1 + 5*4+4 = 98."""
    assert SHAPE.size == 98
    weights = split_parameters(torch.arange(98.0), SHAPE)
    assert torch.cat([weights[name].reshape(-1) for name in SHAPE.parameters]).tolist() == list(range(98))
    assert weights["hidden_1.weight"].shape == (7, 5)
    assert weights["advantage.bias"].tolist() == [94, 95, 96, 97]


def test_values_equal_a_plain_dueling_network():
    """The mean over actions is the value stream; the rest is the advantage without its mean."""
    weights = {name: part.numpy() for name, part in split_parameters(parameters(), SHAPE).items()}
    obs = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
    features = obs
    for layer in range(2):
        linear = features @ weights[f"hidden_{layer}.weight"] + weights[f"hidden_{layer}.bias"]
        features = np.maximum(linear, 0)
    value = features @ weights["value.weight"] + weights["value.bias"]
    advantage = features @ weights["advantage.weight"] + weights["advantage.bias"]
    q = q_values(split_parameters(parameters(), SHAPE), torch.from_numpy(obs)).numpy()
    np.testing.assert_allclose(q, value + advantage - advantage.mean(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(q.mean(axis=1), value[:, 0], atol=1e-6)


def test_the_written_out_gradient_equals_autograd():
    """Back-propagation by hand and by torch agree on every parameter, biases not zero."""
    rng = np.random.default_rng(2)
    flat = torch.from_numpy(rng.standard_normal(SHAPE.size).astype(np.float32))
    obs = torch.from_numpy(rng.standard_normal((9, 3)).astype(np.float32))
    q_gradient = torch.from_numpy(rng.standard_normal((9, 4)).astype(np.float32))
    leaf = flat.clone().requires_grad_()
    loss = (q_values(split_parameters(leaf, SHAPE), obs) * q_gradient).sum()
    (expected,) = torch.autograd.grad(loss, leaf)
    weights = split_parameters(flat, SHAPE)
    found = parameter_gradient(weights, activations(weights, obs), q_gradient)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert (expected != 0).float().mean() > 0.8


def test_arrays_there_and_back_are_equal_bits():
    """Arrays are copies: what is done to them does not reach the network."""
    flat = parameters()
    arrays = arrays_from_parameters(flat, SHAPE)
    assert torch.equal(parameters_from_arrays(arrays, SHAPE), flat)
    arrays["value.bias"][:] = 9.0
    assert torch.equal(flat, parameters())


def test_arrays_of_another_network_are_refused():
    """A missing parameter and a wrong shape are named."""
    arrays = arrays_from_parameters(parameters(), SHAPE)
    with pytest.raises(ValueError, match=r"advantage.bias: expected shape \(4,\), found nothing"):
        parameters_from_arrays({name: arrays[name] for name in arrays if name != "advantage.bias"}, SHAPE)
    with pytest.raises(ValueError, match=r"hidden_0.weight: expected shape \(3, 7\), found \(7, 3\)"):
        parameters_from_arrays(arrays | {"hidden_0.weight": arrays["hidden_0.weight"].T}, SHAPE)


def test_initial_parameters_depend_on_the_generator_alone():
    """Equal seeds, equal bits; another seed, other weights; biases are zero, heads small."""
    assert torch.equal(parameters(3), parameters(3))
    assert not torch.equal(parameters(3), parameters(4))
    wide = NetworkShape(200, (200,), 5)
    weights = split_parameters(initial_parameters(wide, np.random.default_rng(0)), wide)
    assert weights["hidden_0.weight"].std().item() == pytest.approx(0.1, rel=0.02)
    assert weights["advantage.weight"].std().item() == pytest.approx(0.01, rel=0.1)
    assert not weights["hidden_0.bias"].any()


@pytest.mark.parametrize("sizes", [(0, (8,), 2), (3, (), 2), (3, (8, 0), 2), (3, (8,), 0)])
def test_sizes_that_make_no_network_are_refused(sizes):
    """The message says what a network needs."""
    with pytest.raises(ValueError, match="a network needs"):
        NetworkShape(*sizes)
