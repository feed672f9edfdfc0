"""headrace study: the paper's evaluation, run and reported."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from headrace.learners.seeds import STUDY_TRAINING
from headrace.pipelines.cli import study_explanations
from headrace.pipelines.cli.logs import log_to_stderr
from headrace.pipelines.cli.options import json_option, verbose_option
from headrace.pipelines.cli.output import bar, echo, print_answer, print_json, print_records, print_table
from headrace.schemas.errors import SettingsError
from headrace.schemas.url import Url, parse_url

ARMS: Final = "dqn,ppo,dqn+advisor,dqn+schedule,dqn+random"
FOLDER: Final = Path(".headrace/study")

out_option = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, show_default=True, help="Where runs are."
)
processes_option = click.option(
    "--processes", type=click.IntRange(1, 256), default=2, show_default=True, help="Runs side by side."
)
steps_option = click.option(
    "--steps",
    type=click.IntRange(min=25_600),
    help="A run's environment steps, a multiple of 25600.  [default: 307200]",
)


def _training(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of what trains."""
    for option in (json_option, verbose_option, steps_option, processes_option, out_option):
        function = option(function)
    return function


@click.group("study")
def command() -> None:
    """The paper's evaluation on CloudService-v0, done with seeds, intervals and control arms.

    \b
    headrace study run --seeds 20 --out DIR       a run is a file: killed, it goes on where it was
    headrace study report DIR                     the tables
    headrace study explanations --out DIR         the scorecard of explanations
    headrace study report DIR --page study.md     and a page with figures
    """  # noqa: D301 \b is click's


@command.command("run")
@click.option("--arms", default=ARMS, show_default=True, help="Which to run, with commas between them.")
@click.option("--seeds", type=click.IntRange(2, 1_000), default=20, show_default=True, help="Runs of each arm.")
@click.option("--advisor", type=parse_url, metavar="URL", help="The language model of arms with llm: openai:MODEL.")
@_training
def run(
    *,
    arms: str,
    seeds: int,
    advisor: Url | None,
    out: Path,
    processes: int,
    steps: int | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Train and evaluate every arm with every seed. What is in the folder already is not run again."""
    log_to_stderr(verbose=verbose)
    from headrace.pipelines.study import design, pool, store  # noqa: PLC0415 torch takes seconds to load

    names, known = dict.fromkeys(part.strip() for part in arms.split(",")), store.design_so_far(out)
    chosen = {name: design.arm(name, advisor, known.get(name)) for name in names}
    numbers = STUDY_TRAINING.each()[:seeds]
    wanted = pool.jobs(chosen, numbers, design.Budget(steps or design.STEPS))
    with bar("runs") as shown:
        made = pool.run_all(out, wanted, processes, shown)
    record = {"out": str(out), "runs": len(wanted), "made": made, "arms": list(chosen), "seeds": seeds}
    told = f"{len(wanted)} runs in {out}, {made} of them made now: `headrace study report {out}` shows them"
    print_answer(record, told, as_json=as_json)


@command.command("report")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, metavar="[FOLDER]")
@click.option(
    "--page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page (.md), figures in a folder beside it."
)
@verbose_option
@json_option
def report(folder: Path, *, page: Path | None, verbose: bool, as_json: bool) -> None:
    """Compare the arms. FOLDER is what `study run --out` named, or that beside a page; by default .headrace/study."""
    log_to_stderr(verbose=verbose)
    if page is not None and page.suffix != ".md":
        raise SettingsError(f"--page {page}: the page is Markdown, give a name that ends in .md")
    from headrace.pipelines.study import scores, store  # noqa: PLC0415 Arrow, SciPy and torch are slow to load
    from headrace.pipelines.study.page import write_page  # noqa: PLC0415
    from headrace.pipelines.study.tables import tables  # noqa: PLC0415

    runs, designs, scored = store.read(folder), store.read_design(folder), scores.read(folder)
    found = tables(runs, designs, scored)
    if page is not None:
        for path in write_page(page, found, runs, scored):
            echo(f"wrote {path}", err=True)
    if as_json:
        print_json([found])
    else:
        _show(found)


def _show(found: Mapping[str, Any]) -> None:
    arms = found["arms"]
    labels = {name: f"{one['label']} ({one['unit']})" for name, one in found["definitions"].items()}
    rows = [[labels[row["measure"]], *(_cell(row["arms"][arm]) for arm in arms)] for row in found["table1"]]
    echo(f"{len(found['seeds'])} seeds, {found['steps']:,} steps a run; mean [95 % interval]\n")
    print_table(["", *arms], rows)
    echo("\nArm against arm, seed by seed\n")
    columns = ("measure", "arms", "difference", "95 % interval", "p", "p (Holm)", "Hedges' g")
    print_table(columns, (_pair(row, labels) for row in found["table4"]["pairwise"]))


def _cell(told: Mapping[str, Any]) -> str:
    return f"{told['mean']:.4g} [{told['low']:.4g}, {told['high']:.4g}]"


def _pair(row: Mapping[str, Any], labels: Mapping[str, str]) -> tuple[str, ...]:
    effect = "" if row["g"] is None else f"{row['g']:.2f}"
    between = f"{row['low']:+.3g} to {row['high']:+.3g}"
    told = (f"{row['difference']:+.3g}", between, f"{row['p']:.2g}", f"{row['p_holm']:.2g}", effect)
    return (labels[row["measure"]], f"{row['first']} - {row['second']}", *told)


@command.command("search")
@_training
def search(*, out: Path, processes: int, steps: int | None, verbose: bool, as_json: bool) -> None:
    """How the fixed schedule and the advisor's cadence were chosen, on other seeds; give it a folder of its own."""
    log_to_stderr(verbose=verbose)
    from headrace.pipelines.study import design  # noqa: PLC0415
    from headrace.pipelines.study.search import search as run_search  # noqa: PLC0415

    with bar("runs") as shown:
        found = run_search(out, processes, design.Budget(steps or design.STEPS), shown)
    print_records(found, ("name", "mean return", "settings"), _candidate, as_json=as_json)


def _candidate(one: dict[str, Any]) -> tuple[str, ...]:
    settings = {name: value for name, value in one.items() if name not in {"name", "mean_return"}}
    return (one["name"], f"{one['mean_return']:.3f}", json.dumps(settings))


command.add_command(study_explanations.command)
