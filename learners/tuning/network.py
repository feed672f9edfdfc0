"""A cut model as a network that can be trained, and its tokens. transformers and torch are imported by this module."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as Decoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import LlamaConfig, LlamaForCausalLM

from headrace.learners.tuning.llama import Matrix, Model, Vocabulary, halved, heads_of, interleaved, names

START: Final = "<|im_start|>"
END: Final = "<|im_end|>"


def network(model: Model) -> LlamaForCausalLM:
    """Return a network with the model's weights; the global random state is as it was."""
    shape = model.shape
    config = LlamaConfig(
        vocab_size=len(model.vocabulary.tokens),
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        max_position_embeddings=shape.context,
        rms_norm_eps=shape.epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_base},
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        made = LlamaForCausalLM(config)
    state = {
        theirs: torch.from_numpy(_turned(ours, model, halved).copy()) for theirs, ours in names(shape.layers).items()
    }
    made.load_state_dict(state, strict=False)  # the head is the embedding
    made.tie_weights()
    return made.float()


def with_weights(model: Model, trained: LlamaForCausalLM) -> Model:
    """Return the model with the weights of a network."""
    state = trained.state_dict()
    weights = {ours: state[theirs].numpy().copy() for theirs, ours in names(model.shape.layers).items()}
    made = replace(model, weights=weights)
    return replace(made, weights={name: _turned(name, made, interleaved) for name in weights})


def _turned(name: str, model: Model, turn: Callable[[Matrix, int], Matrix]) -> Matrix:
    rows, heads = model.weights[name], heads_of(name, model.shape)
    return np.ascontiguousarray(turn(rows, heads) if heads else rows)


class Tokens:
    """Text to tokens as llama.cpp's "smollm" makes them: byte-level BPE, each digit apart."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        ids = {token: place for place, token in enumerate(vocabulary.tokens)}
        merges = [(left, right) for left, right in (one.split(" ") for one in vocabulary.merges)]
        self._tokenizer = Tokenizer(BPE(ids, merges))
        self._tokenizer.pre_tokenizer = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
        self._tokenizer.decoder = Decoder()
        self._start, self._end = ids[START], ids[END]

    def text(self, text: str) -> list[int]:
        """Return the tokens of text."""
        found: list[int] = self._tokenizer.encode(text).ids
        return found

    def message(self, role: str, content: str) -> list[int]:
        """Return the tokens of a message of a chat."""
        return [self._start, *self.text(f"{role}\n{content}"), self._end, *self.text("\n")]

    def answer(self, content: str) -> tuple[list[int], list[int]]:
        """Return the tokens that ask for an answer, and those of the answer."""
        return [self._start, *self.text("assistant\n")], [*self.text(content), self._end]
