"""headrace policy: the versions of a task's policy, and what people decide about them."""

import dataclasses
import functools
import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from headrace.pipelines.cli.options import (
    Command,
    PolicyName,
    PolicyOrTask,
    Timestamp,
    Within,
    task_option,
    with_services,
)
from headrace.pipelines.cli.output import bar, echo, iso, print_answer, print_json, print_records, print_table
from headrace.pipelines.policies.card import outcomes_told
from headrace.pipelines.policies.learning import refusals_told
from headrace.pipelines.published import published, serving
from headrace.pipelines.query.scan import task_spec
from headrace.pipelines.tasks import task_specs
from headrace.pipelines.wiring import Services
from headrace.schemas.canary import Canary
from headrace.schemas.errors import HeadraceError
from headrace.schemas.policy_versions import opponent_of
from headrace.schemas.records import Judgement, PolicyVersion, ServingPolicy

if TYPE_CHECKING:
    from headrace.learners.judge.observed import ObservedReturn
    from headrace.pipelines.policies.control import Control

_HASH: Final = 8
"""How much of a hash the list shows."""

policy_argument = click.argument("policy", type=PolicyName(), metavar="TASK@VERSION")


def _told_to_readers(_context: click.Context, option: click.Parameter, value: str) -> str:
    """Refuse what says nothing: a record of a decision is for who asks later."""
    if not any(one.isprintable() and not one.isspace() for one in value):
        raise click.UsageError(f"--{option.name} {value!r} says nothing: write {option.metavar} for who reads it later")
    return value


reason_option = click.option(
    "--reason",
    required=True,
    metavar="WHY",
    callback=_told_to_readers,
    help="Why; it stands in the record for everyone to read.",
)
who_option = click.option(
    "--who",
    default=getpass.getuser,
    show_default="this user",
    metavar="WHO",
    callback=_told_to_readers,
    help="Who decides.",
)


@click.group("policy")
def command() -> None:
    """Policies, named TASK@VERSION: list, compare, retrain; decide what serves."""


@command.command("list", cls=Command)
@task_option
@with_services
def list_policies(services: Services, *, task: str | None, as_json: bool) -> None:
    """List the versions: where each came from, how it did at the gate, and which one serves."""
    now = serving(services.log)
    found = {name: services.policies.versions(name) for name in ([task] if task else sorted(task_specs(services.log)))}
    rows = [
        _shown(version, serves=name in now and now[name].version == version.version)
        for name, versions in found.items()
        for version in versions
    ]
    if as_json:
        print_json(rows)
        return
    # No wider than a terminal; why, and the rest, `policy show` tells.
    columns = ("policy", "serves", "promoted", "difference", "updates", "hash")
    names = [{"promoted": "promoted by learn", "difference": "at the gate"}.get(name, name) for name in columns]
    short = ({**_told_difference(row), "hash": row["hash"][:_HASH]} for row in rows)
    print_table(names, ([_cell(row[column]) for column in columns] for row in short))
    for record in (now[name] for name in sorted(found.keys() & now.keys())):
        echo(f"{_serves(record)}: decided {_told(record)}", err=True)
    for name, versions in found.items():
        if refusals := refusals_told(versions):
            echo(f"{name}: {refusals}", err=True)


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else value


def _shown(version: PolicyVersion, *, serves: bool) -> dict[str, Any]:
    verdict = ("promoted", "evaluation", "difference", "refusals", "went_back_to")
    names = (*verdict, "environment_steps", "updates", "seed", "reason")
    return {
        "policy": f"{version.task}@{version.version}",
        **{name: getattr(version, name) for name in ("task", "version", "parent", "algorithm")},
        "hash": version.weights_hash,
        "serves": serves,
        "mean_return": version.evaluation.get("policy"),
        **{name: getattr(version, name) for name in names},
        "chunks": len(version.lineage),
    }


