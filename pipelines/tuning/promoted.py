"""Which tuned model is served, and what lets one be."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from headrace.learners.tuning.scores import Outcome, figures, why_not_better
from headrace.pipelines.tuning.finetuned import default_base, read_card, write_card
from headrace.schemas.errors import SettingsError

PROMOTED: Final = Path(".headrace/narrators")
"""Where tuned models lie that were promoted."""


def serving_model() -> Path:
    """Return the model that is served where none is named: the newest that was promoted, else the one as it came.

    Raises SettingsError where there is none.
    """
    promoted = sorted(PROMOTED.glob("*.gguf"), key=lambda path: path.stat().st_mtime)
    return promoted[-1] if promoted else default_base()


def promote(model: Path, new: Sequence[Outcome], against: Path, old: Sequence[Outcome]) -> dict[str, Any]:
    """Let a model be served, and return its card; raises SettingsError where it is not better than what is served.

    new, old: outcomes of the two on the same facts.
    """
    reason = why_not_better(new, old)
    if reason:
        raise SettingsError(f"{model.stem} is not promoted in place of {against.stem}: {reason}")
    card = read_card(model) | {
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
