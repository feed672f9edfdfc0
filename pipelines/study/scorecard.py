"""The scorecard and the paper's table 3 as data: each measure by arm over seeds, and against the template."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.learners.cloud.workload import EPISODE_STEPS
from headrace.learners.judge.statistics import bootstrap_interval
from headrace.pipelines.study import paper
from headrace.pipelines.study.run import Run
from headrace.pipelines.study.scores import ARMS, NAN, TEMPLATE, Score, mean_of
from headrace.schemas.records import Directive

Floats = NDArray[np.float64]
BySeed = Mapping[int, float]


class Measure(NamedTuple):
    """A number of an arm with a seed, of its scores. digits: as the page shows it. definition: as the page tells it."""

    label: str
    unit: str
    digits: int
    definition: str
    of: Callable[[Sequence[Score]], float]


def _mean(of: Callable[[Score], float]) -> Callable[[Sequence[Score]], float]:
    """Mean, in %, over tasks and kinds of explanations, of those that have it."""
    return lambda scores: 100.0 * mean_of([of(score) for score in scores])


def _holds(scores: Sequence[Score]) -> float:
    said = sum(score.said for score in scores)
    return 100.0 * sum(score.holding for score in scores) / said if said else NAN


def _told_in(percentile: float) -> Callable[[Sequence[Score]], float]:
    return lambda scores: float(np.percentile([ms for score in scores for ms in score.tell_ms], percentile))


def _decided_in(percentile: float) -> Callable[[Sequence[Score]], float]:
    def found(scores: Sequence[Score]) -> float:
        pairs = [zip(score.facts_ms, score.tell_ms, strict=True) for score in scores if score.subject == "decision"]
        took = [facts_ms + tell_ms for one in pairs for facts_ms, tell_ms in one]
        return float(np.percentile(took, percentile)) if took else NAN

    return found


MEASURES: Final[Mapping[str, Measure]] = {
    "grounding": Measure(
        "Grounding",
        "%",
        1,
        "share of the numbers and claims that the true facts bear out, as the check of reports has it",
        _holds,
    ),
    "recall": Measure(
        "Coverage",
        "%",
        1,
        "of the facts that mattered (at most 8, by size of effect against its own uncertainty) the share that is told",
        _mean(attrgetter("recall")),
    ),
    "f1": Measure(
        "F1",
        "%",
        1,
        "harmonic mean of coverage and of the share of what is told that mattered",
        _mean(attrgetter("f1")),
    ),
    "gain": Measure(
        "Simulatability gain",
        "points",
        1,
        "by how much better a reader foretells the policy's actions in held-out states once it has read: a small tree "
        "that was shown 16 decisions before a version's report, or the 8 whose explanations it reads, and that goes by "
        "the text where this speaks of the state. Named actions: share that is right; continuous ones: 1 less the mean "
        "error in shares of the range",
        _mean(lambda score: score.with_it - score.without),
    ),
    "fidelity": Measure(
        "Rule fidelity",
        "%",
        1,
        "how well the rules of the text alone foretell held-out states that they speak of",
        _mean(attrgetter("fidelity")),
    ),
    "deletion": Measure(
        "Deletion",
        "points",
        1,
        "area below the curve of actions that stay as features are taken away: of as many drawn features less that of "
        "those cited, in the text's order; above 0 the policy goes by what is cited",
        _mean(lambda score: score.random_auc - score.cited_auc),
    ),
    "stability": Measure(
        "Stability",
        "%",
        1,
        "what is told alike (Jaccard) of the same facts in the other order, and under other names",
        _mean(attrgetter("stability")),
    ),
    "own": Measure(
        "Own sentences",
        "%",
        1,
        "share of the sentences that the narrator wrote itself; the template wrote the others in its stead",
        _mean(attrgetter("own")),
    ),
    "tell_p50": Measure("Telling, p50", "ms", 2, "from facts to sentences, of one explanation", _told_in(50)),
    "tell_p95": Measure("Telling, p95", "ms", 2, "likewise", _told_in(95)),
    "decision_p50": Measure(
        "A decision, p50", "ms", 1, "from the decision to sentences, its facts included", _decided_in(50)
    ),
    "decision_p95": Measure("A decision, p95", "ms", 1, "likewise", _decided_in(95)),
}


def scorecard(scores: Sequence[Score]) -> dict[str, Any]:
    """Compute each measure by arm, over seeds; and against the template, over the seeds that both have."""
    by_arm = defaultdict[str, defaultdict[int, list[Score]]](lambda: defaultdict(list))
    for score in scores:
        by_arm[score.arm][score.seed].append(score)
    arms = [*(arm for arm in ARMS if arm in by_arm), *sorted(set(by_arm) - set(ARMS))]
    return {
        "arms": arms,
        "seeds": {arm: sorted(by_arm[arm]) for arm in arms},
        "explanations": sum(score.explanations for score in scores if score.arm == arms[0]),
        "measures": [
            _row(name, {arm: {seed: one.of(rows) for seed, rows in by_arm[arm].items()} for arm in arms})
            for name, one in MEASURES.items()
        ],
    }


def _row(name: str, columns: Mapping[str, BySeed]) -> dict[str, Any]:
    told = MEASURES[name]._asdict()
    del told["of"]
    against = {
        arm: _difference(values, columns.get(TEMPLATE, {})) for arm, values in columns.items() if arm != TEMPLATE
    }
    return {"measure": name, **told, "arms": {arm: _summary(v) for arm, v in columns.items()}, "against": against}


def _summary(values: BySeed) -> dict[str, float] | None:
    """Mean over seeds with a bootstrap interval; None where there is no such measure."""
    finite = np.array([value for value in values.values() if np.isfinite(value)])
    if not len(finite):
        return None
    mean, low, high, n = bootstrap_interval([finite], _row_mean)
    return {"mean": mean, "low": low, "high": high, "n": n}


def _difference(values: BySeed, template: BySeed) -> dict[str, float] | None:
    """An arm less the template, seed by seed, likewise."""
    pairs = {seed: value - template.get(seed, NAN) for seed, value in values.items()}
    return _summary(pairs)


def _row_mean(values: Floats) -> Floats:
    return np.asarray(values.mean(axis=-1), np.float64)


def table3(runs: Sequence[Run], scores: Sequence[Score]) -> dict[str, Any]:
    """Compute the table: of explanations, where there are scores, and of what advice changed in the study's runs."""
    return {
        "paper": dict(paper.EXPLAINED),
        "scorecard": scorecard(scores) if scores else None,
        "adjustments": adjustments(runs),
    }


def adjustments(runs: Sequence[Run]) -> dict[str, dict[str, float] | None]:
    """Return the accepted directives per 1,000 episodes of each arm of the study, over seeds."""
    found = defaultdict[str, dict[int, float]](dict)
    for run in runs:
        accepted = sum(msgspec.json.decode(one, type=Directive).verdict == "accepted" for one in run.directives)
        found[run.arm][run.seed] = 1_000.0 * accepted * EPISODE_STEPS / run.steps[-1]
    return {arm: _summary(values) for arm, values in sorted(found.items())}
