"""headrace evaluate."""

from typing import Any

import click

from headrace.learners.seeds import EVALUATION
from headrace.pipelines.cli.options import Command, PolicyName, environment_option, json_option, with_services
from headrace.pipelines.cli.output import print_json
from headrace.pipelines.wiring import Services
from headrace.schemas.errors import SettingsError


@click.command("evaluate", cls=Command)
@click.option("--policy", type=PolicyName(), help="TASK@VERSION.")
@click.option("--baseline", help="hpa, static, rate_rule, tuned_rule, clairvoyant, ...: a rule instead of a policy.")
@environment_option
@click.option("--traces", type=click.IntRange(min=1), default=512, show_default=True, help="Episodes.")
@click.option("--seed", type=click.IntRange(min=0), default=EVALUATION.first, show_default=True, help="Of the traces.")
@json_option
@with_services
def command(
    services: Services,
    *,
    policy: tuple[str, int] | None,
    baseline: str | None,
    environment: str,
    traces: int,
    seed: int,
    as_json: bool,
) -> None:
    """Run a policy's greedy actions, or a baseline, on fixed traces: the same for the same --traces and --seed."""
    if (policy is None) == (baseline is None):
        raise SettingsError("give either --policy or --baseline")
    from headrace.learners.judge.statistics import mean_interval  # noqa: PLC0415 SciPy is slow to load
    from headrace.pipelines.policies import evaluate  # noqa: PLC0415 Gymnasium is slow to load

    if policy:
        name = f"{policy[0]}@{policy[1]}"
        returns = evaluate.evaluated(services.policies.weights(*policy), environment, traces, seed)
    else:
        name = str(baseline)
        returns = evaluate.evaluated_baseline(name, environment, traces, seed)
    result: dict[str, Any] = {
        "policy": name if policy else None,
        "baseline": baseline,
        "environment": environment,
        "traces": traces,
        "seed": seed,
        "mean": float(returns.mean()),
        "returns": returns.tolist(),
    }
    if as_json:
        print_json([result])
        return
    told = ""
    if traces > 1:
        _, low, high, _ = mean_interval(returns)
        told = f"  (95 % {low:.2f} to {high:.2f})"
    click.echo(f"{name}: mean return {result['mean']:.2f}{told} on {traces} traces of seed {seed}")
