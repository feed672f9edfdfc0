"""headrace run learn."""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

import click
import torch

from headrace.learners.stream.algorithms import ALGORITHMS, algorithm
from headrace.learners.stream.training import Config, Gate, LearnSettings
from headrace.pipelines.cli.options import Command, Within, metrics_option, with_services
from headrace.pipelines.cli.output import print_json
from headrace.pipelines.cli.serving import run_dataflow
from headrace.pipelines.learn.job import dataflow
from headrace.pipelines.learn.learner import Learner
from headrace.pipelines.learn.metrics import METRICS
from headrace.pipelines.tasks import task_specs
from headrace.pipelines.wiring import Services, compose_learn


@click.command("learn", cls=Command)
@click.option("--until-caught-up", is_flag=True, help="Stop at the log's present end, with a checkpoint.")
@click.option(
    "--algorithm",
    type=click.Choice(list(ALGORITHMS)),
    help="Of tasks that have no checkpoint yet and state none (so are the next three). PPO needs agents that send "
    "log_prob.  [default: dqn; ppo where actions are continuous]",
)
@click.option("--task", "tasks", multiple=True, help="Learn this task alone; more than once for more.  [default: all]")
@click.option("--from-start", is_flag=True, help="Learn --task anew, from the first window that the log holds.")
@click.option("--n-step", type=click.IntRange(1, 20), help="DQN: steps that a reward spans.  [default: 1]")
@click.option("--priority", type=Within(0, 1), help="DQN: replay's bent for large errors.  [default: 0]")
@click.option("--accept-gap", is_flag=True, help="Learn without chunks that are missing from the index.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of a task's first weights.")
@click.option(
    "--gate",
    type=click.Choice(get_args(Gate)),
    default="auto",
    show_default=True,
    help="What promotes a candidate: a paired test in the task's simulator; the rows that came, evaluated off-policy; "
    "auto: the simulator where there is one, else the rows; none: each is promoted.",
)
@metrics_option
@with_services
def command(
    services: Services,
    *,
    until_caught_up: bool,
    algorithm: str | None,
    tasks: tuple[str, ...],
    from_start: bool,
    n_step: int | None,
    priority: float | None,
    accept_gap: bool,
    seed: int,
    gate: Gate,
    as_json: bool,
) -> None:
    """Learn from windows, from the last checkpoint on; promote the candidates that pass the gate."""
    known = task_specs(services.log) if tasks else {}
    for task in tasks:
        if task not in known:
            raise click.UsageError(f"there is no task {task!r}: `headrace task list` shows those that there are")
    if from_start and not tasks:
        raise click.UsageError("--from-start needs --task, which says what to learn anew")
    torch.set_num_threads(1)  # more processes are the way to use more cores
    job = compose_learn(
        services,
        config=_config(algorithm, n_step, priority),
        settings=LearnSettings(gate=gate),
        seed=seed,
        until_caught_up=until_caught_up,
        accept_gap=accept_gap,
        only=tasks,
        from_start=from_start,
    )
    run_dataflow(services, "learn", job, dataflow, METRICS, lambda: _told(job.learners.copy()), "policies")
    if as_json:
        print_json(_shown(task, learner) for task, learner in job.learners.items())


def _shown(task: str, learner: Learner) -> dict[str, Any]:
    training = learner.training
    return {
        "task": task,
        "algorithm": training.config.algorithm,
        "rows": training.counts.rows,
        "updates": training.updates,
        "serving": learner.progress.serving,
    }


def _config(name: str | None, n_step: int | None, priority: float | None) -> Config | None:
    asked = {key: value for key, value in (("n_step", n_step), ("priority", priority)) if value is not None}
    if name is None and not asked:
        return None
    config = algorithm(name or "dqn").streamed
    if not asked.keys() <= config.__dataclass_fields__.keys():
        raise click.UsageError(f"--n-step and --priority are DQN's: leave them out for {name}")
    return dataclasses.replace(config, **asked)


def _told(learners: Mapping[str, Learner]) -> str:
    told = [
        f"{task}: {one.training.counts.rows} rows{_unusable(one)}, {one.training.updates} updates, {_serves(one)}"
        for task, one in learners.items()
    ]
    return "; ".join(told) or "no new windows"


def _unusable(learner: Learner) -> str:
    count = learner.training.counts.without_log_prob
    return (
        f" ({count} of them say no log_prob, which PPO needs: `follow(task, env=env)` has `record` say it)"
        if count
        else ""
    )


def _serves(learner: Learner) -> str:
    gate = learner.settings.gate
    if learner.progress.serving:
        return f"version {learner.progress.serving} serves"
    if gate != "simulator" or learner.spec.environment:
        return f"nothing serves yet{_missing(learner)}"
    return (
        f"nothing serves yet{_missing(learner)}, and without a simulator nothing will unless `headrace policy promote` "
        "or `headrace run learn --gate data` (or none) says so"
    )


def _missing(learner: Learner) -> str:
    """Say what a task still lacks that has no version yet."""
    if learner.progress.parent is not None:
        return ""
    rows = learner.missing_rows
    return f": {rows} more rows make a first candidate" if rows else ": its first candidate waits for an update"
