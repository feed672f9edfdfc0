"""headrace rejected: what was refused, and sending it again."""

from itertools import islice
from typing import Any

import click

from headrace.pipelines.cli.options import Command, limit_option, with_services
from headrace.pipelines.cli.output import print_answer, print_json, print_table
from headrace.pipelines.query.rejected import LATER_RULES, RejectedMessage, original, rejected, replay, safe_text
from headrace.pipelines.wiring import Services
from headrace.schemas.ports import Log
from headrace.schemas.rules import RULE_NAMES

rule_option = click.option(
    "--rule", "rules", multiple=True, type=click.Choice(sorted(RULE_NAMES)), help="Only this rule's; may be repeated."
)


@click.group("rejected")
def command() -> None:
    """What was refused, and why; sending it again."""


@command.command("list", cls=Command)
@rule_option
@limit_option
@with_services
def list_rejected(services: Services, *, rules: tuple[str, ...], limit: int | None, as_json: bool) -> None:
    """List what was refused: where it lies on the log, by which rule, and why."""
    found = rejected(services.log, rules)
    if as_json:
        print_json(_shown(services.log, message) for message in islice(found, limit))
    else:
        columns = ("partition/offset", "key", "rule", "replay of", "reason", "begins with")
        print_table(columns, map(_row, found), limit)


def _row(message: RejectedMessage) -> tuple[object, ...]:
    where, reason = f"{message.partition}/{message.offset}", safe_text(message.reason.encode(), 300)
    return where, safe_text(message.key), message.rule, message.replayed, reason, safe_text(message.kept, 60)


def _shown(log: Log, message: RejectedMessage) -> dict[str, Any]:
    value, _ = original(log, message)
    shown: dict[str, Any] = {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "key": safe_text(message.key, 200),
        "rule": message.rule,
        "reason": message.reason,
        "bytes": len(value or b""),
        "preview": safe_text(message.kept),
    }
    return shown | {"replayed": message.replayed} if message.replayed else shown


@command.command("replay", cls=Command)
@rule_option
@click.option("--all", "everything", is_flag=True, help="Whatever the rule.")
@with_services
def replay_rejected(services: Services, *, rules: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Send again what may pass now, each message once.

    Without options that is what came before its task was added, or ahead of the clock, and was not itself a
    replay. Ingest judges each anew; what it refuses again is listed again, with where it came from.
    """
    if rules and everything:
        raise click.UsageError("--rule and --all exclude each other")
    wanted = sorted({m.rule for m in rejected(services.log)}) if everything else rules or LATER_RULES
    done = replay(services.log, wanted, again=bool(rules) or everything)
    if done.gone:
        click.echo(f"{done.gone} could not be sent: the log holds the whole of them no longer", err=True)
    told = f"{done.sent} messages sent again" + ("; now `headrace run ingest`" if done.sent else "")
    print_answer({"replayed": done.sent, "gone": done.gone, "rules": list(wanted)}, told, as_json=as_json)
