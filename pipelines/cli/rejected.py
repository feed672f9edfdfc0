"""headrace rejected: what was refused, and sending it again."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import click
import msgspec
from typing_extensions import override

from headrace.pipelines.cli.options import Command, Timestamp, limit_option, with_services
from headrace.pipelines.cli.output import counted, echo, iso, print_answer, print_json, print_records, print_table
from headrace.pipelines.query.quarantine import (
    RejectedMessage,
    Rejections,
    find,
    original,
    rejected,
    safe_text,
    summary,
    whole,
)
from headrace.pipelines.query.rejected import LATER_RULES, replay
from headrace.pipelines.wiring import Services
from headrace.schemas.ports import Log
from headrace.schemas.rules import RULE_NAMES

rule_option = click.option(
    "--rule", "rules", multiple=True, type=click.Choice(sorted(RULE_NAMES)), help="Only this rule's; may be repeated."
)


@click.group("rejected")
def command() -> None:
    """What was refused, and why; sending it again."""


def _chosen(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which rejections are meant, named as `quarantine.rejected` names them."""
    for option in (
        click.option("--to", "end_ms", type=Timestamp(), help="Only what was refused before this time."),
        click.option("--from", "start_ms", type=Timestamp(), help="Only what was refused from this time on."),
        rule_option,
    ):
        function = option(function)
    return function


@command.command("summary", cls=Command)
@_chosen
@limit_option
@with_services
def summary_of_rejected(services: Services, *, limit: int | None, as_json: bool, **chosen: Any) -> None:  # noqa: ANN401
    """Count what was refused by rule, task and producer (the agent, else the key), each with its newest example."""
    found = summary(rejected(services.log, **chosen))
    columns = ("messages", "rule", "task", "producer", "first (UTC)", "last (UTC)", "example", "reason")
    print_records(found, columns, _summary_row, as_json=as_json, limit=limit)
    if not found:
        echo("nothing was refused", err=True)


def _summary_row(one: Rejections) -> tuple[object, ...]:
    times = (iso(one.first_ts), iso(one.last_ts))
    return one.messages, one.rule, one.task, one.producer, *times, one.example, safe_text(one.reason.encode(), 300)


@command.command("list", cls=Command)
@_chosen
@limit_option
@with_services
def list_rejected(services: Services, *, limit: int | None, as_json: bool, **chosen: Any) -> None:  # noqa: ANN401
    """List what was refused, the newest first: where it lies on the log, by which rule, and why."""
    found = rejected(services.log, **chosen)
    if as_json:
        print_json(_shown(services.log, message) for message in islice(found, limit))
    else:
        columns = ("place", "refused (UTC)", "key", "rule", "replay of", "reason", "begins with")
        print_table(columns, map(_row, found), limit)


def _row(message: RejectedMessage) -> tuple[object, ...]:
    where, reason = (message.place, iso(message.ts)), safe_text(message.reason.encode(), 300)
    return *where, safe_text(message.key), message.rule, message.replayed, reason, safe_text(message.kept, 60)


def _shown(log: Log, message: RejectedMessage) -> dict[str, Any]:
    value, _ = original(log, message)
    shown: dict[str, Any] = {
        "topic": message.topic,
        "partition": message.partition,
        "offset": message.offset,
        "rejected_ms": message.ts,
        "key": safe_text(message.key, 200),
        "rule": message.rule,
        "reason": message.reason,
        "bytes": len(value or b""),
        "preview": safe_text(message.kept),
    }
    return shown | {"replayed": message.replayed} if message.replayed else shown


class Place(click.ParamType[tuple[int, int]]):
    """A message's place on the log."""

    name = "partition:offset"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        parts = str(value).replace("/", ":").removeprefix("transitions:").split(":")
        if len(parts) != 2 or not all(part.isdecimal() and len(part) < 20 for part in parts):
            self.fail(f"{value!r} is no PARTITION:OFFSET, such as 0:17", param, ctx)
        return int(parts[0]), int(parts[1])


@command.command("show", cls=Command)
@click.argument("place", type=Place())
@with_services
def show_rejected(services: Services, *, place: tuple[int, int], as_json: bool) -> None:
    """Show the whole of a message that was refused. PLACE: as `list` and `summary` have it, such as 0:17."""
    shown = whole(services.log, find(rejected(services.log), *place))
    if as_json:
        print_json([shown])
        return
    shown["rejected"] = f"{iso(shown.pop('rejected_ms'))} UTC"
    value = shown.pop("value")
    for name, told in shown.items():
        if told not in {None, ""}:
            echo(f"{name.replace('_', ' '):>12}  {told}")
    text = value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(value)).decode()
    echo(f"\n{text}")
    if not shown["complete"]:
        echo("the log no longer holds the whole of it: this is its beginning", err=True)


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
        echo(f"{done.gone} could not be sent: the log holds the whole of them no longer", err=True)
    told = f"{counted(done.sent, 'message')} sent again" + ("; now `headrace run ingest`" if done.sent else "")
    print_answer({"replayed": done.sent, "gone": done.gone, "rules": list(wanted)}, told, as_json=as_json)
