"""Who proposes loads to train on: a rule that looks where a policy may lose most, or chance. Pure."""

from functools import cache
from typing import Final

import msgspec
import numpy as np

from headrace.learners import seeds
from headrace.learners.cloud.baselines import baseline, evaluate
from headrace.learners.cloud.workload import Load, draw_traces
from headrace.learners.simulate.scenarios import Scenario

COUNT: Final = 4
SHARE: Final = 0.125
"""Of the episodes, for each: half of them stay as they are."""
TRACES: Final = 64


def bounds() -> dict[str, tuple[float, float]]:
    """Return the lowest and the highest value of each field of a load."""
    info = msgspec.inspect.type_info(Load)
    assert isinstance(info, msgspec.inspect.StructType)
    return {one.name: (one.type.ge, one.type.le) for one in info.fields}  # type: ignore[attr-defined]


@cache
def hardest() -> tuple[Scenario, ...]:
    """Return the COUNT extremes of one factor under which the rate rule loses most to the clairvoyant planner."""
    candidates = [Load(**{name: value}) for name, limits in bounds().items() for value in limits]
    ranked = sorted(candidates, key=_loss, reverse=True)
    return tuple(Scenario(SHARE, _changes(one)) for one in ranked[:COUNT])


def drawn(seed: int) -> tuple[Scenario, ...]:
    """Return COUNT loads whose factors are drawn evenly within their bounds; seed: of the training."""
    rng = np.random.default_rng([seeds.STUDY_DRAWN.first, seed])
    loads = [Load(**{name: rng.uniform(*limits) for name, limits in bounds().items()}) for _ in range(COUNT)]
    return tuple(Scenario(SHARE, _changes(one)) for one in loads)


def _loss(load: Load) -> float:
    traces = draw_traces(seeds.SCENARIOS.first, TRACES, loads=[load] * TRACES)
    best, rule = (evaluate(baseline(name, traces), traces).mean() for name in ("clairvoyant", "rate_rule"))
    return float(best - rule)


def _changes(load: Load) -> dict[str, bool | int | float | str]:
    return {name: value for name, value in msgspec.structs.asdict(load).items() if value != 1.0}
