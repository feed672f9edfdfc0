"""The study's page: Markdown from the tables, figures and Parquet beside it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, Final

from headrace.learners.dqn.simulate import DQNTraining
from headrace.learners.ppo.simulate import PPOTraining
from headrace.learners.seeds import STUDY_SEARCH_TRAINING, STUDY_TRAINING
from headrace.pipelines.study import store
from headrace.pipelines.study.cells import NOTHING, cell, f_test, interval, p_value, rank_test, table
from headrace.pipelines.study.design import (
    PAPER_ARMS,
    SEARCH_TRACES,
    STEPS,
    plain_dqn,
    plain_ppo,
)
from headrace.pipelines.study.figures import NAMES, RULE_NAMES, figures
from headrace.pipelines.study.measures import MEASURES
from headrace.pipelines.study.run import Run
from headrace.pipelines.study.search import DRAWN
from headrace.pipelines.study.tables import LEVEL

PAPER_NAMES: Final = {"dqn": "DQN", "ppo": "PPO", "dqn+advisor": "DQN + LLM"}
_PAPER_UNITS: Final = {"cpu_s": (60.0, "min"), "efficiency": (1.0, "unit unknown")}


def write_page(page: Path, tables: Mapping[str, Any], runs: Sequence[Run]) -> list[Path]:
    """Write the page, and beside it a folder of its name with figures, runs and design; return what was written."""
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, picture in figures(tables).items():
        (folder / name).write_bytes(picture)
        written.append(folder / name)
    store.write_merged(folder / store.MERGED, runs)
    store.write_design(folder, tables["design"])
    page.write_text(markdown(tables, str(folder)), encoding="utf-8")
    return [page, *written, folder / store.MERGED, folder / store.DESIGN]


def markdown(tables: Mapping[str, Any], path: str) -> str:
    """Render the page; path: of the folder beside it, which has its figures and runs and its name without `.md`."""
    folder = Path(path).name
    parts = (
        _introduction(tables, path),
        _summary(tables),
        _table1(tables),
        _figure1(tables, folder),
        _differences(tables, folder),
        _tests(tables),
        _kpis(tables),
        _rules(tables, folder),
        _advisor(tables),
        _paper(tables),
        _design(tables),
    )
    return "\n".join(line for part in parts for line in (*part, "")).rstrip() + "\n"


def _introduction(tables: Mapping[str, Any], path: str) -> Iterator[str]:
    steps = "" if tables["steps"] == STEPS else f" --steps {tables['steps']}"
    yield "# The study"
    yield ""
    yield (
        f"Written by `headrace study report {quote(path)} --page {quote(f'{path}.md')}`; every number comes from "
        f"`{Path(path).name}/runs.parquet`, which `headrace study run --arms {','.join(tables['arms'])} --seeds "
        f"{len(tables['seeds'])}{steps} --out DIR` made. `--json` gives each table as data."
    )
    yield ""
    yield (
        f"{len(tables['arms'])} arms, {len(tables['seeds'])} seeds each, {tables['steps']:,} environment steps "
        f"({tables['episodes']:,.0f} episodes) a run on `headrace/CloudService-v0`. All arms are evaluated on the same "
        f"{tables['curve_traces']} held-out traces {len(tables['figure1'][tables['arms'][0]]['steps'])} times in a "
        f"run, and in the end on the same other {tables['final_traces']}. A seed fixes the traces trained on: arms are "
        "compared seed by seed. Returns are unscaled, of the greedy policy."
    )
    yield ""
    yield from (f"- **{NAMES[arm]}** (`{arm}`): {_ARMS[arm]}" for arm in tables["arms"])
    yield ""
    yield (
        "Every arm learns from observations and rewards alone: without the features, the rule as a prior, the "
        "privileged critic and the rule's rewards subtracted, which the presets use where a simulator offers them. "
        "So what is compared here is weaker than what `headrace train` gives. Hyper-parameters were fixed before, on "
        f"other seeds (the schedule, and how often the advisor is asked, on seeds from {STUDY_SEARCH_TRAINING.first}; "
        f"the study's begin at {STUDY_TRAINING.first}). No parameter was tuned to reproduce the paper's ranking."
    )


_ARMS: Final = {
    "dqn": "hyper-parameters and schedule as the preset had them, which nobody searched for this budget.",
    "ppo": "hyper-parameters as the preset had them, likewise.",
    "dqn+advisor": "the same as DQN, while the advisor of rules (`rules:`) may change its learning rate, exploration "
    "and the rule that exploration follows, as on the stream: bounded, judged on traces of its own, undone if the "
    "return falls.",
    "dqn+schedule": "the control that the advisor must beat: the same settings, fixed at the best of "
    f"`headrace study search`: {DRAWN + 1} schedules, {STUDY_SEARCH_TRAINING.count} other seeds, {SEARCH_TRACES} "
    "other traces.",
}


def _table1(tables: Mapping[str, Any]) -> Iterator[str]:
    arms = tables["arms"]
    yield "## Table 1: learning"
    yield ""
    yield "Mean ± standard deviation over seeds [95 % interval of the mean]; IQM: interquartile mean."
    yield ""
    yield from table(
        ["", *(NAMES[arm] for arm in arms)],
        [[f"**{MEASURES[row['measure']].label}** ({MEASURES[row['measure']].unit})",
          *(cell(row["arms"][arm], MEASURES[row["measure"]].digits) for arm in arms)] for row in tables["table1"]],
    )  # fmt: skip
    yield ""
    yield "The paper's, in the order in which its arms are named (see *Beside the paper*):"
    yield ""
    yield from table(
        ["", *(PAPER_NAMES[arm] for arm in PAPER_ARMS)],
        [[_paper_label(row["measure"]),
          *(_paper_cell(row["measure"], row["paper"][arm]) for arm in PAPER_ARMS)]
         for row in tables["table1"] if row["paper"]],
    )  # fmt: skip
    yield ""
    yield "Definitions:"
    yield ""
    yield from (f"- *{one['label']}*: {one['definition']}." for one in tables["definitions"].values())


def _paper_label(measure: str) -> str:
    label = "Training time" if measure == "cpu_s" else MEASURES[measure].label
    return f"{label} ({_PAPER_UNITS[measure][1]})" if measure in _PAPER_UNITS else label


def _paper_cell(measure: str, told: Mapping[str, float]) -> str:
    factor = _PAPER_UNITS.get(measure, (1.0, ""))[0]
    spread = f" ± {told['spread']:g}" if "spread" in told else ""
    return f"{told['mean'] / factor:g}{spread}"


def _figure1(tables: Mapping[str, Any], folder: str) -> Iterator[str]:
    yield "## Figure 1: learning curves"
    yield ""
    ends = "; ".join(f"{NAMES[arm]} ends at {curve['mean'][-1]:.1f}" for arm, curve in tables["figure1"].items())
    yield f"![Learning curves. {ends}.]({folder}/learning_curves.png)"
    yield ""
    yield (
        f"Mean over {len(tables['seeds'])} seeds with pointwise 95 % bands; left the whole budget, right the levels, "
        "with rules on the same traces as dashed lines."
    )


def _differences(tables: Mapping[str, Any], folder: str) -> Iterator[str]:
    yield "## Arm against arm"
    yield ""
    yield f"![Differences between every two arms.]({folder}/differences.png)"
    yield ""
    yield (
        "Paired by seed: mean difference [95 % t interval]; p of the paired t test, corrected over the pairs of a "
        "measure by Holm (family-wise) and by Benjamini and Hochberg (false discovery rate); Hedges' g, the "
        "probability that a run of the first is greater than one of the second, and the difference of interquartile "
        "means with 95 % bootstrap intervals. Filled dots: Holm's p is at most .05."
    )
    yield ""
    rows = []
    for row in tables["table4"]["pairwise"]:
        digits = MEASURES[row["measure"]].digits
        effect = "no spread" if row["g"] is None else f"{row['g']:.2f} [{row['g_low']:.2f}, {row['g_high']:.2f}]"
        rows.append([
            MEASURES[row["measure"]].label,
            f"{NAMES[row['first']]} less {NAMES[row['second']]}",
            interval(row, "difference", "low", "high", digits),
            f"{p_value(row['p'])}; {p_value(row['p_holm'])}; {p_value(row['p_fdr'])}",
            effect,
            interval(row, "greater", "greater_low", "greater_high", 2),
            interval(row, "iqm_difference", "iqm_low", "iqm_high", digits),
        ])  # fmt: skip
    yield from table(["measure", "arms", "difference", "p; Holm; BH", "g", "P(greater)", "IQM difference"], rows)


def _tests(tables: Mapping[str, Any]) -> Iterator[str]:
    told = tables["paper"]
    yield "## Table 4, the learning part: does any arm differ?"
    yield ""
    yield (
        "One-way analysis of variance, with η² and its 95 % interval (noncentral F) and ω²; Welch's test, which lets "
        "arms vary differently; Kruskal and Wallis's by ranks; Friedman's by ranks within seeds. p-values are Holm's, "
        "over the rows of a column."
    )
    yield ""
    rows = [
        [
            MEASURES[row["measure"]].label,
            ", ".join(NAMES[arm] for arm in row["arms"]),
            f_test(row["f"], row["df_between"], row["df_within"], row.get("p_holm")),
            NOTHING
            if row["f"] is None
            else f"{row['eta_squared']:.2f} [{row['eta_low']:.2f}, {row['eta_high']:.2f}]; {row['omega_squared']:.2f}",
            f_test(row["welch_f"], row["df_between"], row["welch_df"], row.get("welch_p_holm")),
            rank_test(row["kruskal_h"], row.get("kruskal_p_holm")),
            rank_test(row["friedman"], row.get("friedman_p_holm")),
        ]
        for row in tables["table4"]["omnibus"]
    ]
    yield from table(["measure", "arms", "F", "η²; ω²", "Welch", "Kruskal", "Friedman"], rows)
    yield ""
    yield (
        f"The paper's: F({told['df'][0]}, {told['df'][1]}) = {told['f']}, η² = {told['eta_squared']:.2f}. These two "
        f"agree with each other (that F is an η² of {told['eta_squared_from_f']:.3f}), but the F does not follow from "
        "the paper's own means:"
    )
    yield ""
    yield from table(
        ["measure", "if ± is a", "F(2, 57) is", "η²"],
        [[MEASURES[one["measure"]].label, one["reading"], f"{one['f']:.1f}", f"{one['eta_squared']:.2f}"]
         for one in told["arithmetic"]],
    )  # fmt: skip


def _kpis(tables: Mapping[str, Any]) -> Iterator[str]:
    yield "## KPIs"
    yield ""
    shown = (
        ("Convergence rate", "{convergence_rate:.0%}"),
        ("Decision latency p50, µs", "{decision_p50_us:.1f}"),
        ("Decision latency p95, µs", "{decision_p95_us:.1f}"),
        ("Transitions learned from, per CPU-second of training", "{transitions_per_cpu_s:,.0f}"),
        ("Rows in gradients, per CPU-second (each transition many times)", "{samples_per_cpu_s:,.0f}"),
        ("Episodes simulated for the advisor's judging, beside the budget", "{judged_episodes:,.0f}"),
    )
    arms = tables["arms"]
    yield from table(
        ["", *(NAMES[arm] for arm in arms)],
        [[label, *(form.format(**tables["kpis"][arm]) for arm in arms)] for label, form in shown],
    )
    yield ""
    yield (
        "Latency is of one decision at batch 1, median over runs of each run's 2,000. CPU time and latency depend on "
        "what else the machine did."
    )


def _rules(tables: Mapping[str, Any], folder: str) -> Iterator[str]:
    yield "## Against the rules"
    yield ""
    yield f"![Return of each run's final policy beside the rules.]({folder}/final_returns.png)"
    yield ""
    yield "Small dots: a run each; the large mark with its bar: their mean and its 95 % interval."
    yield ""
    yield f"On the final {tables['final_traces']} traces; each arm less the rule, mean over seeds [95 % interval]."
    yield ""
    arms = tables["arms"]
    yield from table(
        ["rule", "its return", *(NAMES[arm] for arm in arms)],
        [[f"`{name}`", f"{rule['mean']:.2f}",
          *(interval(rule["arms"][arm], "difference", "low", "high", 2) for arm in arms)]
         for name, rule in tables["rules"]["final"].items()],
    )  # fmt: skip
    yield ""
    yield f"Drawn: {', '.join(f'{name} (`{rule}`)' for rule, name in RULE_NAMES.items())}."


def _advisor(tables: Mapping[str, Any]) -> Iterator[str]:
    yield "## What the advisor did"
    for arm, told in tables["advisor"].items():
        yield ""
        yield f"{NAMES[arm]}: directives in {told['runs_with_directives']} of {told['runs']} runs."
        yield ""
        yield from table(
            ["directive: verdict", "count"], [[key, str(n)] for key, n in sorted(told["directives"].items())]
        )
        yield ""
        yield (
            f"Its judging simulated {tables['kpis'][arm]['judged_episodes']:,.0f} episodes a run beside the budget of "
            f"{tables['episodes']:,.0f}, which no measure of sample efficiency above counts. (The fixed schedule cost "
            "its search, once.)"
        )


def _summary(tables: Mapping[str, Any]) -> Iterator[str]:
    """The findings, each said by its interval."""
    yield "## What came out"
    yield ""
    for first, second, question in (
        ("dqn+advisor", "dqn+schedule", "does the advisor beat the best fixed schedule?"),
        ("dqn+advisor", "dqn", "is an advisor better than none?"),
        ("dqn", "ppo", "DQN or PPO?"),
    ):
        if {first, second} <= set(tables["arms"]):
            told = "; ".join(_finding(tables, measure, first, second) for measure in ("final", "episodes"))
            yield f"- **{question[0].upper()}{question[1:]}** {NAMES[first]} less {NAMES[second]}: {told}."
    rules = tables["rules"]["final"]
    best = max(tables["arms"], key=lambda arm: rules["rate_rule"]["arms"][arm]["difference"])
    against = (
        f"{interval(rules[rule]['arms'][best], 'difference', 'low', 'high', 2)} against the {RULE_NAMES[rule]}"
        for rule in ("rate_rule", "tuned_rule")
    )
    yield f"- **The best arm** by return, {NAMES[best]}, is {', '.join(against)}."
    verdicts = [row["verdict"] for row in tables["agreement"] if row["measure"] != "efficiency"]
    counts = ", ".join(f"{word} in {verdicts.count(word)}" for word in ("agrees", "disagrees", "undecided"))
    yield f"- **The paper's order of arms**, over {len(verdicts)} pairs of figures: {counts}."


def _finding(tables: Mapping[str, Any], measure: str, first: str, second: str) -> str:
    """One pair in one measure, whichever way round it is in the table."""
    for row in tables["table4"]["pairwise"]:
        if row["measure"] == measure and {row["first"], row["second"]} == {first, second}:
            ends = (row["difference"], row["low"], row["high"])
            mean, low, high = ends if row["first"] == first else (-ends[0], -ends[2], -ends[1])
            digits = MEASURES[measure].digits
            sure = "" if row["p_holm"] <= LEVEL else ", not shown to differ"
            return (
                f"{MEASURES[measure].label.lower()} {mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}], "
                f"Holm's p {p_value(row['p_holm'])}{sure}"
            )
    raise AssertionError((measure, first, second))


def _paper(tables: Mapping[str, Any]) -> Iterator[str]:
    yield "## Beside the paper"
    yield ""
    yield (
        "Each of the paper's orders, pair by pair: *agrees* or *disagrees* where our paired 95 % interval excludes 0, "
        "else *undecided*. Sample efficiency is left to the reader's eye: what it counts is not said. Training time is "
        "in minutes there, in CPU seconds here."
    )
    yield ""
    rows = []
    for row in tables["agreement"]:
        if row["measure"] == "efficiency":
            continue
        factor = _PAPER_UNITS.get(row["measure"], (1.0, ""))[0]
        rows.append([
            _paper_label(row["measure"]).replace(" (min)", " (min; here s)"),
            f"{PAPER_NAMES[row['first']]} less {PAPER_NAMES[row['second']]}",
            f"{row['paper'] / factor:+g}",
            interval(row, "difference", "low", "high", MEASURES[row["measure"]].digits),
            row["verdict"],
        ])  # fmt: skip
    yield from table(["measure", "arms", "paper", "here", ""], rows)
    yield ""
    yield "Why figures differ, and what is not known of the paper's:"
    yield ""
    yield from (f"- {line}" for line in tables["paper"]["unknown"])
    yield (
        f"- Training time: a PPO run makes at most {_gradient_steps(plain_ppo()):,} gradient steps here, a DQN run "
        f"{_gradient_steps(plain_dqn()):,}, so that PPO is the cheaper one. What the paper's made is not said."
    )
    yield (
        "- DQN against PPO is also a matter of settings: DQN's were made for about 384,000 transitions, near this "
        "budget, PPO's for 4 M steps with the simulator's aids. Which algorithm is better when both are tuned for the "
        "budget is not answered here; `docs/benchmarks.md` has both at their own."
    )
    yield (
        "- An LLM is not what was run here: the advisor is a table of rules, deterministic and free. What a language "
        "model would have proposed is not measured."
    )


def _gradient_steps(training: DQNTraining | PPOTraining) -> int:
    """Of a run of the study's own budget."""
    if isinstance(training, PPOTraining):
        return STEPS // training.config.minibatch_size * training.config.epochs
    return int((STEPS - training.learning_starts) / training.environments * training.updates_per_step)


def _design(tables: Mapping[str, Any]) -> Iterator[str]:
    yield "## What is fixed"
    yield ""
    yield (
        f"Seeds {tables['seeds'][0]} to {tables['seeds'][-1]}; all hyper-parameters are in `design.json` beside the "
        "runs, whose fingerprint each run carries: a study is not mixed from several designs. The seeds of the traces "
        "are in `learners/seeds.py`."
    )
    if tables["runs_left_out"]:
        yield ""
        yield f"Runs left out, as not every arm has their seeds yet: {tables['runs_left_out']}."
