"""The study's page: tables, figures and Parquet beside it, put into the Markdown of templates/study.md.j2."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, Final

import jinja2

from headrace.learners.seeds import STUDY_SEARCH_TRAINING, STUDY_TRAINING
from headrace.pipelines.study import scores, store
from headrace.pipelines.study.design import PLAIN_DQN, PLAIN_PPO, RIVALS, SEARCH_TRACES, STEPS
from headrace.pipelines.study.figures import NAMES, RULE_NAMES, figures
from headrace.pipelines.study.measures import MEASURES
from headrace.pipelines.study.run import Run
from headrace.pipelines.study.scores import NONE, SHUFFLED, TEMPLATE, Score
from headrace.pipelines.study.search import DRAWN
from headrace.pipelines.study.tables import LEVEL

TEMPLATES: Final = Path(__file__).parent / "templates"
TELLERS: Final = {NONE: "nothing said", TEMPLATE: "template", SHUFFLED: "shuffled facts"}
"""What the page calls the arms that explain; a language model's by its own name."""
PAPER_NAMES: Final = {"dqn": "DQN", "ppo": "PPO", "dqn+advisor": "DQN + LLM"}
_QUESTIONS: Final = (
    ("dqn+advisor", "dqn+schedule", "Does the advisor beat the best fixed schedule?"),
    ("dqn+advisor", "dqn", "Is an advisor better than none?"),
    ("dqn", "ppo", "DQN or PPO?"),
)
_HELP_QUESTIONS: Final = (
    ("dqn+advisor", "dqn+random", "Is the advisor better than chance?"),
    ("dqn+llm", "dqn", "Is a language model, as an adviser, better than none?"),
    ("dqn+llm", "dqn+llm-random", "Is a language model, as an adviser, better than chance?"),
    ("dqn+scenarios", "dqn", "Do scenarios help?"),
    ("dqn+scenarios", "dqn+drawn", "Are scenarios by a rule better than chance?"),
)


def write_page(page: Path, tables: Mapping[str, Any], runs: Sequence[Run], scored: Sequence[Score] = ()) -> list[Path]:
    """Write the page, and beside it a folder of its name with figures, runs, scores and design.

    Returns what was written.
    """
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, picture in figures(tables).items():
        (folder / name).write_bytes(picture)
        written.append(folder / name)
    store.write_merged(folder / store.MERGED, runs)
    if scored:
        scores.write_merged(folder, scored)
        written.append(folder / scores.MERGED)
    store.write_design(folder, tables["design"])
    page.write_text(markdown(tables, str(folder)), encoding="utf-8")
    return [page, *written, folder / store.MERGED, folder / store.DESIGN]


def markdown(tables: Mapping[str, Any], path: str) -> str:
    """Render the page; path: of the folder beside it, which has its figures and runs and its name without `.md`."""
    # The page is Markdown: what is escaped for HTML would show as such.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=False,  # noqa: S701 Markdown
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"teller_name": lambda arm: TELLERS.get(arm, f"`{arm}`")}
    environment.filters |= {"arm_name": NAMES.__getitem__, "fixed": _fixed, "p_value": _p_value, "quote": quote}
    finals = tables["rules"]["final"]["rate_rule"]["arms"]
    return environment.get_template("study.md.j2").render(
        tables,
        path=path,
        folder=Path(path).name,
        measures=MEASURES,
        rivals=[arm for arm in RIVALS if arm in tables["rivals"]],
        tellers=TELLERS,
        paper_names=PAPER_NAMES,
        paper_scale=lambda measure: 60.0 if measure == "cpu_s" else 1.0,
        rule_names=RULE_NAMES,
        level=LEVEL,
        findings=list(_findings(tables)),
        best=max(tables["arms"], key=lambda arm: finals[arm]["difference"]),
        searched=(DRAWN + 1, STUDY_SEARCH_TRAINING.count, SEARCH_TRACES),
        search_seed=STUDY_SEARCH_TRAINING.first,
        study_seed=STUDY_TRAINING.first,
        whole_budget=STEPS,
        gradient_steps={
            "ppo": STEPS // PLAIN_PPO.config.minibatch_size * PLAIN_PPO.config.epochs,
            "dqn": int((STEPS - PLAIN_DQN.learning_starts) / PLAIN_DQN.environments * PLAIN_DQN.updates_per_step),
        },
    )


def _fixed(value: float, digits: int, sign: str = "") -> str:
    return f"{value:{sign}.{digits}f}"


def _p_value(value: float | None) -> str:
    """Write a p-value, as small as it is worth."""
    if value is None:
        return "\N{EN DASH}"
    return "< .0001" if value < 1e-4 else f"{value:.4f}".lstrip("0")


def _findings(tables: Mapping[str, Any]) -> Iterator[tuple[str, str, str, list[dict[str, Any]]]]:
    """Return what answers each question that the arms allow, with its two arms."""
    for first, second, question in _QUESTIONS:
        if {first, second} <= set(tables["arms"]):
            yield question, first, second, [_pair(tables, name, first, second) for name in ("final", "episodes")]
    for first, second, question in _HELP_QUESTIONS:
        told = [row for row in tables["help"] if (row["first"], row["second"]) == (first, second)]
        if told:
            yield question, first, second, [row for row in told if row["measure"] != "area"]


def _pair(tables: Mapping[str, Any], measure: str, first: str, second: str) -> dict[str, Any]:
    """One pair in one measure, whichever way round it is in the table."""
    for row in tables["table4"]["pairwise"]:
        if (row["measure"], row["first"], row["second"]) == (measure, first, second):
            return dict(row)
        if (row["measure"], row["first"], row["second"]) == (measure, second, first):
            return {**row, "difference": -row["difference"], "low": -row["high"], "high": -row["low"]}
    raise AssertionError((measure, first, second))
