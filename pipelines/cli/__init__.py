"""The command line. Errors become exit codes here and nowhere else: 1 failure, 2 usage."""

import sys

import click

from headrace.pipelines.cli.lazy import Lazy, LazyGroup
from headrace.schemas.errors import HeadraceError

COMMANDS = {
    "demo": Lazy("demo", "The whole stream in one process: learn, report, mail."),
    "init": Lazy("init", "Make the log's topics and the index's layout."),
    "doctor": Lazy("doctor", "What is reachable, which version, what to do."),
    "task": Lazy("task", "Add and list tasks."),
    "produce": Lazy("produce", "Send a file of transitions."),
    "run": Lazy("run", "Run a streaming job: ingest, learn, explain, fleet, digest."),
    "query": Lazy("query", "Ask the index for windows, chunks, transitions."),
    "index": Lazy("index", "The index as a whole: its hash."),
    "rejected": Lazy("rejected", "List what was rejected and why; send it again."),
    "policy": Lazy("policy", "List policies: TASK@VERSION."),
    "report": Lazy("report", "List and show reports."),
}


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="headrace")
def cli() -> None:
    """Streams of agent experience in; better policies and verified explanations out.

    \b
    See all of it work, with no server (about a minute):
      headrace demo

    \b
    Your own data, a JSON object a line:
      headrace init                               once: topics and layout
      headrace task add valve.json                names, bounds, window length
      headrace produce valve.jsonl --close        send it, close its windows
      headrace run ingest --until-caught-up       check, window and index it
      headrace query windows --task valve         what happened, window by window
      headrace rejected list                      what was refused, and why

    \b
    Then keep it running, each a process of its own:
      headrace run ingest | learn | explain | digest

    Everything lies under ./.headrace/ unless --log, --index, --cache, --policies, --mail and --narrator
    (or HEADRACE_LOG and so on, or files that HEADRACE_LOG_FILE and so on name) give other URLs. Data goes to
    stdout, what is happening to stderr; --json gives data to programs. If something is wrong: headrace doctor.
    """  # noqa: D301 \b is click's


def main() -> None:
    """Run the command line."""
    try:
        cli.main(prog_name="headrace")
    except HeadraceError as error:
        _fail(str(error))
    except Exception as error:
        if {"-v", "--verbose"} & set(sys.argv):
            raise
        _fail(f"unexpected {type(error).__name__}: {error} (a fault of headrace's own: -v shows where)")


def _fail(message: str) -> None:
    click.echo(f"headrace: {message}", err=True)
    sys.exit(1)
