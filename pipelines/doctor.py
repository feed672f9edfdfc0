"""What is reachable, which version, and what to do: the checks behind `headrace doctor`."""

import os
import platform
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from headrace.pipelines.layout import grown_topics
from headrace.pipelines.policies.learning import refusals_told
from headrace.pipelines.published import serving
from headrace.pipelines.query.progress import READERS, lag_of
from headrace.pipelines.report.recipients import recipients
from headrace.pipelines.tasks import task_specs
from headrace.pipelines.topics import INGEST, PARTITIONED, SINGLE, TRANSITIONS
from headrace.pipelines.wiring import ADAPTERS, Services
from headrace.schemas.errors import CorruptDataError, HeadraceError, UnknownPolicyError, UnknownTopicError
from headrace.schemas.records import TaskSpec, mailbox

PACKAGES: Final = (
    "headrace",
    "bytewax",
    "numpy",
    "pyarrow",
    "msgspec",
    "torch",
    "gymnasium",
    "confluent-kafka",
    "redis",
)

MAX_BOUNCES: Final = 10
INIT: Final = "run `headrace init`"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. remedy: what to do when it is not ok."""

    name: str
    ok: bool
    detail: str
    remedy: str | None = None


def examine(services: Services) -> list[Check]:
    """Look at everything; a check that fails never keeps the others from being made. Writes nothing."""
    checks = [Check("versions", ok=True, detail=_versions())]
    checks += [_guarded(part, partial(_reach, services, part)) for part in ADAPTERS]
    opened = {check.name for check in checks if check.ok}
    if "log" in opened:
        checks += [_guarded("topics", partial(_topics, services), INIT), _guarded("tasks", partial(_tasks, services))]
    if {"log", "index"} <= opened:
        checks.append(_guarded("layout", partial(_layout, services), INIT))
    if "log" in opened:
        checks.append(_guarded("lag", partial(_lag, services), INIT))
        checks.append(_guarded("jobs", partial(_jobs, services), INIT))
        checks.append(_guarded("digests", partial(_digests, services), INIT))
    if {"log", "policies"} <= opened:
        checks.append(_guarded("serving", partial(_serving, services), INIT))
        checks.append(_guarded("learning", partial(_learning, services)))
    return checks


def _guarded(name: str, look: Callable[[], Check], remedy: str | None = None) -> Check:
    try:
        return look()
    except HeadraceError as error:
        return Check(name, ok=False, detail=str(error), remedy=remedy)


def _versions() -> str:
    found = [f"python {platform.python_version()}", f"sqlite {sqlite3.sqlite_version}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} missing")
    return ", ".join(found)


def _reach(services: Services, part: str) -> Check:
    """Open a backend; a local folder that nobody has written to yet is looked for, not made."""
    url = getattr(services.settings, part)
    opened = getattr(services, "mailer" if part == "mail" else part)
    if services.adapters[part].local:
        folder = _existing(Path(url.path))
        if not os.access(folder, os.W_OK):
            remedy = f"give this user the right to write, or name another place by --{part}"
            return Check(part, ok=False, detail=f"{url}: {folder} is not writable", remedy=remedy)
    about = opened.about() if opened else ""
    return Check(part, ok=True, detail=f"{url}: {about}" if about else str(url))


def _existing(path: Path) -> Path:
    """Return the path, or the nearest of its parents that is there."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


def _topics(services: Services) -> Check:
    found, missing = [], []
    for name in (*SINGLE, *PARTITIONED):
        try:
            found.append(f"{name} ({services.log.topic(name).partitions})")
        except UnknownTopicError:
            missing.append(name)
    if missing:
        return Check("topics", ok=False, detail=f"missing: {', '.join(missing)}", remedy=INIT)
    if faults := services.log.faults([*SINGLE, *PARTITIONED]):
        return Check("topics", ok=False, detail="; ".join(faults.values()))
    return Check("topics", ok=True, detail=", ".join(found))


def _tasks(services: Services) -> Check:
    detail = ", ".join(sorted(task_specs(services.log))) or "none yet: add one by `headrace task add FILE`"
    return Check("tasks", ok=True, detail=detail)


def _layout(services: Services) -> Check:
    found = services.layout
    if grown := grown_topics(services.log, found):
        return Check("layout", ok=False, detail="; ".join(grown))
    shown = f"segment {found.segment}, grace {found.grace_ms} ms, clock skew {found.max_clock_skew_ms} ms"
    return Check("layout", ok=True, detail=f"log {found.log}, {shown}")


