"""headrace run digest."""

import logging
from collections.abc import Callable
from contextlib import closing
from email.utils import parseaddr
from typing import Any, Final

import click
from typing_extensions import override

from headrace.pipelines.cli.options import Command, metrics_option, with_services
from headrace.pipelines.cli.output import print_answer
from headrace.pipelines.cli.serving import as_service
from headrace.pipelines.report.addresses import (
    NOBODY,
    TOKEN,
    parse_mail_address,
    parse_page_link,
    parse_unsubscribe,
)
from headrace.pipelines.report.compose import Envelope
from headrace.pipelines.report.job import Digest
from headrace.pipelines.report.metrics import METRICS
from headrace.pipelines.report.schedule import Schedule
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.settings import DEFAULTS
from headrace.pipelines.wiring import Services, compose_digest
from headrace.schemas.errors import SettingsError

logger = logging.getLogger(__name__)


class Checked(click.ParamType[str]):
    """A text that a function checks, which raises SettingsError for what it does not take."""

    def __init__(self, name: str, parse: Callable[[str], str]) -> None:
        self.name = name
        self._parse = parse

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return self._parse(str(value))
        except SettingsError as error:
            self.fail(str(error), param, ctx)


def _given(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...] | None:
    return value or None


def _setting(name: str) -> str:
    return f"  [default: {DEFAULTS[name]}; env: HEADRACE_{name.upper()}]"


ADDRESS: Final = Checked("address", parse_mail_address)
ADDRESS_OR_NONE: Final = Checked("address", lambda text: text if text == NOBODY else parse_mail_address(text))


@click.command("digest", cls=Command)
@click.option("--once", is_flag=True, help="Send now what is in no digest yet, and stop.")
@click.option(
    "--cron",
    "digest_cron",
    help="When, as a cron expression; of six fields the first is seconds." + _setting("digest_cron"),
)
@click.option("--zone", "digest_zone", help="The time zone of --cron, such as Europe/Zurich." + _setting("digest_zone"))
@click.option(
    "--to",
    "digest_to",
    type=ADDRESS_OR_NONE,
    multiple=True,
    callback=_given,
    help="One address; may be repeated; `none`: nobody but who was added by `headrace digest add`."
    + _setting("digest_to"),
)
@click.option("--from", "sender", type=ADDRESS, default="headrace@localhost", show_default=True)
@click.option(
    "--unsubscribe",
    type=Checked("url", parse_unsubscribe),
    help="A mailto: or https: URL; {token} in it names the reader, signed by HEADRACE_DIGEST_KEY, as the console takes "
    "it: https://HOST/unsubscribe/{token}.  [default: a mail to the sender]",
)
@click.option(
    "--link", type=Checked("url", parse_page_link), default="", help="Of a report's page, with {report_id} in it."
)
@click.option("--task", "tasks", multiple=True, help="Only this task's reports; may be repeated.")
@metrics_option
@with_services
def command(
    services: Services,
    *,
    once: bool,
    sender: str,
    unsubscribe: str | None,
    link: str,
    tasks: tuple[str, ...],
    as_json: bool,
) -> None:
    """Mail the reports on schedule; no report is ever mailed twice. One process is enough.

    Who was added by `headrace digest add` gets mails of their own, each by their schedule.
    """
    settings = services.settings
    if unsubscribe and TOKEN in unsubscribe and not settings.digest_key.text:
        raise SettingsError(
            f"--unsubscribe {unsubscribe}: {TOKEN} is signed by HEADRACE_DIGEST_KEY, which is not set: set it to what "
            "`openssl rand -hex 32` prints, here and where `unsubscribe` is answered"
        )
    schedule = Schedule(settings.digest_cron, settings.digest_zone)
    job = compose_digest(
        services,
        Envelope(sender, settings.digest_to, unsubscribe or f"mailto:{parseaddr(sender)[1]}?subject=unsubscribe", link),
        schedule=None if once else schedule,
        tasks=frozenset(tasks) or None,
    )
    with closing(job):
        if not once:
            _run(services, job)
            return
        sent = job.send_now()
    nothing = "nothing was sent: each was refused" if job.refused else "nothing to send: no new report has come"
    told = "\n".join(sent) or nothing
    print_answer({"sent": sent}, told, as_json=as_json)


def _run(services: Services, job: Digest) -> None:
    stop = Stop()
    with as_service(services, "digest", job, METRICS, stop, lambda: job.positions):
        logger.info("digest is ready: log %s, mail %s", services.settings.log, services.settings.mail)
        job.run(stop)
        logger.info("digest has ended: %d digests sent", job.sent)
