"""The dueling network: sizes, the identity of dueling, its gradient, and arrays there and back."""

import numpy as np
import pytest
import torch
from dueling_reference import plain_q_values

from headrace.learners.nets.dueling import DuelingNetwork, DuelingShape, initial_dueling
from headrace.learners.nets.mlp import (
    arrays_from_parameters,
    backward,
    forward,
    parameters_from_arrays,
    split_parameters,
)

SHAPE = DuelingShape(inputs=3, hidden=(7, 5), actions=4)


def parameters(seed=0):
    return initial_dueling(SHAPE, np.random.default_rng(seed))


def test_the_flat_vector_holds_every_parameter_once():
    """3*7+7 + 7*5+5 + 5*1+1 + 5*4+4 = 98."""
    assert SHAPE.size == 98
    weights = split_parameters(torch.arange(98.0), SHAPE)
    assert torch.cat([weights[name].reshape(-1) for name in SHAPE.parameters]).tolist() == list(range(98))
    assert weights["hidden_1.weight"].shape == (7, 5)
    assert weights["advantage.bias"].tolist() == [94, 95, 96, 97]


@pytest.mark.parametrize("quantiles", [1, 3])
def test_values_and_gradient_equal_a_plain_dueling_network(quantiles):
    """Both heads combined into one, and back-propagation by hand, agree with autograd on every parameter."""
    shape, rng = DuelingShape(6, (9, 7), 4, quantiles), np.random.default_rng(2)
    flat = torch.from_numpy(rng.standard_normal(shape.size).astype(np.float32))
    obs, by_outputs = (
        torch.from_numpy(rng.standard_normal((11, width)).astype(np.float32)) for width in (6, 4 * quantiles)
    )
    leaf = flat.clone().requires_grad_()
    expected = plain_q_values(leaf, shape, obs)
    (expected * by_outputs).sum().backward()
    network, gradient = DuelingNetwork(flat, shape), DuelingNetwork(torch.full_like(flat, 9.0), shape)
    np.testing.assert_allclose(network.q_values(obs), expected.detach(), rtol=1e-4, atol=1e-5)
    layers = network.combined()
    backward(layers, forward(layers, obs, "relu"), by_outputs, "relu", gradient.layers)
    np.testing.assert_allclose(gradient.distribute(), leaf.grad, rtol=1e-4, atol=1e-4)
    assert (leaf.grad != 0).float().mean() > 0.8


def test_what_is_written_to_the_vector_shows_in_the_values():
    """The layers are views; the combined head is made anew."""
    flat, obs = parameters(), torch.ones(2, 3)
    network = DuelingNetwork(flat, SHAPE)
    network.q_values(obs)
    flat.copy_(parameters(1))
    np.testing.assert_allclose(network.q_values(obs), plain_q_values(parameters(1), SHAPE, obs), atol=1e-6)


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
    wide = DuelingShape(200, (200,), 5)
    weights = split_parameters(initial_dueling(wide, np.random.default_rng(0)), wide)
    assert weights["hidden_0.weight"].std().item() == pytest.approx(0.1, rel=0.02)
    assert weights["advantage.weight"].std().item() == pytest.approx(0.01, rel=0.1)
    assert not weights["hidden_0.bias"].any()


@pytest.mark.parametrize("sizes", [(0, (8,), 2), (3, (), 2), (3, (8, 0), 2), (3, (8,), 0)])
def test_sizes_that_make_no_network_are_refused(sizes):
    """The message says what a network needs."""
    with pytest.raises(ValueError, match="a network needs"):
        DuelingShape(*sizes)
