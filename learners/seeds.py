"""Every seed that is fixed: its name, its range, what it is for.

What was tuned or chosen on some traces is never judged on them: no two ranges of a kind share a seed. Seeds of
different kinds may be equal, as they feed different streams. Seeds that users give are their own. Trainings and fleets
draw the seeds of their traces from 2^31 numbers or more, so that they meet one of these next to never.
"""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Seeds:
    """A range of seeds.

    Its kinds: traces, episodes that policies meet; training, all that is random in a training; draws, other choices.
    """

    first: int
    count: int
    kind: Literal["traces", "training", "draws"]
    purpose: str

    def each(self) -> range:
        """Return all of them."""
        return range(self.first, self.first + self.count)


STATIC: Final = Seeds(0, 1, "traces", "the constant baseline was chosen on them; docstrings quote returns on them")
EVALUATION: Final = Seeds(1, 1, "traces", "`headrace evaluate` unless --seed says otherwise")
PRESETS: Final = Seeds(987_654, 1, "traces", "presets were chosen on them; docs/benchmarks.md tells the runs")
EXPLANATION: Final = Seeds(7_340_033, 1, "traces", "reports and the demo compare policies on them")
GATE: Final = Seeds(15_485_863, 1, "traces", "versions' mean returns are told as of them")
CANDIDATE: Final = Seeds(1_000_000_000, 1_000_000_000, "traces", "the gate judges each candidate on its own, by number")
HELD_OUT: Final = Seeds(20_260_101, 1, "traces", "benchmarks judge the presets on them")
SELECTION: Final = Seeds(32_452_843, 1, "traces", "a version trained in simulation quotes its mean return on them")
SCENARIOS: Final = Seeds(49_979_693, 1, "traces", "the loads that are trained on were chosen on them")
STUDY_JUDGE: Final = Seeds(49_979_687, 1, "traces", "the study's advisor is judged on them, as by the gate")
STUDY_SEARCH: Final = Seeds(67_867_967, 1, "traces", "the study's schedule and cadence were chosen on them")
FLOOR: Final = Seeds(73_856_093, 1, "traces", "the floor of a Gymnasium environment is chosen on them")
STUDY_CURVE: Final = Seeds(86_028_121, 1, "traces", "the evaluations of the study's learning curves")
STUDY_FINAL: Final = Seeds(86_028_157, 1, "traces", "the evaluation of the study's final policies")
SCORED_STATES: Final = Seeds(104_395_301, 1, "traces", "the states that the scorecard explains, and asks readers about")
TUNING: Final = Seeds(179_424_673, 41, "traces", "the tuned rule: the last choice, then its generations")
TUNED: Final = Seeds(179_424_714, 1, "traces", "what tuning reports of the rule that it found")
RULES: Final = Seeds(217_645_199, 1, "traces", "rule lists are shown, and chosen by, what they do on them")
RULES_JUDGE: Final = Seeds(217_645_209, 1, "traces", "`headrace rules evaluate` judges rule lists on them")

PRESET_TRAINING: Final = Seeds(0, 3, "training", "benchmarks train the presets with them")
STUDY_SEARCH_TRAINING: Final = Seeds(500, 2, "training", "runs of the study's search")
STUDY_TRAINING: Final = Seeds(1_000, 1_000, "training", "runs of the study, as many as are asked for")
SCORED_TRAINING: Final = Seeds(3_000, 1_000, "training", "the policies that the scorecard explains, a seed each run")

LOOKUPS: Final = Seeds(0, 65, "draws", "the lookup benchmark: the order of chunks, and the picks of each process")
STUDY_DRAWN: Final = Seeds(32_452_867, 1, "draws", "the study's random directives and scenarios")
STUDY_CANDIDATES: Final = Seeds(20_261_122, 1, "draws", "the schedules that the study's search tries")
RANDOM_PLAY: Final = Seeds(19_349_663, 1, "draws", "the actions of random play in a Gymnasium environment")
ACTIONS: Final = Seeds(86_028_121, 1, "draws", "the actions of a policy that draws them, where the gate judges it")
FITS: Final = Seeds(141_650_939, 1, "draws", "features and groups of rows, by which the gate judges by data")
SCORED_DRAWS: Final = Seeds(
    104_395_303, 1, "draws", "the scorecard: what readers are shown, what is shuffled or deleted"
)
EVALUATIONS: Final = Seeds(20_261_129, 1, "draws", "the benchmark of off-policy evaluation: policies, rows")
RULE_SEARCH: Final = Seeds(236_887_691, 1, "draws", "which rules the search for a list drops and grows anew")
CANDIDATES: Final = Seeds(179_424_673, 1, "draws", "the parameters that tuning tries")

ALL: Final = {name: value for name, value in list(globals().items()) if isinstance(value, Seeds)}
"""Every range, by its name."""
