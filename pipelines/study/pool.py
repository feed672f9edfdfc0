"""Runs side by side, each process on one thread; what is stored already is not run again."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

import msgspec

from headrace.learners.advice.drawn import DrawnAdvisor
from headrace.learners.advice.rules import RuleAdvisor
from headrace.pipelines.study import store
from headrace.pipelines.study.asked import opened
from headrace.pipelines.study.design import Arm, Budget, arm, described, fingerprint
from headrace.pipelines.study.run import Run, run
from headrace.schemas.ports import Advisor
from headrace.schemas.records import Directive

logger = logging.getLogger(__name__)

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Job:
    """A run to be made."""

    name: str
    arm: Arm
    seed: int
    budget: Budget
    fingerprint: str


def jobs(arms: Mapping[str, Arm], seeds: Sequence[int], budget: Budget) -> list[Job]:
    """Return the runs of each arm with each seed, seed by seed: a study that is cut short has whole blocks."""
    prints = {name: fingerprint(described(arm, budget)) for name, arm in arms.items()}
    return [Job(name, arm, seed, budget, prints[name]) for seed in seeds for name, arm in arms.items()]


def run_all(
    folder: Path, wanted: Sequence[Job], processes: int, on_done: Callable[[int, int], None] = lambda *_: None
) -> int:
    """Make the runs that are not in the folder yet, and return how many those were.

    on_done is told (finished, all). An error, a run's or Ctrl-C, ends all processes at once: what they were at is not
    stored. Raises SettingsError where the folder has runs of another design.
    """
    pending = [job for job in wanted if not store.finished(folder, job.name, job.seed, job.fingerprint)]
    _write_design(folder, wanted)
    done, started_s = len(wanted) - len(pending), time.monotonic()
    on_done(done, len(wanted))

    def told(count: int, found: Run) -> None:
        on_done(done + count, len(wanted))
        left_s = (time.monotonic() - started_s) / count * (len(pending) - count)
        logger.info(
            "run %d of %d: %s, seed %d: return %.2f; about %.0f min left",
            *(done + count, len(wanted), found.arm, found.seed, sum(found.final) / len(found.final)),
            left_s / 60,
        )

    each(partial(_run_job, folder), pending, processes, told)
    return len(pending)


def each(work: Callable[[J], R], jobs: Sequence[J], processes: int, on_done: Callable[[int, R], None]) -> None:
    """Do jobs side by side; on_done is told how many are done, and what the last of them gave.

    An error, a job's or Ctrl-C, ends all processes at once.
    """
    if not jobs:
        return
    with _pool(min(processes, len(jobs))) as pool:
        with _without_interrupts():
            futures = [pool.submit(work, job) for job in jobs]
        for count, future in enumerate(as_completed(futures), 1):
            on_done(count, future.result())


def _run_job(folder: Path, job: Job) -> Run:
    """Make a run and store it, in a process of the pool."""
    with _advisor(folder, job) as advisor:
        found = run(job.name, job.arm, job.seed, job.budget, job.fingerprint, advisor)
    store.write(folder, found)
    return found


@contextmanager
def _advisor(folder: Path, job: Job) -> Iterator[Advisor | None]:
    """Give the advisor of a run, None where its arm has none."""
    if job.arm.cadence is None:
        yield None
    elif job.arm.counts_of:
        yield DrawnAdvisor(_counts(folder, job), job.seed)
    elif job.arm.advisor:
        with opened(job.arm.advisor) as advisor:
            yield advisor
    else:
        yield RuleAdvisor()


def _counts(folder: Path, job: Job) -> Counter[int]:
    """Count the directives by version in the run that a drawn one goes by; it is made now where it is not there."""
    (other,) = jobs({job.arm.counts_of: arm(job.arm.counts_of, job.arm.advisor)}, [job.seed], job.budget)
    there = store.finished(folder, other.name, other.seed, other.fingerprint)
    made = store.one(folder, other.name, other.seed) if there else _run_job(folder, other)
    records = (msgspec.json.decode(text, type=Directive) for text in made.directives)
    return Counter(record.version for record in records if record.verdict == "accepted")


@contextmanager
def _pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool whose processes end at once where the block fails, or this process ends, however that is."""
    # Spawned: a fork of a process with torch's and Arrow's threads may hang.
    context = multiprocessing.get_context("spawn")
    watched, held = context.Pipe(duplex=False)
    with held, ProcessPoolExecutor(processes, context, _end_with_pipe, (watched,)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            held.close()
            raise


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C doesn't reach, as it does every process of a terminal; here it comes afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_pipe(watched: Connection) -> None:
    """Have this process end when the pipe's other end is closed, which the parent's end does too."""

    def watch() -> None:
        watched.poll(None)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _write_design(folder: Path, wanted: Sequence[Job]) -> None:
    """Arms that were run before stay in."""
    known = store.design_so_far(folder)
    store.write_design(folder, known | {job.name: described(job.arm, job.budget) for job in wanted})
