"""Scenarios: variations of an environment that training meets beside the environment itself; evaluation never does."""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from headrace.schemas.errors import SettingsError

SCENARIOS_MAX: Final = 16


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One variation. share: of the training's episodes; what no scenario takes is the environment as it is.

    changes: by the environment's own names: CloudService's loads (`cloud.workload.Load`), else what Gymnasium makes it
    with.
    """

    share: Annotated[float, Meta(gt=0.0, le=1.0)]
    changes: dict[str, bool | int | float | str]


def parse_scenarios(text: bytes | str) -> tuple[Scenario, ...]:
    """Read a JSON array of scenarios; raises SettingsError."""
    try:
        found = msgspec.json.decode(text, type=tuple[Scenario, ...])
    except msgspec.MsgspecError as error:
        raise SettingsError(f"scenarios are a JSON array of {{share, changes}}: {error}") from error
    taken = sum(one.share for one in found)
    if not 1 <= len(found) <= SCENARIOS_MAX or taken > 1.0 + 1e-9:
        raise SettingsError(
            f"{len(found)} scenarios take {taken:g} of the episodes: give 1 to {SCENARIOS_MAX} that take 1 at most"
        )
    return found


def chosen(scenarios: Sequence[Scenario], draws: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return whose turn it is, int[N] of draws float64[N] from 0 to 1: a scenario's place, or their number for none."""
    return np.searchsorted(np.cumsum([one.share for one in scenarios]), draws, side="right")
