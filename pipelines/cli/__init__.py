"""The command line. Errors become exit codes here and nowhere else: 1 failure, 2 usage."""

import logging
import os
import sys
from typing import NoReturn

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
    "serve": Lazy("serve", "The REST API and the console."),
    "token": Lazy("token", "Who may use the API, and for what."),
    "query": Lazy("query", "Ask the index for windows, chunks, transitions."),
    "ask": Lazy("ask", "Ask in plain English what was decided, and why."),
    "index": Lazy("index", "The index as a whole: its hash."),
    "rejected": Lazy("rejected", "What was rejected and why; sending it again."),
    "forget": Lazy("forget", "Remove a task's rows before a time."),
    "train": Lazy("train", "Train a policy in a simulated environment."),
    "scenarios": Lazy("scenarios", "Propose variations of an environment to train on."),
    "evaluate": Lazy("evaluate", "Run a policy or a baseline on fixed traces."),
    "policy": Lazy("policy", "List, compare, retrain policies; decide what serves."),
    "rules": Lazy("rules", "Short rule lists in place of a policy: find, judge, deploy."),
    "learner": Lazy("learner", "By which settings a task is learned; set them."),
    "directive": Lazy("directive", "What the advisor proposed; taking it back."),
    "report": Lazy("report", "List and show reports."),
    "digest": Lazy("digest", "Who gets which digests, and when."),
    "narrator": Lazy("narrator", "The language model that narrates: serve or tune a small one."),
    "study": Lazy("study", "The paper's evaluation: run it, report it."),
    "bench": Lazy("bench", "How fast the configured backends are."),
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

    Everything lies under ./.headrace/ unless --log, --index, --cache, --policies, --mail, --narrator and --advisor
    (or HEADRACE_LOG and so on, or files that HEADRACE_LOG_FILE and so on name) give other URLs. Data goes to
    stdout, what is happening to stderr; --json gives data to programs. If something is wrong: headrace doctor.
    """  # noqa: D301 \b is click's


def main() -> None:
    """Run the command line."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy is not loaded yet; more threads halve its speed here
    try:
        cli.main(prog_name="headrace")
    except HeadraceError as error:
        _fail(str(error))
    except Exception as error:
        verbose = bool({"-v", "--verbose"} & set(sys.argv))
        if verbose and not _logs_json():
            raise
        message = f"unexpected {type(error).__name__}: {error} (a fault of headrace's own: -v shows where)"
        _fail(message, error if verbose else None)


def _fail(message: str, error: Exception | None = None) -> NoReturn:
    from headrace.pipelines.cli.output import echo  # noqa: PLC0415 --help needs none of it
    from headrace.pipelines.service.deadline import end  # noqa: PLC0415

    if _logs_json():
        logging.getLogger(__name__).error(message, exc_info=error)
    else:
        echo(f"headrace: {message}", err=True)
    end(1)


def _logs_json() -> bool:
    """Whether the log is JSON. Where its module was never imported, it is not: --help imports little."""
    logs = sys.modules.get("headrace.pipelines.cli.logs")
    return logs is not None and bool(logs.is_json())
