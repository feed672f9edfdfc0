"""headrace run learn."""

import dataclasses
import logging
from collections.abc import Mapping
from contextlib import closing
from typing import Literal

import click
import torch

from headrace.learners.dqn import DQNConfig
from headrace.learners.explain.simulation import SIMULATORS
from headrace.pipelines.advice import advising
from headrace.pipelines.algorithms import STREAMED, Algorithm
from headrace.pipelines.cli.options import Command, Within, json_option, metrics_option, with_services
from headrace.pipelines.cli.output import print_json
from headrace.pipelines.cli.progress import reported
from headrace.pipelines.cli.serving import as_service
from headrace.pipelines.core.tasks import TaskTable
from headrace.pipelines.learn import Learn, dataflow
from headrace.pipelines.learner import Learner
from headrace.pipelines.runtime.flow import run
from headrace.pipelines.training import Config, LearnSettings
from headrace.pipelines.wiring import Services, layout

logger = logging.getLogger(__name__)


@click.command("learn", cls=Command)
@click.option("--until-caught-up", is_flag=True, help="Stop at the log's present end, with a checkpoint.")
@click.option(
    "--algorithm",
    type=click.Choice(list(STREAMED)),
    default="dqn",
    show_default=True,
    help="Of tasks that have no checkpoint yet (so are the next three). PPO needs agents that send log_prob; it learns "
    "continuous actions too.",
)
@click.option("--n-step", type=click.IntRange(1, 20), help="DQN: steps that a reward spans.  [default: 1]")
@click.option("--priority", type=Within(0, 1), help="DQN: replay's bent for large errors.  [default: 0]")
@click.option("--accept-gap", is_flag=True, help="Learn without chunks that are missing from the index.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of a task's first weights.")
@click.option(
    "--gate",
    type=click.Choice(["simulator", "none"]),
    default="simulator",
    show_default=True,
    help="What promotes a candidate: a paired test in the task's simulator, or nothing: each is promoted.",
)
@json_option
@metrics_option
@with_services
def command(
    services: Services,
    *,
    until_caught_up: bool,
    algorithm: Algorithm,
    n_step: int | None,
    priority: float | None,
    accept_gap: bool,
    seed: int,
    gate: Literal["simulator", "none"],
    as_json: bool,
) -> None:
    """Learn from windows, from the last checkpoint on; promote the candidates that pass the gate."""
    torch.set_num_threads(1)  # more processes are the way to use more cores
    job = Learn(
        services.log,
        services.chunks,
        services.policies,
        TaskTable(services.log, layout(services)),
        services.clock,
        config=_config(algorithm, n_step, priority),
        settings=LearnSettings(gate=gate),
        advising=advising(services.advisor, services.settings.advisor.options),
        seed=seed,
        until_caught_up=until_caught_up,
        accept_gap=accept_gap,
    )
    with (
        closing(job),
        as_service(services, "learn", job, lambda: job.stop, lambda: job.positions),
        reported(lambda: _told(job.learners.copy(), gate)),
    ):
        logger.info("learn is ready: log %s, policies %s", services.settings.log, services.settings.policies)
        run(dataflow(job), job.stop)
    if as_json:
        print_json(
            {
                "task": task,
                "algorithm": one.training.algorithm,
                "rows": one.training.counts.rows,
                "updates": one.training.updates,
                "serving": one.progress.serving,
            }
            for task, one in job.learners.items()
        )


def _config(algorithm: Algorithm, n_step: int | None, priority: float | None) -> Config:
    config = STREAMED[algorithm]
    if n_step is None and priority is None:
        return config
    if not isinstance(config, DQNConfig):
        raise click.UsageError(f"--n-step and --priority are DQN's: leave them out for {algorithm}")
    return dataclasses.replace(config, n_step=n_step or config.n_step, priority=priority or config.priority)


def _told(learners: Mapping[str, Learner], gate: str) -> str:
    told = [
        f"{task}: {one.training.counts.rows} rows{_unusable(one)}, {one.training.updates} updates, {_serves(one, gate)}"
        for task, one in learners.items()
    ]
    return "; ".join(told) or "no new windows"


def _unusable(learner: Learner) -> str:
    count = learner.training.counts.without_log_prob
    return f" ({count} of them say no log_prob, which PPO needs)" if count else ""


def _serves(learner: Learner, gate: str) -> str:
    if learner.progress.serving:
        return f"version {learner.progress.serving} serves"
    if gate == "none" or (learner.spec.discrete and learner.spec.environment in SIMULATORS):
        return "nothing serves yet"
    return (
        "nothing serves yet, and without a simulator nothing will unless `headrace policy promote` or "
        "`headrace run learn --gate none` says so"
    )