@command.command("show", cls=Command)
@policy_argument
@with_services
def show(services: Services, policy: tuple[str, int], *, as_json: bool) -> None:
    """Show one version: its training, its lineage, the gate's verdict, and what was decided about it."""
    from headrace.pipelines.policies.control import find  # noqa: PLC0415 it loads the learners

    task, number = policy
    version = find(services.policies, task, number)
    records = published(services.log, task)
    row = _shown(version, serves=bool(records) and records[-1].version == number) | {
        "config": version.config,
        "code_version": version.code_version,
        "complete": version.complete,
        "lineage": version.references,
        "decisions": [one for one in records if number in {one.version, one.canary and one.canary.version}],
        "judged": version.judged,
        **({"outcomes": version.outcomes} if version.outcomes else {}),
    }
    if as_json:
        print_json([row])
        return
    starts = [reference.start_ms for reference in version.references]
    del row["mean_return"]  # `evaluation` says on which traces it is
    row.pop("outcomes", None)
    shown = _told_difference(row) | {
        "lineage": f"windows from {iso(min(starts))} to {iso(max(starts))}" if starts else "none",
        "decisions": "; ".join(
            f"{_tried(one.canary)}, {_told(one)}" if one.canary else _told(one) for one in row["decisions"]
        ),
        "evaluation": _told_evaluation(version),
        "judged": _told_judged(version.judged),
        **{f"outcomes of {name}": told for name, told in outcomes_told(version)},
        "config": ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in version.config.items()),
    }
    print_table(("field", "value"), ((name, _cell(value)) for name, value in shown.items()))


def _told_difference(row: dict[str, Any]) -> dict[str, Any]:
    """Tell what the gate decided by. Mean returns differ between versions by the traces that each was judged on."""
    difference = row["difference"]
    return row | {"difference": difference and f"{difference.mean:+.3f} to {opponent_of(row['evaluation'])}"}


def _told_evaluation(version: PolicyVersion) -> str:
    if not version.evaluation:
        return "none: nothing simulated it"
    if version.config.get("source") == "simulation":
        where = "mean return in simulation, on traces of its own"
    elif version.by_data:
        found = version.by_data
        where = f"discounted returns by {found.estimator} on {found.rows} rows (effective {found.effective_rows:.0f})"
    else:
        where = "mean returns as of the gate's fixed traces (policy, serving: by their difference to the floor)"
    return f"{where}: " + ", ".join(f"{name} {_cell(value)}" for name, value in version.evaluation.items())


def _told_judged(judged: Judgement | None) -> str:
    if judged is None:
        return "no"
    opponent = f"version {judged.opponent}" if judged.opponent else "the floor"
    told = f"candidate {judged.number} against {opponent}, on {judged.taken} of {judged.traces} traces of seed "
    return f"{told}{judged.seed}; it might err with probability {judged.alpha:.2g}"


def _serves(record: ServingPolicy) -> str:
    if record.canary:
        return f"{record.task}@{record.version} serves, and {_tried(record.canary)}"
    return f"{record.task}@{record.version} serves" if record.version else f"no version of {record.task} serves"


def _tried(canary: Canary) -> str:
    until = f" for {canary.windows} windows at most" if canary.windows else ""
    then = "; if it is better it serves all" if canary.promote else ""
    return f"{100 * canary.share:g} % of the agents try @{canary.version}{until}{then}"


def _told(record: ServingPolicy) -> str:
    held = ", on hold" if record.held else ""
    return f"{iso(record.ts)} by {record.decided_by}{held}: {record.reason}"


