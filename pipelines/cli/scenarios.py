"""headrace scenarios."""

import click

from headrace.learners.simulate.environments import environment_of
from headrace.pipelines.cli.options import DEFAULT_ENVIRONMENT, Command, environment_option, with_services
from headrace.pipelines.cli.output import print_json
from headrace.pipelines.wiring import Services
from headrace.schemas.errors import SettingsError


@click.command("scenarios", cls=Command)
@environment_option
@with_services
def command(services: Services, *, environment: str | None, as_json: bool) -> None:  # noqa: ARG001 it is JSON anyhow
    """Propose variations of an environment to train on: JSON, a file for `headrace train --scenarios`.

    The advisor proposes: rules: the extremes at which a simple rule loses most to the best plan, openai:MODEL what it
    thinks best. What lies beyond the environment's bounds is left out.
    """
    record = environment_of(environment or DEFAULT_ENVIRONMENT)
    if record is None or record.variations is None:
        raise SettingsError(f"--env {environment}: nothing is known of what may be varied; write the file by hand")
    if services.advisor is None:
        raise SettingsError("--advisor none: proposes nothing; take rules: or openai:MODEL")
    print_json([services.advisor.scenarios(record.variations())])
