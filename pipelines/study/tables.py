"""The study's tables as data: everything that the page and the figures show."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.cloud import draw_traces
from headrace.learners.cloud.baselines import baseline, evaluate
from headrace.learners.cloud.workload import EPISODE_STEPS
from headrace.learners.judge import comparison
from headrace.learners.judge.statistics import bootstrap_interval, interquartile_mean, mean_interval, paired_difference
from headrace.pipelines.study import paper
from headrace.pipelines.study.design import ARMS, PAPER_ARMS, RIVALS
from headrace.pipelines.study.measures import MEASURES, convergence
from headrace.pipelines.study.run import Run
from headrace.pipelines.study.scorecard import table3
from headrace.pipelines.study.scores import Score
from headrace.schemas.errors import SettingsError
from headrace.schemas.records import Directive

RULES: Final = ("hpa", "hpa_kubernetes", "rate_rule", "tuned_rule", "clairvoyant")
TESTED: Final = ("final", "episodes", "efficiency")
"""Measures whose differences are tested; the first is the study's main one."""
HELP_PAIRS: Final = (
    ("dqn+advisor", "dqn"),
    ("dqn+advisor", "dqn+random"),
    ("dqn+random", "dqn"),
    ("dqn+llm", "dqn"),
    ("dqn+llm", "dqn+random"),
    ("dqn+llm", "dqn+llm-random"),
    ("dqn+llm", "dqn+advisor"),
    ("dqn+llm-random", "dqn"),
    ("dqn+scenarios", "dqn"),
    ("dqn+scenarios", "dqn+drawn"),
    ("dqn+drawn", "dqn"),
    ("dqn+llm-scenarios", "dqn"),
    ("dqn+llm-scenarios", "dqn+drawn"),
    ("dqn+llm-scenarios", "dqn+scenarios"),
)
"""What is asked of an adviser, and of who proposes scenarios: is it better than none, than chance, than the rules?"""
HELP_MEASURES: Final = ("final", "area", "episodes")
LEVEL: Final = 0.05

Floats = NDArray[np.float64]
Columns = Mapping[str, Mapping[str, Floats]]
"""By measure and arm, a value a seed."""


def tables(
    runs: Sequence[Run], designs: Mapping[str, Any] | None = None, scores: Sequence[Score] = ()
) -> dict[str, Any]:
    """Compute every table from the seeds that all arms have. scores: of explanations, where there are any.

    Raises:
        SettingsError: arms of several designs, fewer than two arms or two common seeds, or evaluations that differ.
    """
    by_arm = _blocks(runs)
    first = next(iter(by_arm.values()))[0]
    rules = _rules(seeds.STUDY_CURVE.first, _curve_traces(designs))
    columns = {
        name: {arm: np.array([measure.of(run, rules) for run in found]) for arm, found in by_arm.items()}
        for name, measure in MEASURES.items()
    }
    pairs = _pairwise(columns)
    rivals = _by_arm(RIVALS, runs)
    return {
        "arms": list(by_arm),
        "seeds": [run.seed for run in next(iter(by_arm.values()))],
        "steps": first.steps[-1],
        "episodes": first.steps[-1] / EPISODE_STEPS,
        "curve_traces": _curve_traces(designs),
        "final_traces": len(first.final),
        "runs_left_out": len(runs) - sum(map(len, [*by_arm.values(), *rivals.values()])),
        "definitions": {
            name: {"label": one.label, "unit": one.unit, "definition": one.definition} for name, one in MEASURES.items()
        },
        "table1": _table1(columns, by_arm),
        "figure1": {arm: _curve(found) for arm, found in by_arm.items()},
        "finals": {arm: [float(np.mean(run.final)) for run in found] for arm, found in by_arm.items()},
        "table4": {"omnibus": _omnibus(columns), "pairwise": pairs},
        "table3": table3(runs, scores),
        "kpis": {arm: _kpis(found) for arm, found in by_arm.items()},
        "rivals": list(rivals),
        "advisor": _advice({**by_arm, **rivals}),
        "help": _help({**by_arm, **rivals}, rules) if rivals else [],
        "rules": {"curve": rules, "final": _against_rules(by_arm)},
        "paper": paper.told(),
        "agreement": _agreement(columns),
        "design": dict(designs or {}),
    }