@command.command("observed", cls=Command)
@click.argument("task")
@click.option("--from", "start_ms", type=Timestamp(), help="Only rows from this time on.")
@click.option("--to", "end_ms", type=Timestamp(), help="Only rows before this time.")
@with_services
def observed_by_version(
    services: Services, task: str, *, start_ms: int | None, end_ms: int | None, as_json: bool
) -> None:
    """What agents earned by each version, as the rows tell: no simulator is needed, and none asked.

    Versions acted at different times: what changed with the time is in it too. A canary compares at the same time.
    """
    from headrace.pipelines.policies.observed import observed  # noqa: PLC0415 it loads the learners

    found = observed(services.index, task_spec(services.log, task), start_ms, end_ms)
    columns = ("version", "measure", "mean", "95 % interval", "episodes", "agents", "rows")
    print_records(found, columns, _observed_row, as_json=as_json)


def _observed_row(one: "ObservedReturn") -> tuple[object, ...]:
    interval = "" if one.low is None else f"{one.low:.4g} to {one.high:.4g}"
    version = one.version if one.version >= 0 else "none named"
    return version, one.measure, f"{one.mean:.4g}", interval, one.episodes, one.agents, one.rows


@command.command("diff", cls=Command)
@click.argument("one", type=PolicyName(), metavar="TASK@ONE")
@click.argument("other", type=PolicyName(), metavar="TASK@OTHER")
@with_services
def diff(services: Services, one: tuple[str, int], other: tuple[str, int], *, as_json: bool) -> None:
    """Compare two versions of a task: configuration, and returns and decisions on the same traces."""
    from headrace.pipelines.policies.control import compare, find  # noqa: PLC0415 it loads the learners

    if one[0] != other[0]:
        raise click.UsageError(f"{one[0]} and {other[0]} are different tasks: their policies can't be compared")
    first, second = find(services.policies, *one), find(services.policies, *other)
    found = compare(services.policies, task_specs(services.log).get(one[0]), first, second)
    interval = found.difference
    if as_json:
        print_json(
            [{"config": found.config, "difference": interval and interval._asdict(), "agreement": found.agreement}]
        )
        return
    rows: list[tuple[object, ...]] = [*found.config]
    rows += [(name, *(getattr(v, name) for v in (first, second))) for name in ("environment_steps", "updates", "seed")]
    print_table(("field", f"{one[0]}@{one[1]}", f"{other[0]}@{other[1]}"), rows)
    if interval and found.agreement is not None:
        text = f"{interval.mean:+.3f} (95 % {interval.low:+.3f} to {interval.high:+.3f})"
        echo(
            f"return of @{other[1]} less that of @{one[1]}, paired on {interval.n} traces: {text}; "
            f"{100 * found.agreement:.1f} % of the decisions are the same"
        )


def deciding(function: Callable[..., ServingPolicy]) -> Callable[..., None]:
    """Give the function a Control, and print the record that it returns; add --reason, --who and what all have."""

    @reason_option
    @who_option
    @with_services
    @functools.wraps(function)
    def call(services: Services, *args: Any, who: str, as_json: bool, **options: Any) -> None:  # noqa: ANN401
        from headrace.pipelines.policies.control import Control  # noqa: PLC0415 it loads the learners

        control = Control(services.log, services.policies, task_specs(services.log), services.clock, who)
        record = function(control, *args, **options)
        promotion = f"promotion by `learn` is {'on hold' if record.held or record.canary else 'free'}"
        print_answer(record, f"{_serves(record)}; {promotion}", as_json=as_json)

    return call


@command.command("promote", cls=Command)
@policy_argument
@deciding
def promote(control: "Control", policy: tuple[str, int], *, reason: str) -> ServingPolicy:
    """Let a version serve, whatever the gate said of it. The agents follow with their next window."""
    return control.promote(*policy, reason)


