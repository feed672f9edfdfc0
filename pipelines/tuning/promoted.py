"""Which tuned model is served, and what lets one be."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from headrace.learners.judge.spending import spent
from headrace.learners.tuning.scores import Outcome, figures, why_not_better
from headrace.pipelines.tuning.exported import FACTS
from headrace.pipelines.tuning.finetuned import default_base, file_hash, read_card, write_card
from headrace.schemas.errors import SettingsError

PROMOTED: Final = Path(".headrace/narrators")
"""Where tuned models lie that were promoted."""
TRIED: Final = PROMOTED / "tried.txt"
"""Which model was asked about which facts, by hashes, and how many; a line each, in order."""


def serving_model() -> Path:
    """Return the model that is served where none is named: the newest that was promoted, else the one as it came.

    Raises SettingsError where there is none.
    """
    promoted = sorted(PROMOTED.glob("*.gguf"), key=lambda path: path.stat().st_mtime)
    return promoted[-1] if promoted else default_base()


def place_among_tried(model: Path, data: Path, count: int) -> int:
    """Return a model's place among those tried on the facts that a data set holds out, from 1 on, and note it.

    Whoever tries many models finds one that does well on these facts by chance. So each, from the first look at what it
    says, may be called better by error with its own `spent(place)` alone. Against one served model these sum to 5 %
    over any number of models, whichever are then compared. count: of the facts that were asked about. Raises
    SettingsError.
    """
    facts, tried = file_hash(data / FACTS), f"{file_hash(model)} {count}"
    try:
        PROMOTED.mkdir(parents=True, exist_ok=True)
        with TRIED.open("a+") as file:
            file.seek(0)
            known = [line.removeprefix(facts).strip() for line in file if line.startswith(facts)]
            if tried not in known:
                file.write(f"{facts} {tried}\n")
    except OSError as error:
        raise SettingsError(f"{TRIED} can't be written ({error})") from error
    return [*known, tried].index(tried) + 1


def promote(
    model: Path, new: Sequence[Outcome], against: Path, old: Sequence[Outcome], place: int = 1
) -> dict[str, Any]:
    """Let a model be served, and return its card; raises SettingsError where it is not better than what is served.

    new, old: outcomes of the two on the same facts. place: of the first among all that were tried on them.
    """
    level = spent(place)
    reason = why_not_better(new, old, level)
    if reason:
        told = f"{model.stem} is not promoted in place of {against.stem}: {reason}"
        told += f"; it is try {place} on these facts" if place > 1 else ""
        raise SettingsError(told)
    card = read_card(model) | {
        "try": place,
        "level": level,
        "evaluation": figures(new),
        "promoted_over": against.stem,
        "its_evaluation": figures(old),
    }
    target = PROMOTED / f"{model.stem}.gguf"
    made = target.with_suffix(".part")
    try:
        PROMOTED.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model, made)  # of now: the newest is served
        write_card(target, card)
        made.replace(target)
    except OSError as error:
        raise SettingsError(f"{target} can't be written ({error})") from error
    return card
