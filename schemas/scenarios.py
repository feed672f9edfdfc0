"""Scenarios: variations of an environment that training meets beside the environment itself; evaluation never does.

Who proposes them is told `Variations`: numbers, under the environment's own names.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from headrace.schemas.errors import SettingsError

SCENARIOS_MAX: Final = 16
PROPOSED: Final = 4
"""Scenarios in a proposal."""
PROPOSED_SHARE: Final = 0.125
"""Of the episodes, for each of them: half of the episodes stay as they are."""

Bounds = Mapping[str, tuple[float, float]]
"""The lowest and the highest value of what may be varied, by name."""


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One variation. share: of the training's episodes; what no scenario takes is the environment as it is.

    changes: by the environment's own names: CloudService's loads (`cloud.workload.Load`), else what Gymnasium makes it
    with.
    """

    share: Annotated[float, Meta(gt=0.0, le=1.0)]
    changes: dict[str, bool | int | float | str]


class Loss(msgspec.Struct, frozen=True):
    """How much return a simple rule loses to the best plan where one thing has an extreme value."""

    name: str
    value: float
    loss: float


class Variations(msgspec.Struct, frozen=True):
    """What of an environment may be varied. loss: the rule's, where nothing is; losses: where one thing is."""

    bounds: dict[str, tuple[float, float]]
    loss: float
    losses: tuple[Loss, ...]


def parse_scenarios(text: bytes | str) -> tuple[Scenario, ...]:
    """Read a JSON array of scenarios; raises SettingsError."""
    try:
        found = msgspec.json.decode(text, type=tuple[Scenario, ...])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise SettingsError(f"scenarios are a JSON array of {{share, changes}}: {error}") from error
    taken = sum(one.share for one in found)
    if not 1 <= len(found) <= SCENARIOS_MAX or taken > 1.0 + 1e-9:
        raise SettingsError(
            f"{len(found)} scenarios take {taken:g} of the episodes: give 1 to {SCENARIOS_MAX} that take 1 at most"
        )
    return found


def proposed(changes: Sequence[Mapping[str, float]], bounds: Bounds) -> tuple[Scenario, ...]:
    """Make scenarios of what somebody proposes; what is beyond the bounds, or comes too late, is left out."""
    kept = [one for one in changes if one and all(name in bounds and _within(one[name], *bounds[name]) for name in one)]
    return tuple(Scenario(PROPOSED_SHARE, dict(one)) for one in kept[:PROPOSED])


def _within(value: float, low: float, high: float) -> bool:
    return low <= value <= high
