"""headrace run digest."""

import logging
import re
from contextlib import closing
from email.utils import formataddr, parseaddr
from typing import Any, Final

import click
from typing_extensions import override

from headrace.pipelines.cli.options import Command, metrics_option, with_services
from headrace.pipelines.cli.output import print_answer
from headrace.pipelines.cli.serving import as_service
from headrace.pipelines.report.compose import Envelope
from headrace.pipelines.report.job import Digest
from headrace.pipelines.report.metrics import METRICS
from headrace.pipelines.report.schedule import Schedule
from headrace.pipelines.runtime.stop import Stop
from headrace.pipelines.wiring import Services, compose_digest

logger = logging.getLogger(__name__)

_ATOM: Final = r"[\w!#$%&'*+/=?^`{|}~-]+"
_ADDRESS: Final = re.compile(rf"{_ATOM}(\.{_ATOM})*@[a-z\d-]+(\.[a-z\d-]+)*", re.ASCII | re.IGNORECASE)
_UNSUBSCRIBE: Final = re.compile(r"(mailto|https):[^\s<>]+", re.ASCII)


class MailAddress(click.ParamType[str]):
    """One e-mail address, with a name before it or without."""

    name = "address"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        name, address = parseaddr(text)
        # What is left over beside them would be dropped, or be a second address.
        whole = text == address or text.endswith(f"<{address}>")
        if not (text.isprintable() and whole and _ADDRESS.fullmatch(address)):
            self.fail(
                f"{text!r} is not an e-mail address such as team@example.org or Team <team@example.org>", param, ctx
            )
        return formataddr((name, address))


def _unsubscribe(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not (value.isprintable() and value.isascii() and _UNSUBSCRIBE.fullmatch(value)):
        raise click.BadParameter(f"{value!r} is not a mailto: or https: URL", ctx, param)
    return value


@click.command("digest", cls=Command)
@click.option("--once", is_flag=True, help="Send now what is in no digest yet, and stop.")
@click.option(
    "--cron",
    default="0 8 * * *",
    show_default=True,
    help="When, as a cron expression; of six fields the first is seconds.",
)
@click.option("--zone", default="UTC", show_default=True, help="The time zone of --cron, such as Europe/Zurich.")
@click.option(
    "--to",
    "recipients",
    type=MailAddress(),
    multiple=True,
    default=["team@localhost"],
    show_default=True,
    help="One address; may be repeated.",
)
@click.option("--from", "sender", type=MailAddress(), default="headrace@localhost", show_default=True)
@click.option("--unsubscribe", callback=_unsubscribe, help="A mailto: or https: URL.  [default: a mail to the sender]")
@click.option("--link", default="", help="Of a report's page, with {report_id} in it.")
@click.option("--task", "tasks", multiple=True, help="Only this task's reports; may be repeated.")
@metrics_option
@with_services
def command(
    services: Services,
    *,
    once: bool,
    cron: str,
    zone: str,
    recipients: tuple[str, ...],
    sender: str,
    unsubscribe: str | None,
    link: str,
    tasks: tuple[str, ...],
    as_json: bool,
) -> None:
    """Mail the reports on schedule; no report is ever mailed twice. One process is enough."""
    job = compose_digest(
        services,
        Envelope(sender, recipients, unsubscribe or f"mailto:{parseaddr(sender)[1]}?subject=unsubscribe", link),
        schedule=None if once else Schedule(cron, zone),
        tasks=frozenset(tasks) or None,
    )
    with closing(job):
        if not once:
            _run(services, job)
            return
        sent = job.send_now()
    told = "\n".join(sent) or "nothing to send: every report is in a digest already"
    print_answer({"sent": sent}, told, as_json=as_json)


def _run(services: Services, job: Digest) -> None:
    stop = Stop()
    with as_service(services, "digest", job, METRICS, stop, lambda: job.positions):
        logger.info("digest is ready: log %s, mail %s", services.settings.log, services.settings.mail)
        job.run(stop)
        logger.info("digest has ended: %d digests sent", job.outbox.sent)
