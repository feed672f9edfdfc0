"""Tuning: the network learns to continue each prompt with its answer; the same seed and steps give the same weights.

All prompts begin with the same instructions: their keys and values are computed once a batch, and learned through.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch.nn import functional
from transformers import DynamicCache, LlamaForCausalLM

from headrace.learners.tuning.network import Tokens

BATCH: Final = 8
RATE: Final = 1e-3
WARM: Final = 0.1
"""Of the steps, in which the rate grows; it falls to nothing by a cosine after that."""
IGNORED: Final = -100


class Pair(NamedTuple):
    """Tokens: of the prompt after what all have in common, and of its answer."""

    prompt: list[int]
    answer: list[int]


def tokenised(chats: Sequence[tuple[str, str, str]], tokens: Tokens) -> tuple[list[int], list[Pair]]:
    """Return the tokens that all chats begin with, and those of each pair. chats: instructions, prompt, answer."""
    (instructions,) = {one[0] for one in chats}
    pairs = []
    for _, prompt, answer in chats:
        asked, said = tokens.answer(answer)
        pairs.append(Pair(tokens.message("user", prompt) + asked, said))
    return tokens.message("system", instructions), pairs


def tune(
    network: LlamaForCausalLM,
    shared: Sequence[int],
    pairs: Sequence[Pair],
    steps: int,
    seed: int,
    told: Callable[[int, float], bool],
) -> int:
    """Train in place, and return the steps that were taken.

    told: is given each step and its loss (nats a token, before the step); if it returns False, training ends.
    """
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    for step, batch in enumerate(_batches(pairs, steps, seed)):
        for group in optimiser.param_groups:
            group["lr"] = RATE * _share(step, steps)
        loss = loss_of(network, shared, batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        if not told(step + 1, float(loss.detach())):
            return step + 1
    return steps


def loss_of(network: LlamaForCausalLM, shared: Sequence[int], batch: Sequence[Pair]) -> torch.Tensor:
    """Return the mean negative log-likelihood of the answers' tokens, in nats."""
    longest = max(len(one.prompt) + len(one.answer) for one in batch)
    rows = torch.zeros((len(batch), longest), dtype=torch.long)
    wanted = torch.full((len(batch), longest), IGNORED)
    for row, (prompt, answer) in enumerate(batch):
        whole = torch.tensor(prompt + answer)
        rows[row, : len(whole)] = whole
        wanted[row, len(prompt) - 1 : len(whole) - 1] = whole[len(prompt) :]  # a position foretells the next token
    cache = DynamicCache(config=network.config)
    network.model(torch.tensor([list(shared)]), cache=cache, use_cache=True)
    cache.batch_repeat_interleave(len(batch))
    states = network.model(rows, cache=cache, use_cache=True).last_hidden_state
    counted = wanted != IGNORED
    return functional.cross_entropy(network.lm_head(states[counted]), wanted[counted])


def _batches(pairs: Sequence[Pair], steps: int, seed: int) -> Iterator[list[Pair]]:
    """Yield batches: all pairs in an order of their own each time, without end up to `steps`."""
    rng = np.random.default_rng(seed)
    order = list[int]()
    for _ in range(steps):
        while len(order) < BATCH:
            order += rng.permutation(len(pairs)).tolist()
        yield [pairs[place] for place in order[:BATCH]]
        order = order[BATCH:]


def _share(step: int, steps: int) -> float:
    """Return the share of the rate at a step."""
    done = (step + 1) / steps
    return done / WARM if done < WARM else 0.5 * (1.0 + math.cos(math.pi * (done - WARM) / (1.0 - WARM)))
