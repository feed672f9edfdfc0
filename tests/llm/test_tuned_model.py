"""From a data set to a tuned model that llama.cpp runs, in short form."""

from pathlib import Path

import pytest
import torch

from headrace.learners.tuning.network import Tokens
from headrace.pipelines.tuning.exported import export, read_facts, read_pairs
from headrace.pipelines.tuning.finetuned import Order, default_base, finetune, read_card
from headrace.pipelines.tuning.gguf_file import read_model
from headrace.schemas.narration.aliases import Aliases
from headrace.schemas.narration.question import stance_of
from headrace.schemas.narration.single import INSTRUCTIONS, prompt, schema
from headrace.sinks.llama.engine import Engine
from headrace.sinks.llama.requests import Asked, Turn

pytestmark = pytest.mark.llm


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    export([], folder, 10, 0)
    return folder


def order(data: Path, out: Path, steps: int, seed: int = 0) -> Order:
    return Order(default_base(), data, out, layers=2, tokens=4_096, steps=steps, seed=seed)


def test_it_learns_and_llama_cpp_runs_it(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned.gguf"
    losses = list[float]()
    card = finetune(order(data, out, 20), lambda _, loss: losses.append(loss) or True)
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    assert card == read_card(out)
    assert (card["steps"], card["licence"], card["layers"]) == (20, "apache-2.0", 2)
    facts = read_facts(data)[0]
    fact, aliases = facts.facts[0], Aliases(facts)
    engine = Engine(out)
    try:
        turns = (Turn("system", INSTRUCTIONS), Turn("user", prompt(fact, aliases)))
        reply = engine.answer(Asked("tuned", turns, schema(fact, aliases), 64), lambda: False)
        asked = f"<|im_start|>system\n{INSTRUCTIONS}<|im_end|>\n<|im_start|>user\n{turns[1].content}<|im_end|>\n"
        tokens = engine._tokens(Asked("tuned", turns, None, 8))
    finally:
        engine.close()
    assert '"text":"' in reply.text
    assert stance_of(fact) == "level"
    own = Tokens(read_model(default_base(), 1, 4_096).vocabulary)
    whole = own.message("system", INSTRUCTIONS) + own.message("user", turns[1].content)
    assert tokens[: len(whole)] == whole, f"llama.cpp reads other tokens of {asked}"


def test_a_seed_gives_the_same_weights(data: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    cards = [
        finetune(order(data, tmp_path / f"{name}.gguf", 2, seed), lambda *_: True)
        for name, seed in (("tuned", 3), ("again/tuned", 3), ("other/tuned", 4))
    ]
    assert cards[0]["sha256"] == cards[1]["sha256"] != cards[2]["sha256"]
    assert torch.equal(before, torch.get_rng_state())


def test_what_is_stopped_is_kept(data: Path, tmp_path: Path) -> None:
    card = finetune(order(data, tmp_path / "tuned.gguf", 50), lambda step, _: step < 2)
    assert (card["steps"], card["steps_planned"]) == (2, 50)
    assert len(read_pairs(data)) == card["data"]["pairs"]
