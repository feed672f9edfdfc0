"""The demo: the whole stream in one folder, then the learned policy beside the baselines on held-out traces."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headrace.learners.acting import Policy
from headrace.learners.explain.evidence import controller_name
from headrace.learners.explain.simulation import task_simulator
from headrace.learners.judge.statistics import paired_difference
from headrace.pipelines.demo.embedded import Embedded, EmbeddedSettings, WindowProgress
from headrace.pipelines.fleet.job import VirtualClock
from headrace.pipelines.policies.learning import refusals_told
from headrace.pipelines.published import reports
from headrace.pipelines.query.index_hash import index_hash
from headrace.pipelines.report.compose import Envelope
from headrace.pipelines.report.files import write_report
from headrace.pipelines.runtime.stop import stopped_by_signals
from headrace.pipelines.settings import read_settings
from headrace.pipelines.wiring import Services, compose_digest, open_services
from headrace.schemas.errors import SettingsError
from headrace.schemas.records import PolicyVersion, TaskSpec
from headrace.sinks.files.lock import held
from headrace.sinks.files.mail import FileMailer

SEGMENT = 64
"""Offsets in a segment; the fleet's messages hold 100 rows each."""
_MARKER = "headrace-demo.json"
_LOCK = ".headrace-demo.lock"
_STREAM = ("stream/log.db*", "stream/index.db*", "stream/policies")
_MADE = (*_STREAM, "reports/cloud.version.*", "reports/cloud.interval.*", "digest-now-*.eml")
"""What a demo leaves in its folder beside the marker: all that the next one there removes."""


def prepare(out: Path) -> None:
    """Make the folder, or remove from it what an earlier demo made, and nothing else.

    Raises SettingsError for a folder of somebody else's.
    """
    _require_ours(out)
    try:
        for path in [found for pattern in _MADE for found in out.glob(pattern)]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        out.mkdir(parents=True, exist_ok=True)
        (out / _MARKER).write_text("{}")
    except OSError as error:
        raise SettingsError(f"{out} can't be made ({error}): name another folder by --out") from error


def _require_ours(out: Path) -> None:
    if out.exists() and {path.name for path in out.iterdir()} - {_LOCK} and not (out / _MARKER).exists():
        raise SettingsError(f"{out} holds files that no demo made: name an empty or new folder by --out")


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep a second demo, which would remove what this one makes, away from the folder."""
    _require_ours(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"{out} can't be made ({error}): name another folder by --out") from error
    with held(out / _LOCK, f"a demo runs in {out} already", "wait for it, or name another folder by --out"):
        yield


def run_demo(out: Path, settings: EmbeddedSettings, on_window: Callable[[WindowProgress], None]) -> dict[str, Any]:
    """Run everything; returns the result as one JSON object.

    Raises SettingsError for a folder that can't be had, and KeyboardInterrupt where SIGTERM or SIGINT stopped it.
    """
    started_s = time.monotonic()
    prepare(out)
    stream = quote(str((out / "stream").resolve()))
    urls = {
        "log": f"sqlite://{stream}/log.db",
        "index": f"sqlite://{stream}/index.db",
        "cache": "memory:",
        "policies": f"file://{stream}/policies",
        "tokens": f"sqlite://{stream}/tokens.db",
        "mail": f"file://{quote(str(out.resolve()))}",
        "narrator": "template:",
    }
    clock = VirtualClock()
    with open_services(read_settings(urls), clock, create=True) as services:
        services.initialise(segment=SEGMENT)
        embedded = Embedded(services, clock, settings)
        with closing(embedded), stopped_by_signals(embedded.stop):
            for progress in embedded.run():
                on_window(progress)
        if embedded.stopping:
            raise KeyboardInterrupt
        versions = services.policies.versions(embedded.spec.task)
        counts = embedded.ingest.counts
        result = {
            "transitions": counts.transitions,
            "rejected": sum(counts.rejected.values()),
            "chunks": sum(1 for _ in services.index.scan(payload=False)),
            "windows": sum(1 for _ in services.index.windows()),
            "index_hash": index_hash(services.index),
            "policies": [_policy(version) for version in versions],
            "refusals": refusals_told(versions),
            **_compared(services, embedded.spec, versions),
            "reports": [str(path) for path in _write_reports(services, out / "reports")],
            "digest": _send_digest(services, out),
            "stream": {name: urls[name] for name in ("log", "index", "policies", "tokens")},
        }
    result = {"seconds": round(time.monotonic() - started_s, 1), **result}
    (out / _MARKER).write_text(json.dumps(result, indent=1))
    return result


def _policy(version: PolicyVersion) -> dict[str, Any]:
    return {
        "version": version.version,
        "hash": version.weights_hash,
        "promoted": version.promoted,
        "mean_return": version.evaluation["policy"],
    }


def _compared(services: Services, spec: TaskSpec, versions: list[PolicyVersion]) -> dict[str, Any]:
    """Evaluate what serves in the end on held-out traces; the newest candidate where none passed the gate."""
    # The traces of the reports, so that table and reports agree: held out of training and of the gate.
    found = task_simulator(spec)
    assert found is not None
    returns = {name: done.returns for name, done in found.baselines().items()}
    evaluation: dict[str, float | None] = {"policy": None}
    difference = {}
    judged = [one for one in versions if one.promoted] or versions
    if judged:
        policy = Policy.from_bytes(services.policies.weights(spec.task, judged[-1].version))
        returns["policy"] = found.outcomes(policy).returns
        for name in found.baselines():
            mean, low, high, _ = paired_difference(returns["policy"], returns[name])
            difference[name] = {"mean": mean, "low": low, "high": high}
    evaluation.update((name, float(values.mean())) for name, values in returns.items())
    named = {"policy": "the learned policy"} | {name: controller_name(spec, name) for name in found.baselines()}
    return {"evaluation": evaluation, "difference": difference, "named": named, "traces": len(returns[found.floor])}


def _write_reports(services: Services, folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    return [write_report(report, folder) for report in reports(services.log)]


def _send_digest(services: Services, out: Path) -> str | None:
    envelope = Envelope("headrace@localhost", ("team@localhost",), "mailto:headrace@localhost?subject=unsubscribe")
    with closing(compose_digest(services, envelope)) as digest:
        sent = digest.send_now()
    assert isinstance(services.mailer, FileMailer)
    return str(out / services.mailer.path(sent[-1]).name) if sent else None
