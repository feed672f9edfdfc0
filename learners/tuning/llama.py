"""A Llama model, named and laid out as llama.cpp has it; cut down to what one sentence on one fact needs.

A narrator writes in few words. The first tokens of a byte-pair vocabulary are the commonest, and its first merges make
them; a few of the layers are enough once all of them are tuned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Weights = dict[str, Matrix]
"""By llama.cpp's name: a matrix (outputs, inputs), or a norm's scales."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes. width, inner: of a position's state, and within a layer. context: positions at most."""

    layers: int
    width: int
    inner: int
    heads: int
    key_heads: int
    context: int
    rope_base: float
    epsilon: float


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens of a byte-level BPE by their ids, llama.cpp's types of them, and merges ("a b"), the first ones first."""

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]

    def cut(self, size: int) -> "Vocabulary":
        """Return the first tokens, and the merges among them."""
        tokens = self.tokens[:size]
        known = set(tokens)
        merges = (one for one in self.merges if {*one.split(" "), one.replace(" ", "")} <= known)
        return Vocabulary(tokens, self.types[:size], tuple(merges))


@dataclass(frozen=True, slots=True)
class Model:
    """A model with tied embeddings. name, licence: as its file says."""

    name: str
    licence: str
    shape: Shape
    vocabulary: Vocabulary
    weights: Weights


def kept_layers(layers: int, count: int) -> list[int]:
    """Return which layers a cut keeps: the first, the last, and others evenly between them."""
    return [round(place) for place in np.linspace(0, layers - 1, count)]


def renamed(name: str, kept: Sequence[int]) -> str | None:
    """Return what a weight is called once only some layers are left; None where it goes. kept: layers, in order."""
    block, _, rest = name.partition(".")
    if block != "blk":
        return name
    layer, _, rest = rest.partition(".")
    return f"blk.{kept.index(int(layer))}.{rest}" if int(layer) in kept else None


EMBEDDING: Final = "token_embd.weight"
_WHOLE: Final = {"model.embed_tokens.weight": EMBEDDING, "model.norm.weight": "output_norm.weight"}
_LAYER: Final = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def names(layers: int) -> dict[str, str]:
    """Return llama.cpp's name of each weight by its name in transformers' LlamaForCausalLM."""
    return _WHOLE | {
        f"model.layers.{layer}.{theirs}.weight": f"blk.{layer}.{ours}.weight"
        for layer in range(layers)
        for theirs, ours in _LAYER.items()
    }


def heads_of(name: str, shape: Shape) -> int:
    """Return how many heads the rows of a weight are turned in; 0 where they are not. name: llama.cpp's."""
    return {"attn_q": shape.heads, "attn_k": shape.key_heads}.get(name.split(".")[-2], 0)


def interleaved(rows: Matrix, heads: int) -> Matrix:
    """Order the rows of a query's or key's matrix as llama.cpp turns them: pairs side by side.

    rows: (outputs, inputs) as transformers has them: of each head first all the pairs' first rows, then all the second.
    """
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def halved(rows: Matrix, heads: int) -> Matrix:
    """Undo `interleaved`."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)
