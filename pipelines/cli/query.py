"""headrace query: windows, agents, chunks and transitions of a task, and the decisions that are similar to one."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

import click
from typing_extensions import override

from headrace.pipelines.cli.options import Command, Timestamp, limit_option, with_services
from headrace.pipelines.cli.output import echo, iso, print_records
from headrace.pipelines.query import scan as query
from headrace.pipelines.query import similar as similarity
from headrace.pipelines.query.agents import agents, why_empty
from headrace.pipelines.query.scan import Selection
from headrace.pipelines.query.similar import StepKey
from headrace.pipelines.query.windows import windows as newest_windows
from headrace.pipelines.wiring import Services
from headrace.schemas.decisions import MOST_SIMILAR
from headrace.schemas.ports import Index
from headrace.schemas.records import Bounds, TaskSpec

Ask = Callable[[Index, Selection], Iterator[dict[str, Any]]]
Row = Callable[[dict[str, Any]], Sequence[object]]


@click.group("query")
def command() -> None:
    """Ask the index. A transition's time is its ts, a window's and a chunk's the window's start."""


def _selecting(of_agent: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options that say which rows are meant."""

    def decorated(function: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--to", "end_ms", type=Timestamp(), help="Only before this time."),
            click.option("--from", "start_ms", type=Timestamp(), help="Only from this time on."),
            click.option("--agent", "agent_id", help=of_agent),
            click.option("--task", required=True, help="The task's name."),
        ):
            function = option(function)
        return function

    return decorated


def _asking(name: str, help_text: str, ask: Ask, columns: Sequence[str], row: Row) -> None:
    """Make the command that asks for one kind of thing."""

    @command.command(name, cls=Command, help=help_text)
    @_selecting("Only this agent's; chunks: those that hold some.")
    @limit_option
    @with_services
    def run(services: Services, *, task: str, limit: int | None, as_json: bool, **only: Any) -> None:  # noqa: ANN401
        selection = _selection(services, task, **only)
        found = _or_why(services, selection, name, ask(services.index, selection))
        print_records(found, columns, row, as_json=as_json, limit=limit)


def _selection(services: Services, task: str, **only: Any) -> Selection:  # noqa: ANN401
    _ = services.layout  # there is one, and it is this log's
    return Selection(query.task_spec(services.log, task), **only)


