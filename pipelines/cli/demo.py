"""headrace demo."""

import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from headrace.learners.stream.algorithms import ALGORITHMS
from headrace.pipelines.cli.logs import log_to_stderr
from headrace.pipelines.cli.options import INTERRUPTED, json_option, verbose_option
from headrace.pipelines.cli.output import print_json
from headrace.pipelines.settings import DEFAULTS


@click.command("demo")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("demo-out"), show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same hashes.")
@click.option("--windows", type=click.IntRange(min=2), default=60, show_default=True, help="Episodes of each agent.")
@click.option("--agents", type=click.IntRange(1, 9_999), default=64, show_default=True)
@click.option("--algorithm", type=click.Choice(list(ALGORITHMS)), default="dqn", show_default=True)
@verbose_option
@json_option
def command(out: Path, *, verbose: bool, as_json: bool, **much: Any) -> None:  # noqa: ANN401
    """Run the whole stream in one process, with no server.

    Simulated agents autoscale a service; their transitions are validated, windowed and indexed; a DQN or PPO learns
    from them; each version that passes the gate goes back to the agents and is explained in a report. In the end the
    policy stands beside the baselines on held-out traces. Everything is written to the folder that --out names.
    """
    log_to_stderr(verbose=verbose)
    if not verbose:
        logging.getLogger("headrace").setLevel(logging.WARNING)
    try:
        result = _run(out, **much)
    except KeyboardInterrupt:
        above = "\n" if sys.stderr.isatty() else ""  # the line of the last window has no end there
        click.echo(f"{above}headrace: stopped; the next demo begins anew", err=True)
        sys.exit(INTERRUPTED)
    if as_json:
        print_json([result])
    else:
        _print(result)


def _run(out: Path, *, windows: int, **much: Any) -> dict[str, Any]:  # noqa: ANN401
    from headrace.pipelines.demo.demo import alone, run_demo  # noqa: PLC0415 torch takes seconds to load
    from headrace.pipelines.demo.embedded import EmbeddedSettings, WindowProgress  # noqa: PLC0415

    def show(progress: WindowProgress) -> None:
        serving = f"v{progress.serving} serves" if progress.serving else "none serves yet"
        line = (
            f"window {progress.windows:3d} of {windows}  {progress.transitions:9,d} transitions  "
            f"{progress.updates:6,d} updates  {serving:16s}  mean return {progress.fleet_return:6.1f}"
        )
        if sys.stderr.isatty():
            click.echo(f"\r{line}", err=True, nl=progress.windows == windows)
        elif progress.windows % 5 == 0 or progress.windows == windows:
            click.echo(line, err=True)

    with alone(out):
        return run_demo(out, EmbeddedSettings(windows=windows, **much), show)


def _print(result: dict[str, Any]) -> None:
    means, differences, named = result["evaluation"], result["difference"], result["named"]
    click.echo(f"\nMean return on {result['traces']} held-out traces, the same for all:")
    means = {name: mean for name, mean in means.items() if mean is not None}
    for name in sorted(means, key=means.__getitem__, reverse=True):
        note = ""
        if name in differences:
            found = differences[name]
            note = f"   the policy does {found['mean']:+.2f} (95 % {found['low']:+.2f} to {found['high']:+.2f})"
        click.echo(f"  {named[name]:24s}{means[name]:7.2f}{note}")
    promoted = [policy["version"] for policy in result["policies"] if policy["promoted"]]
    served = f"{len(promoted)} of {len(result['policies'])} candidates passed the gate"
    click.echo(
        f"\n{result['transitions']:,d} transitions, {result['rejected']} rejected; {result['chunks']:,d} chunks, "
        f"{result['windows']:,d} windows; {served}; {result['seconds']} s\n"
        f"index hash  {result['index_hash']}"
    )
    if result["refusals"]:
        click.echo(f"in the end  {result['refusals']}")
    if result["reports"]:
        click.echo(f"reports     {Path(result['reports'][-1]).parent}  ({len(result['reports'])}; open the .html)")
    else:
        click.echo("reports     none was written")
    click.echo(f"digest      {result['digest'] or 'none, as there was no report'}")
    named = " ".join(f"HEADRACE_{name.upper()}={url}" for name, url in result["stream"].items())
    click.echo("\nTo look into its stream by `headrace policy list`, `query windows --task cloud` and so on, paste:")
    click.echo(f"export {named}")
    program = "headrace" if shutil.which("headrace") else sys.argv[0]
    click.echo(f"\nand to look at it in a browser: `{program} serve`, then open http://{DEFAULTS['serve']}")
