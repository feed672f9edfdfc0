"""CloudService's entry in the table of environments."""

import numpy as np
from numpy.typing import NDArray

from headrace.learners.cloud.baselines import BASELINE_NAMES, CALLED, baseline, evaluate
from headrace.learners.cloud.controllers import RULES
from headrace.learners.cloud.plant import ACTION_NAMES, FEATURES, FRAMES
from headrace.learners.cloud.scenarios import variations
from headrace.learners.cloud.simulator import COMPARED, CloudSimulator
from headrace.learners.cloud.training_environment import CloudTrainingEnvironment
from headrace.learners.cloud.workload import draw_traces
from headrace.learners.simulate.environments import Act, Environment
from headrace.learners.simulate.training import TrainingConfig


def _returns(act: Act | str, count: int, seed: int) -> NDArray[np.float64]:
    traces = draw_traces(seed, count)
    return evaluate(baseline(act, traces) if isinstance(act, str) else act, traces)


def _preset(algorithm: str) -> TrainingConfig | None:
    from headrace.learners.cloud.presets import PRESETS  # noqa: PLC0415 torch takes seconds to load

    return PRESETS.get(algorithm)


def _advised(obs: NDArray[np.float32]) -> dict[str, int]:
    """Ask each rule; one that has no answer, as where no replica is there, is left out."""
    rules = {name: RULES[name]() for name in COMPARED if name in RULES}
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        last = {name: [int(rule.act(row[None])[0]) for row in obs][-1] for name, rule in rules.items()}
    return {name: action for name, action in last.items() if 0 <= action < len(ACTION_NAMES)}


ENVIRONMENT = Environment(
    task="cloud",
    width=FRAMES * FEATURES,
    actions=len(ACTION_NAMES),
    baselines=BASELINE_NAMES,
    training=CloudTrainingEnvironment,
    simulator=CloudSimulator,
    returns=_returns,
    preset=_preset,
    called={name: CALLED[name] for name in COMPARED},
    advised=_advised,
    variations=variations,
)