@command.command("canary", cls=Command)
@policy_argument
@click.option("--share", type=Within(0.001, 0.5), default=0.1, show_default=True, help="Of the agents.")
@click.option("--windows", type=click.IntRange(0), default=0, help="End it after so many.  [default: no end]")
@click.option("--promote", is_flag=True, help="Let it serve all agents once its returns are shown to be better.")
@deciding
def canary(
    control: "Control", policy: tuple[str, int], *, share: float, windows: int, promote: bool, reason: str
) -> ServingPolicy:
    """Let a share of the agents try a version; `learn` promotes nothing meanwhile.

    `run learn` compares what the agents earn after each window, and ends it where it is shown to be worse or better.
    `headrace policy observed TASK --from` its time tells the returns. `promote` lets it serve all agents at once,
    `release` ends it.
    """
    return control.canary(*policy, share, reason, windows, promote=promote)


@command.command("rollback", cls=Command)
@click.argument("task")
@click.option("--to", "version", type=click.IntRange(1), help="A version.  [default: what served before]")
@click.option("--hold", is_flag=True, help="Freeze promotion too, so that `learn` does not promote the next at once.")
@deciding
def rollback(control: "Control", task: str, *, version: int | None, hold: bool, reason: str) -> ServingPolicy:
    """Let what served before serve again; done twice, it returns."""
    return control.rollback(task, reason, version, hold=hold)


@command.command("hold", cls=Command)
@click.argument("task")
@deciding
def hold_task(control: "Control", task: str, *, reason: str) -> ServingPolicy:
    """Freeze promotion: `learn` goes on learning and judging, but what serves stays."""
    return _hold(control, task, reason, held=True)


@command.command("release", cls=Command)
@click.argument("task")
@deciding
def release(control: "Control", task: str, *, reason: str) -> ServingPolicy:
    """Let `learn` promote again."""
    return _hold(control, task, reason, held=False)


def _hold(control: "Control", task: str, reason: str, *, held: bool) -> ServingPolicy:
    if task not in control.specs:
        raise click.UsageError(f"there is no task {task!r}: `headrace task list` shows those that there are")
    return control.hold(task, reason, held=held)


@command.command("replay", cls=Command)
@policy_argument
@with_services
def replay(services: Services, policy: tuple[str, int], *, as_json: bool) -> None:
    """Retrain a version from the chunks that its lineage names; exit 1 unless the weights are the same to the bit."""
    import torch  # noqa: PLC0415 it takes a second to load

    from headrace.pipelines.policies.retrain import retrain  # noqa: PLC0415 it loads torch

    task, number = policy
    torch.set_num_threads(1)  # as those that trained it: bits depend on it
    with bar("retraining") as progress:
        spec = task_specs(services.log).get(task)
        found = retrain(services.policies, services.chunks, task, spec, number, progress=progress)
    row = {"policy": f"{task}@{number}", "equal": found.equal, **dataclasses.asdict(found)}
    if as_json:
        print_json([row])
    elif found.equal:
        source = f"{found.rows} rows of {found.chunks} chunks" if found.chunks else f"{found.rows} simulated steps"
        echo(f"{task}@{number}: {source} give the same weights {found.hash}")
    if not found.equal:
        raise HeadraceError(
            f"{task}@{number}: retraining gave the weights {found.hash}, not {found.expected}; it was trained by "
            f"headrace {found.code_version}, perhaps on another machine or with other versions of torch or NumPy"
        )


@command.command("export", cls=Command)
@click.argument("policy", type=PolicyOrTask(), metavar="TASK[@VERSION]")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@with_services
def export_policy(services: Services, policy: tuple[str, int | None], file: Path, *, as_json: bool) -> None:
    """Write a version, or the one that serves, to a file of another runtime, and a model card beside it.

    FILE's suffix says the format: .safetensors (with a .json that describes it), .onnx, or .pt for TorchScript.
    """
    from headrace.pipelines.policies.export import export  # noqa: PLC0415 it loads the learners

    task, number = policy
    spec = task_specs(services.log).get(task)
    number, files = export(services.log, services.policies, spec, task, number, file)
    shown = {"policy": f"{task}@{number}", "files": [str(path) for path in files]}
    print_answer(shown, f"{task}@{number}: {', '.join(shown['files'])}", as_json=as_json)
