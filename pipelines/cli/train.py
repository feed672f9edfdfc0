"""headrace train."""

import sys
from typing import Any

import click

from headrace.learners.stream.algorithms import ALGORITHMS
from headrace.pipelines.cli.options import DEFAULT_ENVIRONMENT, INTERRUPTED, Command, environment_option, with_services
from headrace.pipelines.cli.output import echo, print_answer
from headrace.pipelines.tasks import task_specs
from headrace.pipelines.wiring import Services
from headrace.schemas.errors import SettingsError
from headrace.schemas.scenarios import parse_scenarios


@click.command("train", cls=Command)
@click.argument("algorithm", type=click.Choice(list(ALGORITHMS)))
@environment_option
@click.option("--steps", type=click.IntRange(min=1), help="Environment steps, all episodes together.")
@click.option(
    "--seconds", type=click.FloatRange(min=1.0), help="Instead of --steps: as many as fit; the number is kept."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed and steps, same hash."
)
@click.option(
    "--plain", is_flag=True, help="From observations and rewards alone: no features, prior or simulator's knowledge."
)
@click.option(
    "--scenarios", type=click.File("rb"), help="Variations that some episodes are of: [{share, changes}, ...]."
)
@click.option("--task", help="Store the policy under this task.  [default: cloud, or the environment's name]")
@with_services
def command(services: Services, *, as_json: bool, **asked: Any) -> None:  # noqa: ANN401
    """Train a policy in a simulated environment and store it as the task's next version.

    It serves nobody until it is promoted. `headrace evaluate --policy TASK@VERSION` shows how it does.

    In headrace/CloudService-v0 learning uses what the simulator offers: features made of the observation, and for PPO
    the rate rule as a prior to start from (so even an untrained policy does as well as that rule) and a critic that
    sees the plant. --plain does without them.

    --scenarios FILE varies the environment in some of the episodes that it learns from; evaluation stays as it is.

    Ctrl-C stops it and keeps the policy as it was at the last of the 50 points of its curve.
    """
    if (asked["steps"] is None) == (asked["seconds"] is None):
        raise SettingsError("give either --steps or --seconds")
    from headrace.pipelines.policies.train import Order, run_training  # noqa: PLC0415 torch takes seconds to load

    file = asked["scenarios"]
    asked["scenarios"] = parse_scenarios(file.read()) if file else ()
    asked["environment"] = asked["environment"] or _environment(services, asked["task"])
    shown = _Shown()
    result = run_training(services.policies, Order(**asked), shown.start, shown.point)
    told = f"{result['version']}  {result['hash'][:12]}  {result['environment_steps']:,d} steps in "
    told += f"{result['seconds']} s  mean return {result['mean_return']:.2f} on {result['traces']} traces of its own"
    print_answer(result, told, as_json=as_json)
    if result["stopped"] is not None:
        echo(f"headrace: stopped at {result['stopped']:,d} of {result['steps']:,d} steps, and kept", err=True)
        sys.exit(INTERRUPTED)


def _environment(services: Services, task: str | None) -> str:
    """Return the environment of a task that the log has."""
    try:
        spec = task_specs(services.log).get(task) if task else None
    except SettingsError:  # there is no log: training needs none
        spec = None
    return (spec and spec.environment_id) or DEFAULT_ENVIRONMENT


class _Shown:
    """Progress on stderr, where a person watches."""

    def __init__(self) -> None:
        self._steps = 0

    def start(self, steps: int) -> None:
        self._steps = steps

    def point(self, point: Any) -> None:  # noqa: ANN401 a CurvePoint, whose module loads torch
        if not sys.stderr.isatty():
            return
        mean = "" if point.mean_return is None else f"mean return {point.mean_return:8.2f}"
        over = point.steps >= self._steps
        click.echo(f"\r{point.steps:12,d} of {self._steps:,d} steps  {mean}", err=True, nl=over)
