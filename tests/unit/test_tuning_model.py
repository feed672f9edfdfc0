"""A Llama model cut to what one sentence needs, and how its rows are laid out."""

import json

import numpy as np
import pytest

from headrace.learners.tuning.llama import (
    Shape,
    Vocabulary,
    halved,
    heads_of,
    interleaved,
    kept_layers,
    names,
    renamed,
)
from headrace.pipelines.tuning.exported import export, read_facts, read_manifest, read_pairs
from headrace.pipelines.tuning.finetuned import file_hash, read_card, write_card
from headrace.schemas.errors import SettingsError

SHAPE = Shape(2, 8, 16, 2, 1, 64, 1e4, 1e-5)


def test_rows_of_a_head_are_put_side_by_side_and_back() -> None:
    """Two heads of four rows: the first half of a head's rows turns with the second, as pairs."""
    rows = np.arange(8, dtype=np.float32)[:, None]
    turned = interleaved(rows, 2)
    assert turned[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert halved(turned, 2).tolist() == rows.tolist()
    assert interleaved(np.arange(6, dtype=np.float32)[:, None], 1)[:, 0].tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    ("name", "heads"), [("blk.0.attn_q.weight", 2), ("blk.1.attn_k.weight", 1), ("blk.0.attn_v.weight", 0)]
)
def test_queries_and_keys_alone_are_turned(name: str, heads: int) -> None:
    assert heads_of(name, SHAPE) == heads
    assert heads_of("token_embd.weight", SHAPE) == 0


@pytest.mark.parametrize(
    ("layers", "count", "kept"),
    [(30, 6, [0, 6, 12, 17, 23, 29]), (30, 2, [0, 29]), (3, 3, [0, 1, 2]), (30, 1, [0])],
)
def test_layers_are_kept_evenly(layers: int, count: int, kept: list[int]) -> None:
    assert kept_layers(layers, count) == kept


@pytest.mark.parametrize(
    ("name", "new"),
    [
        ("blk.29.attn_q.weight", "blk.1.attn_q.weight"),
        ("blk.0.ffn_up.weight", "blk.0.ffn_up.weight"),
        ("blk.7.ffn_up.weight", None),
        ("token_embd.weight", "token_embd.weight"),
    ],
)
def test_weights_are_named_by_the_layers_that_are_left(name: str, new: str | None) -> None:
    assert renamed(name, [0, 29]) == new


def test_each_weight_has_a_name_in_either_library() -> None:
    found = names(2)
    assert len(found) == len(set(found.values())) == 2 + 2 * 9
    assert found["model.layers.1.self_attn.k_proj.weight"] == "blk.1.attn_k.weight"


def test_a_vocabulary_is_cut_with_the_merges_that_need_more() -> None:
    whole = Vocabulary(("a", "b", "ab", "c", "abc", "bc"), (3, 1, 1, 1, 1, 1), ("a b", "ab c", "b c"))
    assert whole.cut(4) == Vocabulary(("a", "b", "ab", "c"), (3, 1, 1, 1), ("a b",))
    assert whole.cut(5).merges == ("a b", "ab c")


def test_a_data_set_is_read_as_it_was_written(tmp_path) -> None:
    made = export([], tmp_path, 6, 0)
    pairs = read_pairs(tmp_path)
    assert len(pairs) == made["train"]["pairs"]
    assert len({instructions for instructions, _, _ in pairs}) == 1
    assert all(json.loads(answer)["text"].endswith(".") for _, _, answer in pairs)
    assert len(read_facts(tmp_path)) == made["held_out"]["reports"]
    assert read_manifest(tmp_path) == made


@pytest.mark.parametrize("content", ["{}", "not JSON", '{"messages": []}'])
def test_a_data_set_that_is_none_is_told(tmp_path, content: str) -> None:
    with pytest.raises(SettingsError, match="headrace narrator export"):
        read_pairs(tmp_path)
    (tmp_path / "train.jsonl").write_text(content)
    with pytest.raises(SettingsError, match="headrace narrator export"):
        read_pairs(tmp_path)


def test_a_card_is_for_people_too(tmp_path) -> None:
    model = tmp_path / "small.gguf"
    model.write_bytes(b"weights")
    assert read_card(model) == {"name": "small"}
    write_card(model, {"name": "small", "base_sha256": file_hash(model)})
    assert "- base sha256: " + file_hash(model) in (tmp_path / "small.md").read_text()
