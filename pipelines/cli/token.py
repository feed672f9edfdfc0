"""headrace token: who may use the API, and for what."""

import click

from headrace.pipelines.cli.options import MILLISECONDS, Command, Quantity, with_services
from headrace.pipelines.cli.output import echo, iso, print_answer, print_records
from headrace.pipelines.wiring import Services
from headrace.schemas.access import SCOPES, Scope, Token
from headrace.schemas.errors import SettingsError


@click.group("token")
def command() -> None:
    """Tokens of the API: make, list, revoke."""


@command.command("create", cls=Command)
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    default=("read",),
    show_default=True,
    help="What it may do; may be repeated. read: see all; produce: send transitions; decide: ask for actions; "
    "operate: read, and decide what serves; admin: all of it.",
)
@click.option("--expires", type=Quantity(MILLISECONDS, "90d"), help="When it ends, such as 36h or 90d.")
@click.option(
    "--per-second",
    type=click.IntRange(1, 1_000_000),
    default=1_000,
    show_default=True,
    help="Requests that it may make a second.",
)
@with_services
def create(
    services: Services, name: str, *, scopes: tuple[Scope, ...], expires: int | None, per_second: int, as_json: bool
) -> None:
    """Make a token for NAME, which stands in the record of what it decides. It is printed once, and stored nowhere."""
    from headrace.pipelines.serve.tokens import create_token  # noqa: PLC0415 other commands need none of it

    until_ms = services.clock() + expires if expires else None
    first = not services.tokens.tokens()
    token, sent = create_token(services.tokens, services.clock, name, scopes, until_ms, per_second)
    if first:
        echo("from now on every request to `headrace serve` needs a token, on this machine too", err=True)
    print_answer({"token": sent, **_shown(token)}, sent, as_json=as_json)


@command.command("list", cls=Command)
@with_services
def list_tokens(services: Services, *, as_json: bool) -> None:
    """List the tokens: whose, for what, and when last used."""
    columns = ("id", "name", "scopes", "created", "expires", "last used", "revoked")
    print_records(map(_shown, services.tokens.tokens()), columns, _row, as_json=as_json)


def _shown(token: Token) -> dict[str, object]:
    return {name: getattr(token, name) for name in token.__struct_fields__}


def _row(shown: dict[str, object]) -> tuple[object, ...]:
    times = (shown[name] for name in ("created_ms", "expires_ms", "last_used_ms", "revoked_ms"))
    told = ["" if ms is None else iso(ms) for ms in times if ms is None or isinstance(ms, int)]
    scopes = shown["scopes"]
    assert isinstance(scopes, tuple)
    return (shown["token_id"], shown["name"], ", ".join(scopes), *told)


@command.command("revoke", cls=Command)
@click.argument("name", metavar="ID|NAME")
@with_services
def revoke(services: Services, name: str, *, as_json: bool) -> None:
    """Let a token be of use no more; a server refuses it within a second."""
    found = [one for one in services.tokens.tokens() if name in {one.token_id, one.name} and one.revoked_ms is None]
    if not found:
        raise SettingsError(f"there is no token {name!r} in use: `headrace token list` shows those that there are")
    for one in found:
        services.tokens.revoke(one.token_id, services.clock())
    print_answer({"revoked": [one.token_id for one in found]}, f"{name} is revoked", as_json=as_json)
