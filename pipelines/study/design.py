"""What the study compares: arms, budget, seeds and traces, all fixed before any of its runs.

Every arm learns from observations and rewards alone: no features, no prior, no privileged critic and no rule's rewards
to subtract, which presets use where a simulator offers them. Otherwise hyper-parameters are the presets' of the day
when the study was designed; they are written down here, because presets move on and a study must not.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec

from headrace.learners import seeds
from headrace.learners.advice.drawn import drawn_scenarios
from headrace.learners.advice.rules import RuleAdvisor
from headrace.learners.cloud import ENVIRONMENT_ID
from headrace.learners.cloud.scenarios import bounds, variations
from headrace.learners.dqn import DQNConfig
from headrace.learners.dqn.simulate import DQNTraining
from headrace.learners.ppo import PPOConfig
from headrace.learners.ppo.simulate import PPOTraining
from headrace.pipelines.study import asked
from headrace.schemas.errors import SettingsError
from headrace.schemas.scenarios import Scenario
from headrace.schemas.url import Url, masked

ARMS: Final = ("dqn", "ppo", "dqn+advisor", "dqn+schedule")
"""What the tables compare, each with all others."""
RIVALS: Final = ("dqn+random", "dqn+llm", "dqn+llm-random", "dqn+scenarios", "dqn+drawn", "dqn+llm-scenarios")
"""Other help for DQN, compared with some of these, and with each other."""
PAPER_ARMS: Final = ARMS[:3]
ENVIRONMENT: Final = ENVIRONMENT_ID

STEPS: Final = 307_200
"""A run's budget in environment steps: whole episodes and whole rollouts for every arm (3,072 episodes)."""
EVALUATION_STEPS: Final = 5_120
"""From one evaluation to the next: a whole PPO rollout, and whole steps of DQN's 64 episodes."""
STEPS_UNIT: Final = 25_600
"""A budget is a multiple of this: PPO's episodes end together after so many steps, DQN's after a quarter."""

CURVE_TRACES: Final = 128
"""Held-out traces of every evaluation in a run."""
FINAL_TRACES: Final = 512
"""Held-out traces of each run's final policy, used for nothing else."""
JUDGE_TRACES: Final = 128
"""Traces that the advisor's directives are judged on, as the gate would."""
SEARCH_TRACES: Final = 256
"""Traces that schedules were chosen on."""


@dataclass(frozen=True, slots=True)
class FixedSchedule:
    """What a fixed schedule sets, and an advisor may change while it learns.

    exploration_share: of the budget, over which epsilon falls to epsilon_end. explore_rule: followed by explore_share
    of the exploration; "" for none.
    """

    exploration_share: float = 0.1
    epsilon_end: float = 0.05
    learning_rate: float = 1e-3
    explore_rule: str = ""
    explore_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Cadence:
    """How often the advisor is asked: every `every` versions, of `points` evaluations each."""

    points: int
    every: int


BEST_SCHEDULE: Final = FixedSchedule(
    exploration_share=0.3, epsilon_end=0.02, explore_rule="rate_rule", explore_share=0.8
)
"""The best of `search.candidates()`, found by `headrace study search`."""
BEST_CADENCE: Final = Cadence(points=1, every=1)
"""Likewise, of `search.cadences()`."""


PLAIN_PPO: Final = PPOTraining(
    PPOConfig(
        hidden=(64, 64),
        critic_hidden=(64, 64),
        activation="relu",
        discount=0.95,
        gae_lambda=0.9,
        clip=0.2,
        epochs=4,
        minibatch_size=1_024,
        learning_rate=1e-3,
        critic_learning_rate=2e-3,
        entropy=0.01,
        kl_stop=0.03,
        gradient_norm_max=1.0,
        averaging=1.0,
        normaliser_rows=200_000,
        value_rate=0.02,
    ),
    environments=256,
    rollout_steps=20,
    privileged=False,
    informed=False,
)
PLAIN_DQN: Final = DQNTraining(
    DQNConfig(
        hidden=(64, 64),
        discount=0.95,
        batch_size=512,
        replay_capacity=384_000,
        learning_rate=1e-3,
        learning_rate_final=1e-5,
        gradient_norm_max=10.0,
        polyak=0.005,
        averaging=5e-4,
        centre_rewards=True,
        reward_mean_rate=1e-3,
        normaliser_updates=1_000,
        epsilon_start=1.0,
        epsilon_end=0.05,
        double=True,
        error="squared",
        quantiles=1,
        n_step=1,
        priority=0.0,
    ),
    environments=64,
    learning_starts=6_400,
    updates_per_step=1.0,
    exploration_share=0.1,
    shadowed=False,
    informed=False,
    prior=False,
)


def no_scenarios(_seed: int) -> tuple[Scenario, ...]:
    """Return none: the environment is as it is."""
    return ()


def hardest(_seed: int) -> tuple[Scenario, ...]:
    """Return what the advisor of rules proposes, of every seed the same."""
    return tuple(RuleAdvisor().scenarios(variations()))


def drawn(seed: int) -> tuple[Scenario, ...]:
    """Return what chance proposes."""
    return drawn_scenarios(bounds(), seed)


