"""headrace rules: short rule lists in place of a policy."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from headrace.learners.rules import MAX_RULES
from headrace.pipelines.cli.options import Command, PolicyOrTask, Timestamp, Within, with_services
from headrace.pipelines.cli.output import echo, print_answer, print_json, print_table
from headrace.pipelines.cli.policy import deciding
from headrace.pipelines.query.scan import task_spec
from headrace.pipelines.wiring import Services
from headrace.schemas.records import ServingPolicy, TaskSpec

if TYPE_CHECKING:
    from headrace.pipelines.policies.control import Control
    from headrace.pipelines.policies.rules_judged import Beside, Judged

policy_argument = click.argument("policy", type=PolicyOrTask(), metavar="TASK[@VERSION]")
file_argument = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group("rules")
def command() -> None:
    """Rule lists that a person can read and edit: find them in history, judge them, let agents follow them."""


@command.command("synthesise", cls=Command)
@policy_argument
@click.option("--from", "start_ms", type=Timestamp(), help="Only rows from this time on.")
@click.option("--to", "end_ms", type=Timestamp(), help="Only rows before this time.")
@click.option(
    "--rules", "most", type=click.IntRange(1, MAX_RULES), default=MAX_RULES, show_default=True, help="At most."
)
@click.option("--simulate", is_flag=True, help="Run the rules in the task's environment, and mend what they lead to.")
@with_services
def synthesise(
    services: Services,
    policy: tuple[str, int | None],
    *,
    start_ms: int | None,
    end_ms: int | None,
    most: int,
    simulate: bool,
    as_json: bool,
) -> None:
    """Find rules that do as a version would, or the one that serves; where none does, as the agents did.

    The rules go to stdout: `headrace rules synthesise cloud > cloud.rules`. The task's rows in the index say what the
    rules must decide on; the latest fifth of them is kept to tell how far the rules do as the policy.
    """
    from headrace.pipelines.policies.rules import Synthesiser, history  # noqa: PLC0415 it loads the learners

    worker = Synthesiser(services.log, services.policies, task_spec(services.log, policy[0]), policy[1])
    found = worker.found(history(services.index, worker.spec, start_ms, end_ms), most, simulate=simulate)
    if as_json:
        print_json([found])
        return
    score = found.fidelity
    for size in found.sizes:
        faithful = f", {score.told(size.fidelity or 0.0, 'the policy', 'later rows')}" if score else ""
        earned = "" if size.mean_return is None else f", mean return {size.mean_return:.2f} where it was found"
        echo(f"{size.rules} rule{'s' * (size.rules > 1)}{faithful}{earned}", err=True)
    echo(found.text, nl=False)


@command.command("show", cls=Command)
@policy_argument
@with_services
def show(services: Services, policy: tuple[str, int | None], *, as_json: bool) -> None:
    """Write rules that were deployed, those that serve or a version's, as the file that they came from."""
    from headrace.pipelines.policies.rules import shown  # noqa: PLC0415 it loads the learners

    text = shown(services.log, services.policies, *policy)
    print_answer({"task": policy[0], "version": policy[1], "text": text}, text.rstrip("\n"), as_json=as_json)


@command.command("evaluate", cls=Command)
@file_argument
@click.option("--from", "start_ms", type=Timestamp(), help="Only rows from this time on.")
@click.option("--to", "end_ms", type=Timestamp(), help="Only rows before this time.")
@click.option("--traces", type=click.IntRange(min=2), default=512, show_default=True, help="Episodes in a simulator.")
@with_services
def evaluate(
    services: Services, file: Path, *, start_ms: int | None, end_ms: int | None, traces: int, as_json: bool
) -> None:
    """Judge a file of rules beside the policy that it names, and beside the baselines.

    Where the task has a simulator, by returns on traces that no rules were found on; else by the rows that agents sent.
    """
    from headrace.learners.rules.document import read  # noqa: PLC0415 it loads the learners
    from headrace.pipelines.policies.rules_judged import judged  # noqa: PLC0415

    text, spec = _read(services, file)
    found = judged(services.index, services.policies, spec, read(text, spec), start_ms, end_ms, traces)
    if as_json:
        print_json([found])
        return
    echo(_told(found))
    if found.beside:
        print_table(
            ("beside", "mean return", "rules less it (95 %)", "share of the policy's gain"), map(_row, found.beside)
        )


def _read(services: Services, file: Path) -> tuple[str, TaskSpec]:
    """Return a file's text, and the task that it names."""
    from headrace.learners.rules.document import task_in  # noqa: PLC0415 it loads the learners

    text = file.read_text(encoding="utf-8", errors="replace")
    return text, task_spec(services.log, task_in(text))


def _told(found: "Judged") -> str:
    whose = found.policy or "the agents"
    parts = [f"{found.rules} rules for {found.task}"]
    if found.fidelity:
        told = found.fidelity.told(found.fidelity.rules, whose, f"the {found.fidelity.rows:,} latest rows")
        parts.append(f"{told} (one action alone: {100 * found.fidelity.constant:.1f} %)")
    if found.mean_return is not None:
        parts.append(f"mean return {found.mean_return:.2f} on {found.traces} traces")
    if found.by_data:
        parts.append(f"not simulated; as a candidate at the gate by data: {found.by_data}")
    return "; ".join(parts)


def _row(one: "Beside") -> tuple[str, ...]:
    difference = f"{one.difference.mean:+.2f} ({one.difference.low:+.2f} to {one.difference.high:+.2f})"
    return one.name, f"{one.mean_return:.2f}", difference, "" if one.gain is None else f"{100 * one.gain:.1f} %"


@command.command("deploy", cls=Command)
@file_argument
@click.option("--share", type=Within(0.001, 0.5), help="Of the agents, as a canary.  [default: all]")
@deciding
def deploy(control: "Control", file: Path, *, share: float | None, reason: str) -> ServingPolicy:
    """Store a file of rules as the task's next version, and let the agents act by it."""
    from headrace.learners.rules.document import task_in  # noqa: PLC0415 it loads the learners
    from headrace.pipelines.policies.rules import deploy as deployed  # noqa: PLC0415

    text = file.read_text(encoding="utf-8", errors="replace")
    return deployed(control, task_spec(control.log, task_in(text)), text, reason, share)


@command.command("withdraw", cls=Command)
@click.argument("task")
@deciding
def withdraw(control: "Control", task: str, *, reason: str) -> ServingPolicy:
    """Let the policy serve again that served before the rules."""
    from headrace.pipelines.policies.rules import withdraw as withdrawn  # noqa: PLC0415 it loads the learners

    return withdrawn(control, task, reason)
