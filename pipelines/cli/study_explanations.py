"""headrace study explanations: the scorecard of explanations, and the paper's table 3."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
from typing_extensions import override

from headrace.learners.seeds import SCORED_TRAINING
from headrace.pipelines.cli.logs import log_to_stderr
from headrace.pipelines.cli.options import json_option, verbose_option
from headrace.pipelines.cli.output import bar, echo, print_json, print_table

FOLDER: Final = Path(".headrace/study")


class NamedNarrator(click.ParamType[tuple[str, str]]):
    """An arm's name and its narrator's URL."""

    name = "name=url"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        name, equals, url = str(value).partition("=")
        if not equals or not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", name):
            self.fail(f"{value!r}: write NAME=URL, such as local=openai:small?base_url=http://127.0.0.1:8080/v1")
        return name, url


@click.command("explanations")
@click.option("--seeds", type=click.IntRange(2, 1_000), default=20, show_default=True, help="Policies of each task.")
@click.option("--narrator", "narrators", type=NamedNarrator(), multiple=True, help="Another arm: a language model.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=FOLDER, show_default=True, help="Where they are."
)
@click.option("--processes", type=click.IntRange(1, 256), default=2, show_default=True, help="Seeds side by side.")
@verbose_option
@json_option
def command(
    *, seeds: int, narrators: tuple[tuple[str, str], ...], out: Path, processes: int, verbose: bool, as_json: bool
) -> None:
    """Score explanations without people: do they hold, tell what mattered, help to foretell the policy?

    Three tasks with policies of their own a seed; arms: nothing said, the template, the template of shuffled facts, and
    each --narrator. What is in the folder already is not scored again; `headrace study report` puts it on its page.
    """
    log_to_stderr(verbose=verbose)
    from headrace.pipelines.study import explained, scores, scoring  # noqa: PLC0415 torch takes seconds to load
    from headrace.pipelines.study.scorecard import scorecard  # noqa: PLC0415

    arms = dict.fromkeys(scores.ARMS, "") | dict(narrators)
    with bar("seeds") as shown:
        scoring.score_all(out, explained.subjects(), arms, SCORED_TRAINING.each()[:seeds], processes, shown)
    found = scorecard(scores.read(out))
    if as_json:
        print_json([found])
    else:
        _show(found)


def _show(found: Mapping[str, Any]) -> None:
    rows = [
        [f"{row['label']} ({row['unit']})", *(_cell(row["arms"][arm], row["digits"]) for arm in found["arms"])]
        for row in found["measures"]
    ]
    echo("Mean over seeds [95 % interval]\n")
    print_table(["", *found["arms"]], rows)


def _cell(told: Mapping[str, float] | None, digits: int) -> str:
    return "" if told is None else " ".join([f"{told['mean']:.{digits}f}", _interval(told, digits)])


def _interval(told: Mapping[str, float], digits: int) -> str:
    return f"[{told['low']:.{digits}f}, {told['high']:.{digits}f}]"