def _or_why(
    services: Services, selection: Selection, what: str, found: Iterator[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Give what was found; where that is nothing, say why on stderr."""
    first = next(found, None)
    if first is None:
        echo(why_empty(services.log, services.index, selection, what), err=True)
        return iter(())
    return chain([first], found)


def _window_row(window: dict[str, Any]) -> tuple[object, ...]:
    start, agents, totals = iso(window["start_ms"]), len(window["agents"]) or "many", window["totals"]
    where = (window["group"], window["partition"]) if "group" in window else (window["groups"],)
    counts = (window["rows"], window["duplicates"])
    ended, mean = totals["episode_ends"], f"{totals['reward_sum'] / window['rows']:.4g}"
    return start, *where, agents, *counts, mean, ended


def _outcome_cells(spec: TaskSpec, window: dict[str, Any]) -> Iterator[str]:
    found = window.get("outcomes", {})
    yield from (f"{found[one.name]:.4g}" if one.name in found else "" for one in spec.outcomes)


def _transition_row(row: dict[str, Any]) -> tuple[object, ...]:
    end = "terminated" if row["terminated"] else "truncated" if row["truncated"] else ""
    return iso(row["ts"]), *map(row.get, _DECISION), row["action"], f"{row['reward']:.6g}", end


_CHUNK: Final = ("group", "partition", "segment", "part", "rows", "bytes")
_DECISION: Final = ("agent_id", "episode_id", "step")

_COUNTED: Final = ("agents", "rows", "duplicates", "mean reward", "episodes ended")


@command.command("windows", cls=Command)
@_selecting("Only this agent's rows; with --by group, the windows that hold some.")
@click.option("--by", type=click.Choice(["group"]), help="A line for each group and partition.  [default: over all]")
@limit_option
@with_services
def windows(
    services: Services,
    *,
    task: str,
    by: str | None,
    limit: int | None,
    as_json: bool,
    **only: Any,  # noqa: ANN401
) -> None:
    """What happened in each closed window, the newest first."""
    selection = _selection(services, task, **only)
    latest_ms = services.clock() + services.layout.max_clock_skew_ms
    found = newest_windows(services.index, selection, latest_ms, by_group=by is not None)
    spec = selection.spec
    names = (f"{one.name} ({one.unit})" if one.unit else one.name for one in spec.outcomes)
    columns = ("start (UTC)", *(("group", "partition") if by else ("groups",)), *_COUNTED, *names)

    def row(window: dict[str, Any]) -> tuple[object, ...]:
        return *_window_row(window), *_outcome_cells(spec, window)

    print_records(_or_why(services, selection, "windows", found), columns, row, as_json=as_json, limit=limit)


_asking(
    "agents",
    "Who has sent what: rows, mean reward, episodes ended, first and last window, policy versions.",
    agents,
    ("agent", "rows", "mean reward", "episodes ended", "first window (UTC)", "last window (UTC)", "versions"),
    lambda one: (
        *(one["agent_id"], one["rows"], f"{one['mean_reward']:.4g}", one["episode_ends"]),
        *(iso(one["first_ms"]), iso(one["last_ms"]), ", ".join(one["policy_versions"])),
    ),
)
_asking(
    "chunks",
    "The stored rows' containers: key, rows, checksum, size, and the totals of their statistics.",
    query.chunks,
    ("start (UTC)", *_CHUNK, "checksum"),
    lambda chunk: (iso(chunk["start_ms"]), *map(chunk.get, _CHUNK), f"{chunk['checksum']:08x}"),
)
_asking(
    "transitions",
    "The transitions, each as it was sent; repeated ones once.",
    query.transitions,
    ("time (UTC)", "agent", "episode", "step", "action", "reward", "end"),
    _transition_row,
)


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between."""

    name = "x,y,..."

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            return tuple(map(float, str(value).split(",")))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 0.5,-1,2e3", param, ctx)


class StepKeyOption(click.ParamType[StepKey]):
    """A decision's place."""

    name = "agent/episode/step"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> StepKey:
        parts = str(value).split("/")
        if len(parts) != 3 or not parts[2].isdecimal():
            self.fail(f"{value!r} is not AGENT/EPISODE/STEP, such as agent-1/e7/120", param, ctx)
        return StepKey(parts[0], parts[1], int(parts[2]))


@command.command("similar", cls=Command)
@click.argument("task")
@click.option("--obs", type=Numbers(), help="What is looked for: an observation, a number for each of its features.")
@click.option("--like", type=StepKeyOption(), help="What is looked for: what an agent saw at this step.")
@click.option("--limit", type=click.IntRange(1, MOST_SIMILAR), default=10, show_default=True, help="At most so many.")
@click.option("--steps", type=click.IntRange(1, 1_000), default=10, show_default=True, help="How far to look on.")
@with_services
def similar(
    services: Services,
    *,
    task: str,
    obs: tuple[float, ...] | None,
    like: StepKey | None,
    limit: int,
    steps: int,
    as_json: bool,
) -> None:
    """When did we last see this, and what happened?

    The sampled decisions of TASK whose observations are nearest, each with what followed. A distance is the root mean
    square over the features: of bounded ones in parts of their range, of others beyond 1 in doublings.
    """
    if (obs is None) == (like is None):
        raise click.UsageError("what is looked for is given by --obs or by --like, one of them")
    every = services.layout.sample_every
    spec, index = query.task_spec(services.log, task), services.index
    wanted = similarity.observation_at(index, spec, like) if like else similarity.observation(obs or (), spec)
    found = similarity.similar(index, spec, wanted, limit=limit, steps=steps, apart=like)
    first = next(found, None)
    if first is None:
        kept = f"one in {every} is" if every else "none is, by the index's layout"
        echo(f"the index holds no other sampled decision of {task}: {kept}", err=True)
        return
    print_records(chain([first], found), _columns(spec, steps), lambda one: _row(one, spec), as_json=as_json)


def _columns(spec: TaskSpec, steps: int) -> list[str]:
    return [
        *("distance", "time (UTC)", "agent", "episode", "step", "policy", "action", "reward"),
        *spec.reward_terms,
        *(f"of the next {steps}", "mean reward", "end"),
    ]


def _row(one: dict[str, Any], spec: TaskSpec) -> list[object]:
    then, terms = one["followed"], one.get("reward_terms", {})
    action = spec.actions[one["action"]] if not isinstance(spec.actions, Bounds) else one["action"]
    mean = f"{then['reward_sum'] / then['steps']:.4g}" if then["steps"] else None
    return [
        *(f"{one['distance']:.4f}", iso(one["ts"]), *map(one.get, _DECISION), one.get("policy_version")),
        *(action, f"{one['reward']:.6g}"),
        *(f"{terms[name]:.4g}" if name in terms else None for name in spec.reward_terms),
        *(then["steps"], mean, then["end"]),
    ]
