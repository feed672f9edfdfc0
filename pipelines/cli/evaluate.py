"""headrace evaluate."""

from typing import Any

import click

from headrace.learners.seeds import EVALUATION
from headrace.pipelines.cli.options import DEFAULT_ENVIRONMENT, Command, PolicyName, environment_option, with_services
from headrace.pipelines.cli.output import print_answer
from headrace.pipelines.tasks import task_specs
from headrace.pipelines.wiring import Services
from headrace.schemas.errors import SettingsError


@click.command("evaluate", cls=Command)
@click.option("--policy", type=PolicyName(), help="TASK@VERSION.")
@click.option(
    "--baseline",
    help="A rule instead of a policy: random, constant; CloudService has hpa, tuned_rule, ...",
)
@environment_option
@click.option("--traces", type=click.IntRange(min=1), default=512, show_default=True, help="Episodes.")
@click.option("--seed", type=click.IntRange(min=0), default=EVALUATION.first, show_default=True, help="Of the traces.")
@with_services
def command(
    services: Services,
    *,
    policy: tuple[str, int] | None,
    baseline: str | None,
    environment: str | None,
    traces: int,
    seed: int,
    as_json: bool,
) -> None:
    """Run a policy's best actions, or a baseline, on fixed traces: the same for the same --traces and --seed."""
    if (policy is None) == (baseline is None):
        raise SettingsError("give either --policy or --baseline")
    from headrace.learners.judge.statistics import mean_interval  # noqa: PLC0415 SciPy is slow to load
    from headrace.pipelines.policies import evaluate  # noqa: PLC0415 Gymnasium is slow to load

    if policy:
        name = f"{policy[0]}@{policy[1]}"
        environment = environment or _environment(services, *policy)
        returns = evaluate.evaluated(services.policies.weights(*policy), environment, traces, seed)
    else:
        name = str(baseline)
        environment = environment or DEFAULT_ENVIRONMENT
        returns = evaluate.evaluated_baseline(name, environment, traces, seed)
    mean = float(returns.mean())
    result: dict[str, Any] = {"policy": name if policy else None, "baseline": baseline, "environment": environment}
    result |= {"traces": traces, "seed": seed, "mean": mean, "returns": returns.tolist()}
    interval = ""
    if traces > 1:
        _, low, high, _ = mean_interval(returns)
        interval = f"  (95 % {low:.2f} to {high:.2f})"
    told = f"{name}: mean return {mean:.2f}{interval} on {traces} traces of seed {seed}"
    print_answer(result, told, as_json=as_json)


def _environment(services: Services, task: str, number: int) -> str:
    """Return the environment that a version was trained in, else its task's."""
    from headrace.pipelines.policies.control import find  # noqa: PLC0415 SciPy is slow to load

    trained_in: str | None = find(services.policies, task, number).config.get("environment")
    spec = None if trained_in else task_specs(services.log).get(task)
    found = trained_in or (spec and spec.environment_id)
    if not found:
        raise SettingsError(f"task {task} names no environment to run {task}@{number} in: name one by --env")
    return found
