"""Models as GGUF files, which llama.cpp runs. The package `gguf` is imported by this module."""

from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Quantised

from headrace.learners.tuning.llama import EMBEDDING, Model, Shape, Vocabulary, kept_layers, renamed
from headrace.schemas.errors import SettingsError

TEMPLATE: Final = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The chat's form; that of SmolLM2 adds a message of its own where the first one is not the system's."""


def read_model(path: Path, layers: int, tokens: int) -> Model:
    """Read a model cut to so many of its layers and tokens.

    It is a Llama model with tied embeddings and the tokens of SmolLM2; raises SettingsError for any other file.
    """
    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} can't be read as a GGUF file ({error})") from error

    def field(name: str) -> Any:  # noqa: ANN401
        found = reader.get_field(name)
        if found is None:
            raise SettingsError(f"{path} has no {name}: a Llama model with the tokens of SmolLM2 can be tuned")
        return found.contents()

    if field("general.architecture") != "llama" or field("tokenizer.ggml.pre") != "smollm":
        raise SettingsError(f"{path} is a {field('general.architecture')}: one of SmolLM2's models can be tuned")
    kept = kept_layers(field("llama.block_count"), layers)
    shape = Shape(
        len(kept),
        field("llama.embedding_length"),
        field("llama.feed_forward_length"),
        field("llama.attention.head_count"),
        field("llama.attention.head_count_kv"),
        field("llama.context_length"),
        field("llama.rope.freq_base"),
        field("llama.attention.layer_norm_rms_epsilon"),
    )
    lists = (tuple(field(f"tokenizer.ggml.{name}")) for name in ("tokens", "token_type", "merges"))
    weights = {
        name: np.asarray(gguf.quants.dequantize(_rows(tensor, tokens), tensor.tensor_type), np.float32)
        for tensor in reader.tensors
        if (name := renamed(tensor.name, kept)) is not None
    }
    return Model(field("general.name"), field("general.license"), shape, Vocabulary(*lists).cut(tokens), weights)


def _rows(tensor: Any, tokens: int) -> Any:  # noqa: ANN401
    return tensor.data[:tokens] if tensor.name == EMBEDDING else tensor.data


def write_model(model: Model, path: Path, name: str) -> None:
    """Write a model, its matrices in eight bits; what lay at the path stays whole until then."""
    shape, vocabulary = model.shape, model.vocabulary
    made = path.with_suffix(".part")
    writer = gguf.GGUFWriter(made, "llama")
    for field, value in {
        "name": name,
        "license": model.licence,
        "file_type": gguf.LlamaFileType.MOSTLY_Q8_0,
        "quantization_version": gguf.GGML_QUANT_VERSION,
        "block_count": shape.layers,
        "embedding_length": shape.width,
        "feed_forward_length": shape.inner,
        "head_count": shape.heads,
        "head_count_kv": shape.key_heads,
        "context_length": shape.context,
        "rope_freq_base": shape.rope_base,
        "rope_dimension_count": shape.width // shape.heads,
        "layer_norm_rms_eps": shape.epsilon,
        "vocab_size": len(vocabulary.tokens),
        "tokenizer_model": "gpt2",
        "tokenizer_pre": "smollm",
        "token_list": list(vocabulary.tokens),
        "token_types": list(vocabulary.types),
        "token_merges": list(vocabulary.merges),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unk_token_id": 0,
        "pad_token_id": 2,
        "add_bos_token": False,
        "add_space_prefix": False,
        "chat_template": TEMPLATE,
    }.items():
        getattr(writer, f"add_{field}")(value)
    for tensor, rows in model.weights.items():
        kind = Quantised.Q8_0 if rows.ndim > 1 else Quantised.F32
        writer.add_tensor(tensor, gguf.quants.quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    made.replace(path)