def _lag(services: Services) -> Check:
    """Compare group ingest's commits with the log's ends; rows that retention took unread are a fault."""
    found = lag_of(services.log, INGEST, TRANSITIONS)
    gone = [
        f"partition {one.partition}: {one.begin - one.committed} messages"
        for one in found
        if one.committed is not None and one.committed < one.begin
    ]
    if gone:
        detail = f"gone from the log before they were indexed: {', '.join(gone)}"
        return Check("lag", ok=False, detail=detail, remedy="run `headrace run ingest --accept-gap` to go on without")
    behind = sum(one.behind for one in found)
    hint = ": `headrace run ingest` takes them in" if behind else ""
    return Check("lag", ok=True, detail=f"group {INGEST} is {behind} messages behind{hint}")


def _jobs(services: Services) -> Check:
    """Say how far every other group of the log is behind; a job that has committed nothing never ran."""
    groups = dict.fromkeys(group for group in (*READERS, *services.log.groups()) if group != INGEST)
    return Check("jobs", ok=True, detail="; ".join(_behind(services, group) for group in groups))


def _digests(services: Services) -> Check:
    """Say which recipients' servers refused the last digest for good, in their words."""
    found = recipients(services.log, services.settings.digest_to)
    bounced = {mailbox(one.subscriber.address): one for one in found if one.bounced}
    told = [
        f"{address} refused its last digest: {one.refused.verdict.words}"
        for address, one in bounced.items()
        if one.refused
    ]
    if told:
        more = f"; and {len(told) - MAX_BOUNCES} more" if len(told) > MAX_BOUNCES else ""
        remedy = "correct the address, or take it out: `headrace digest list`, `headrace digest remove`, --to"
        return Check("digests", ok=False, detail="; ".join(told[:MAX_BOUNCES]) + more, remedy=remedy)
    count = sum(one.subscriber.state == "active" for one in found)
    return Check("digests", ok=True, detail=f"{count} {'recipient' if count == 1 else 'recipients'}, none has refused")


def _behind(services: Services, group: str) -> str:
    job = group.split(".", maxsplit=1)[0]
    behind, ran = {}, False
    for topic in READERS.get(job, PARTITIONED):
        found = lag_of(services.log, group, topic)
        committed = any(one.committed is not None for one in found)
        if not committed and job not in READERS:
            continue
        ran = ran or committed
        behind[topic] = sum(one.behind for one in found)
    if not ran:
        return f"{group} never ran"
    told = " and ".join(f"{count} messages of {topic}" for topic, count in behind.items() if count)
    if not told:
        return f"{group} is up to date"
    if group == job and job in READERS:
        return f"{job} is {told} behind: `headrace run {job}`"
    return f"group {group} is {told} behind: run its job, or `headrace forget --group {group}` if it is run no more"


def _serving(services: Services) -> Check:
    """Look whether what serves is in the policy store, whole."""
    found, faults = [], []
    for task, policy in sorted(serving(services.log).items()):
        if policy.version:
            name = f"{task}@{policy.version}"
            try:
                services.policies.weights(task, policy.version)
                found.append(name)
            except (UnknownPolicyError, CorruptDataError) as error:
                faults.append(f"{name} serves, and can't be loaded: {error}")
    if faults:
        remedy = "put the store's files or rows back, or let another version serve: `headrace policy promote`"
        return Check("serving", ok=False, detail="; ".join(faults), remedy=remedy)
    return Check("serving", ok=True, detail=", ".join(found) or "no policy yet")


def _learning(services: Services) -> Check:
    """Tell of each task what its learning waits for, or how many candidates were refused; neither is a fault here."""
    told = {task: _learning_of(services, spec) for task, spec in sorted(task_specs(services.log).items())}
    detail = "; ".join(f"{task}: {sentence}" for task, sentence in told.items() if sentence)
    return Check("learning", ok=True, detail=detail or "no task's newest candidate was refused")


def _learning_of(services: Services, spec: TaskSpec) -> str | None:
    from headrace.pipelines.learn.checkpoint import missing_rows  # noqa: PLC0415 it loads SciPy

    versions = services.policies.versions(spec.task)
    checkpoint = None if versions else services.policies.load(spec.task)
    if checkpoint is None:
        return refusals_told(versions)
    rows = missing_rows(spec, checkpoint)
    return f"{rows} more rows make a first candidate" if rows else "its first candidate waits for an update"


def rows(checks: list[Check]) -> Iterator[tuple[str, str, str]]:
    """Yield each check as a line of a table."""
    for check in checks:
        yield "ok" if check.ok else "WRONG", check.name, check.detail + (f" → {check.remedy}" if check.remedy else "")
