"""What of CloudService's load may be varied, and what that costs: what proposals of scenarios go by."""

from functools import cache
from typing import Final

import msgspec

from headrace.learners import seeds
from headrace.learners.cloud.baselines import baseline, evaluate
from headrace.learners.cloud.workload import Load, draw_traces
from headrace.schemas.scenarios import Loss, Variations

TRACES: Final = 64


def bounds() -> dict[str, tuple[float, float]]:
    """Return the lowest and the highest value of each field of a load."""
    info = msgspec.inspect.type_info(Load)
    assert isinstance(info, msgspec.inspect.StructType)
    return {one.name: (one.type.ge, one.type.le) for one in info.fields}  # type: ignore[attr-defined]


@cache
def variations() -> Variations:
    """Return by how much the rate rule loses to the clairvoyant planner at both ends of each factor."""
    losses = [Loss(name, value, _loss(Load(**{name: value}))) for name, limits in bounds().items() for value in limits]
    return Variations(bounds(), _loss(Load()), tuple(losses))


def _loss(load: Load) -> float:
    traces = draw_traces(seeds.SCENARIOS.first, TRACES, loads=[load] * TRACES)
    best, rule = (evaluate(baseline(name, traces), traces).mean() for name in ("clairvoyant", "rate_rule"))
    return float(best - rule)