@dataclass(frozen=True, slots=True)
class Arm:
    """How an arm trains. cadence: of its advisor's directives, None without any.

    advisor: the language model that gives directives or scenarios, None where rules or chance do. counts_of: the arm of
    whose run with the same seed as many directives are drawn by chance, at the same versions; "" for none. scenarios:
    who proposes those of a seed.
    """

    training: DQNTraining | PPOTraining
    cadence: Cadence | None = None
    advisor: Url | None = None
    counts_of: str = ""
    scenarios: Callable[[int], tuple[Scenario, ...]] = no_scenarios


def arm(name: str, advisor: Url | None = None, known: Mapping[str, Any] | None = None) -> Arm:
    """Return an arm by its name; advisor: of those with a language model.

    known: how the folder has the arm described. Scenarios that this model proposed for it are not asked for again.

    Raises SettingsError for another, or where the advisor is missing, and as `Advisor.scenarios` does.
    """
    arms = {
        "dqn": Arm(PLAIN_DQN),
        "ppo": Arm(PLAIN_PPO),
        "dqn+advisor": Arm(PLAIN_DQN, BEST_CADENCE),
        "dqn+schedule": Arm(scheduled(BEST_SCHEDULE)),
        "dqn+random": Arm(PLAIN_DQN, BEST_CADENCE, counts_of="dqn+advisor"),
        "dqn+llm": Arm(PLAIN_DQN, BEST_CADENCE, advisor=advisor),
        "dqn+llm-random": Arm(PLAIN_DQN, BEST_CADENCE, advisor=advisor, counts_of="dqn+llm"),
        "dqn+scenarios": Arm(PLAIN_DQN, scenarios=hardest),
        "dqn+drawn": Arm(PLAIN_DQN, scenarios=drawn),
    }
    if "llm" in name and (advisor is None or advisor.scheme != "openai"):
        raise SettingsError(f"--arms {name} asks a language model: name it by --advisor openai:MODEL?base_url=…")
    if name == "dqn+llm-scenarios" and advisor is not None:
        return Arm(PLAIN_DQN, advisor=advisor, scenarios=partial(_these, _scenarios(advisor, known or {})))
    if name not in arms:
        raise SettingsError(f"--arms: {name!r} is none; choose among {', '.join(arms)}")
    return arms[name]


def _scenarios(advisor: Url, known: Mapping[str, Any]) -> tuple[Scenario, ...]:
    if known.get("advisor") == _told(advisor):
        return msgspec.convert(known.get("scenarios", ()), tuple[Scenario, ...])
    return asked.scenarios(advisor, variations())


def _told(advisor: Url) -> str:
    """Name a model and where it is; no option that may be a secret."""
    where = advisor.options.get("base_url")
    return f"openai:{advisor.path}" + (f"?base_url={masked(where)}" if where else "")


def _these(scenarios: tuple[Scenario, ...], _seed: int) -> tuple[Scenario, ...]:
    return scenarios


def scheduled(schedule: FixedSchedule) -> DQNTraining:
    """DQN by a fixed schedule; the learning rate falls to the same share of itself as the preset's."""
    config = PLAIN_DQN.config
    fields = dataclasses.asdict(schedule)
    share = fields.pop("exploration_share")
    fields["learning_rate_final"] = config.learning_rate_final * schedule.learning_rate / config.learning_rate
    return dataclasses.replace(PLAIN_DQN, exploration_share=share, config=dataclasses.replace(config, **fields))


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a run is, and how often and on how many traces it is evaluated; final_seed: of the last ones."""

    steps: int = STEPS
    curve_traces: int = CURVE_TRACES
    final_traces: int = FINAL_TRACES
    final_seed: int = seeds.STUDY_FINAL.first

    def __post_init__(self) -> None:
        """Refuse a number of steps that doesn't end with episodes."""
        if self.steps % STEPS_UNIT:
            raise SettingsError(
                f"--steps {self.steps}: give a multiple of {STEPS_UNIT}, where episodes end in every arm"
            )

    @property
    def points(self) -> int:
        """Evaluations in a run."""
        return self.steps // EVALUATION_STEPS


def described(one: Arm, budget: Budget) -> dict[str, Any]:
    """Return all that a run of an arm depends on but its seed."""
    chance = f"random: as {one.counts_of}" if one.counts_of else ""
    others = {
        "advisor": " of ".join(filter(None, (chance, _told(one.advisor) if one.advisor else ""))),
        "scenarios": msgspec.to_builtins(one.scenarios(0)),
    }
    return {
        "environment": ENVIRONMENT,
        "training": type(one.training).__name__,
        "config": dataclasses.asdict(one.training),
        "cadence": dataclasses.asdict(one.cadence) if one.cadence else None,
        "budget": dataclasses.asdict(budget),
        "traces": {"curve": seeds.STUDY_CURVE.first, "judge": [seeds.STUDY_JUDGE.first, JUDGE_TRACES]},
    } | {name: value for name, value in others.items() if value}


def fingerprint(description: Mapping[str, Any]) -> str:
    """Return a hash of a description: runs of one arm with different ones must not be mixed."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]
