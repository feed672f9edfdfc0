"""A group of commands whose modules are imported when they are called: `headrace --help` imports none."""

import gc
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NamedTuple

import click
from typing_extensions import override


class Lazy(NamedTuple):
    """Where a command is, and its line in the group's help."""

    module: str
    summary: str


class LazyGroup(click.Group):
    """Commands by name, in the order given. A module holds its command under the name `command`."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy] | None = None, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self.lazy = lazy or {}

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        gc.disable()  # nothing of an import is garbage, and looking for it takes a tenth of the time
        try:
            command: click.Command = import_module(f"headrace.pipelines.cli.{self.lazy[cmd_name].module}").command
        finally:
            gc.enable()
        return command

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.lazy and not args[0].startswith("-"):
            close = get_close_matches(args[0], self.lazy, n=1)
            meant = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{meant} There are: {', '.join(self.lazy)}.")
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.lazy.items()])
