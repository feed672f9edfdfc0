"""The dueling network written plainly, layer by layer and head by head; autograd goes through it."""

import torch

from headrace.learners.nets.mlp import split_parameters


def plain_q_values(flat, shape, obs):
    """Wang et al. (2016), eq. 9: v + a - mean(a), float32[B, A * Q]."""
    weights, features = split_parameters(flat, shape), obs
    for i in range(len(shape.hidden)):
        features = torch.relu(features @ weights[f"hidden_{i}.weight"] + weights[f"hidden_{i}.bias"])
    value = features @ weights["value.weight"] + weights["value.bias"]
    advantage = features @ weights["advantage.weight"] + weights["advantage.bias"]
    advantage = advantage.view(len(obs), shape.actions, shape.quantiles)
    return (value.unsqueeze(1) + advantage - advantage.mean(dim=1, keepdim=True)).reshape(len(obs), -1)