def _blocks(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs by arm, in the order of ARMS, of the seeds that all of them have."""
    by_arm = {arm: {run.seed: run for run in found} for arm, found in _by_arm(ARMS, runs).items()}
    common = sorted(set.intersection(*(set(found) for found in by_arm.values()))) if by_arm else []
    if len(by_arm) < 2 or len(common) < 2:
        raise SettingsError(
            f"a report compares two arms or more on two seeds or more that all of them have; found the arms "
            f"{', '.join(by_arm) or 'none'} and {len(common)} common seeds: `headrace study run` goes on where it was"
        )
    if len({(tuple(run.steps), len(run.final)) for found in by_arm.values() for run in found.values()}) > 1:
        raise SettingsError("the arms' evaluations are not at the same steps or of as many traces: run them alike")
    return {arm: [found[seed] for seed in common] for arm, found in by_arm.items()}


def _by_arm(arms: Sequence[str], runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs of those arms that have any; raises SettingsError where an arm's are of several designs."""
    by_arm = {arm: [run for run in runs if run.arm == arm] for arm in arms}
    for arm, found in by_arm.items():
        prints = sorted({run.fingerprint for run in found})
        if len(prints) > 1:
            raise SettingsError(f"runs of arm {arm} are of several designs ({', '.join(prints)}): keep one")
    return {arm: found for arm, found in by_arm.items() if found}


def _curve_traces(designs: Mapping[str, Any] | None) -> int:
    sizes = {one["budget"]["curve_traces"] for one in (designs or {}).values()}
    if len(sizes) != 1:
        raise SettingsError(f"design.json must say of how many traces the evaluations were, once; found {sizes}")
    return int(sizes.pop())


def _rules(seed: int, count: int) -> dict[str, float]:
    """Return each rule's mean return."""
    traces = draw_traces(seed, count)
    return {name: float(evaluate(baseline(name, traces), traces).mean()) for name in RULES}


def _table1(columns: Columns, by_arm: Mapping[str, Sequence[Run]]) -> list[dict[str, Any]]:
    """A row a measure: mean, deviation, 95 % interval and interquartile mean of each arm."""
    rows = []
    for name, arms in columns.items():
        told = {arm: _summary(values) for arm, values in arms.items()}
        if name == "episodes":
            for arm, runs in by_arm.items():
                told[arm]["converged"] = sum(convergence(run).converged for run in runs)
        rows.append({"measure": name, "arms": told, "paper": _of_paper(name)})
    return rows


def _of_paper(name: str) -> dict[str, dict[str, float]] | None:
    if name not in paper.MEANS:
        return None
    spreads = paper.SPREADS.get(name, (None,) * len(PAPER_ARMS))
    found = zip(PAPER_ARMS, paper.MEANS[name], spreads, strict=True)
    return {arm: {"mean": mean} | ({} if spread is None else {"spread": spread}) for arm, mean, spread in found}


def _summary(values: Floats) -> dict[str, Any]:
    mean, low, high, n = mean_interval(values)
    middle = bootstrap_interval([values], interquartile_mean)
    return {
        "mean": mean, "deviation": float(values.std(ddof=1)), "low": low, "high": high, "n": n,
        "median": float(np.median(values)), "iqm": middle.mean, "iqm_low": middle.low, "iqm_high": middle.high,
    }  # fmt: skip


def _curve(runs: Sequence[Run]) -> dict[str, list[float]]:
    """The mean evaluation at each step with its 95 % band over seeds."""
    intervals = [mean_interval(column) for column in np.array([run.evaluation for run in runs]).T]
    bounds = {name: [getattr(one, name) for one in intervals] for name in ("mean", "low", "high")}
    return {"steps": [float(step) for step in runs[0].steps], **bounds}


def _omnibus(columns: Columns) -> list[dict[str, Any]]:
    """Tests of whether any arm differs, of the paper's three arms and of all; p-values corrected over all of them."""
    found: list[dict[str, Any]] = []
    for name in TESTED:
        arms = list(columns[name])
        sets = [arms] if arms == list(PAPER_ARMS) or len(arms) < 3 else [[a for a in arms if a in PAPER_ARMS], arms]
        found += [_tested(name, one, [columns[name][arm] for arm in one]) for one in sets if len(one) > 1]
    for key in ("p", "welch_p", "kruskal_p", "friedman_p"):
        there = [row for row in found if row.get(key) is not None]
        for row, adjusted in zip(there, comparison.holm_adjusted([row[key] for row in there]), strict=True):
            row[f"{key}_holm"] = adjusted
    return found


def _tested(name: str, arms: Sequence[str], groups: Sequence[Floats]) -> dict[str, Any]:
    """One row: classical and robust tests; None where a test has nothing to go by (no variance)."""
    row: dict[str, Any] = {"measure": name, "arms": list(arms), "n": len(groups[0])}
    classical = _or_none(comparison.one_way, groups)
    row |= classical._asdict() if classical else dict.fromkeys(comparison.VarianceTest._fields)
    welch = _or_none(comparison.welch, groups)
    row |= {"welch_f": welch and welch.f, "welch_df": welch and welch.df_within, "welch_p": welch and welch.p}
    kruskal = _or_none(comparison.kruskal, groups) if np.ptp(np.concatenate(groups)) else None
    row |= {"kruskal_h": kruskal and kruskal.statistic, "kruskal_p": kruskal and kruskal.p}
    friedman = _or_none(comparison.friedman, groups) if kruskal and len(groups) > 2 else None
    return row | {"friedman": friedman and friedman.statistic, "friedman_p": friedman and friedman.p}


def _or_none(test: Callable[[Sequence[Floats]], Any], groups: Sequence[Floats]) -> Any:  # noqa: ANN401 a test's
    try:
        return test(groups)
    except ValueError:
        return None


def _pairwise(columns: Columns) -> list[dict[str, Any]]:
    """Every two arms, seed by seed; p-values are corrected over all pairs of a measure."""
    rows: list[dict[str, Any]] = []
    for name in TESTED:
        family = [
            _pair(name, a, b, columns[name][a], columns[name][b]) for a, b in itertools.combinations(columns[name], 2)
        ]
        p_values = [row["p"] for row in family]
        corrected = comparison.holm_adjusted(p_values), comparison.false_discovery_adjusted(p_values)
        for row, holm, discovery in zip(family, *corrected, strict=True):
            row |= {"p_holm": holm, "p_fdr": discovery}
        rows += family
    return rows


def _pair(name: str, first: str, second: str, a: Floats, b: Floats) -> dict[str, Any]:
    difference = paired_difference(a, b)
    middle = bootstrap_interval([a, b], lambda x, y: interquartile_mean(x) - interquartile_mean(y), paired=True)
    effect = None
    if max(a.std(), b.std()) > 0.0:
        effect = bootstrap_interval([a, b], comparison.hedges_g, paired=True)
    better = bootstrap_interval([a, b], comparison.improvement, paired=True, resamples=2_000)
    return {
        "measure": name, "first": first, "second": second,
        "difference": difference.mean, "low": difference.low, "high": difference.high, "n": difference.n,
        "p": comparison.paired_p(a, b),
        "g": effect and effect.mean, "g_low": effect and effect.low, "g_high": effect and effect.high,
        "greater": better.mean, "greater_low": better.low, "greater_high": better.high,
        "iqm_difference": middle.mean, "iqm_low": middle.low, "iqm_high": middle.high,
    }  # fmt: skip


def _kpis(runs: Sequence[Run]) -> dict[str, Any]:
    """Over all seeds of an arm; the decision's latencies are medians over runs."""
    cpu_s = np.array([run.train_cpu_s for run in runs])
    rows, samples = np.array([run.steps[-1] for run in runs]), np.array([run.samples for run in runs])
    latency = np.median([run.decision_us for run in runs], axis=0)
    return {
        "convergence_rate": float(np.mean([convergence(run).converged for run in runs])),
        "decision_p50_us": float(latency[0]),
        "decision_p95_us": float(latency[1]),
        "transitions_per_cpu_s": float((rows / cpu_s).mean()),
        "samples_per_cpu_s": float((samples / cpu_s).mean()),
        "judged_episodes": _judged_episodes(runs),
    }


def _judged_episodes(runs: Sequence[Run]) -> float:
    return float(np.mean([run.judged_steps for run in runs])) / EPISODE_STEPS


def _advice(by_arm: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """What the advisor did: directives by setting and verdict, and runs with any."""
    found: dict[str, Any] = {}
    for arm, runs in by_arm.items():
        if any(run.judged_steps for run in runs):
            records = (msgspec.json.decode(text, type=Directive) for run in runs for text in run.directives)
            counts = Counter(f"{f'{one.change} {one.target}'.rstrip()}: {one.verdict}" for one in records)
            advised = sum(bool(run.directives) for run in runs)
            found[arm] = {"runs": len(runs), "runs_with_directives": advised, "directives": dict(counts)}
            found[arm]["judged_episodes"] = _judged_episodes(runs)
    return found


def _help(by_arm: Mapping[str, Sequence[Run]], rules: Mapping[str, float]) -> list[dict[str, Any]]:
    """Each help against what it must beat, on the seeds that both have; p-values corrected within a measure."""
    rows: list[dict[str, Any]] = []
    for name in HELP_MEASURES:
        found = {arm: {run.seed: MEASURES[name].of(run, rules) for run in runs} for arm, runs in by_arm.items()}
        common = {(a, b): sorted(found.get(a, {}).keys() & found.get(b, {}).keys()) for a, b in HELP_PAIRS}
        family = [
            _pair(name, a, b, *(np.array([found[arm][seed] for seed in seeds]) for arm in (a, b)))
            for (a, b), seeds in common.items()
            if len(seeds) > 1
        ]
        for row, holm in zip(family, comparison.holm_adjusted([row["p"] for row in family]), strict=True):
            row["p_holm"] = holm
        rows += family
    return rows


def _against_rules(by_arm: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    """Each rule on the final traces, and how much better each arm's final policies are, over seeds."""
    traces = draw_traces(seeds.STUDY_FINAL.first, len(next(iter(by_arm.values()))[0].final))
    found: dict[str, Any] = {}
    for name in RULES:
        returns = evaluate(baseline(name, traces), traces)
        found[name] = {"mean": float(returns.mean()), "arms": {}}
        for arm, runs in by_arm.items():
            mean, low, high, _ = mean_interval(np.array([np.mean(run.final) - returns.mean() for run in runs]))
            found[name]["arms"][arm] = {"difference": mean, "low": low, "high": high}
    return found


def _agreement(columns: Columns) -> list[dict[str, Any]]:
    """The paper's orders, pair by pair: borne out here, contradicted, or undecided at 95 %."""
    found = []
    for name, means in paper.MEANS.items():
        arms = [arm for arm in PAPER_ARMS if arm in columns[name]]
        for first, second in itertools.combinations(arms, 2):
            theirs = means[PAPER_ARMS.index(first)] - means[PAPER_ARMS.index(second)]
            ours = paired_difference(columns[name][first], columns[name][second])
            decided = ours.low > 0.0 or ours.high < 0.0
            verdict = ("agrees" if (ours.mean > 0) == (theirs > 0) else "disagrees") if decided else "undecided"
            found.append(
                {"measure": name, "first": first, "second": second, "paper": theirs, "difference": ours.mean,
                 "low": ours.low, "high": ours.high, "verdict": verdict}
            )  # fmt: skip
    return found
