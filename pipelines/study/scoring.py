"""The scorecard of a seed: explanations by each arm, and what each is worth. A function of both, but for the times."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from headrace.learners import seeds
from headrace.learners.explain import scorecard, scorecard_reader
from headrace.learners.explain.attribution import by_name
from headrace.learners.explain.scorecard import Explanation
from headrace.learners.explain.scorecard_deletion import Deletion
from headrace.learners.explain.scorecard_reader import Simulated, States
from headrace.learners.explain.template import BARE, TemplateNarrator
from headrace.pipelines.narrating.narrator import ModelNarrator
from headrace.pipelines.settings import read_settings
from headrace.pipelines.study import pool, scores, store
from headrace.pipelines.study.explained import Explained, Subject, described
from headrace.pipelines.study.scores import NAN, NONE, SHUFFLED, TEMPLATE, Score, mean_of
from headrace.pipelines.wiring import Services
from headrace.schemas.ports import Narrator
from headrace.schemas.records import Facts, Narrative

SHOWN: Final = 16
"""Decisions that a reader has seen before it reads on a version."""
DECISIONS: Final = 8
"""Decisions that are explained."""
ASKED: Final = 1_024
"""States in which features are taken away from the policy."""


@dataclass(frozen=True, slots=True)
class Job:
    """A seed, and the arms of it that are to be scored: by name the narrator's URL, "" for one of `ARMS`."""

    folder: Path
    seed: int
    tasks: Sequence[Subject]
    arms: Mapping[str, str]
    fingerprints: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """What an arm made of facts. told: as its narrator had them. fallbacks: sentences that the template wrote."""

    told: Facts
    narrative: Narrative
    fallbacks: int = 0


T = TypeVar("T")
Teller = Callable[[Facts], Told]


def score_all(
    folder: Path,
    tasks: Sequence[Subject],
    arms: Mapping[str, str],
    numbers: Sequence[int],
    processes: int,
    on_done: Callable[[int, int], None] = lambda *_: None,
) -> int:
    """Score the seeds' arms that are not in the folder yet, and return how many scores were made.

    on_done is told (finished seeds, all). Raises SettingsError where the folder has scores of another design.
    """
    prints = {
        name: scores.fingerprint([name, url, described(tasks), SHOWN, DECISIONS, ASKED]) for name, url in arms.items()
    }
    jobs = [Job(folder, seed, tasks, scores.pending(folder, arms, prints, seed), prints) for seed in numbers]
    pending = [job for job in jobs if job.arms]
    done = len(jobs) - len(pending)
    on_done(done, len(jobs))
    if pending:  # minutes of training come before the first file
        store.ready(folder)
    pool.each(score_job, pending, processes, lambda count, _: on_done(done + count, len(jobs)))
    return sum(len(job.arms) for job in pending)


def score_job(job: Job) -> None:
    """Score a seed's arms and store them, in a process of the pool."""
    torch.set_num_threads(1)
    found: dict[str, list[Score]] = {name: [] for name in job.arms}
    with ExitStack() as stack:
        tellers = {name: _teller(name, url, job.seed, stack) for name, url in job.arms.items()}
        for subject in job.tasks:
            for name, score in scored(Explained(subject, job.seed), tellers, job):
                found[name].append(score)
    for name, rows in found.items():
        store.write_rows(store.path_of(job.folder / scores.FOLDER, name, job.seed), Score, rows)


def _teller(name: str, url: str, seed: int, stack: ExitStack) -> Teller:
    if url:
        services = stack.enter_context(closing(Services(read_settings({"narrator": url}), parts=("narrator",))))
        return partial(_by_narrator, services.narrator)
    own: dict[str, Teller] = {
        NONE: lambda facts: Told(facts, BARE),
        TEMPLATE: partial(_by_narrator, TemplateNarrator()),
        SHUFFLED: partial(_by_shuffling, seed),
    }
    return own[name]


def _by_narrator(narrator: Narrator, facts: Facts) -> Told:
    before = _fallbacks(narrator)
    narrative = narrator.tell(facts)
    return Told(facts, narrative, _fallbacks(narrator) - before)


def _fallbacks(narrator: Narrator) -> int:
    return int(narrator.counters().get(("fallback",), 0)) if isinstance(narrator, ModelNarrator) else 0


def _by_shuffling(seed: int, facts: Facts) -> Told:
    told = scorecard.shuffled(facts, seed)
    return Told(told, TemplateNarrator().tell(told))


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A fact set to be explained. obs: float32[M, D], where features are taken away: a decision's own, else many."""

    facts: Facts
    facts_ms: float
    obs: NDArray[np.float32]


def scored(explained: Explained, tellers: Mapping[str, Teller], job: Job) -> Iterator[tuple[str, Score]]:
    """Yield each arm's score of each kind of explanation of a task."""
    for subject, cases in _cases(explained, job.seed).items():
        for name, tell in tellers.items():
            yield name, _score(explained, subject, cases, name, tell, job)


def _cases(explained: Explained, seed: int) -> dict[str, list[Case]]:
    many = explained.held_out.obs[:ASKED]
    chosen = _rng(seed).permutation(len(explained.seen))[:DECISIONS].tolist()
    return {
        "version": [Case(*_timed(explained.version_facts), many)],
        "interval": [Case(*_timed(explained.interval_facts), many)],
        "decision": [Case(*_timed(compute), decision.obs[None]) for decision, compute in explained.decisions(chosen)],
    }


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng([seeds.SCORED_DRAWS.first, seed])


def _timed(compute: Callable[[], T]) -> tuple[T, float]:
    """Return what is computed, and the milliseconds that it took."""
    begun_s = time.perf_counter()
    return compute(), 1_000.0 * (time.perf_counter() - begun_s)


def _score(explained: Explained, subject: str, cases: Sequence[Case], name: str, tell: Teller, job: Job) -> Score:
    """Have facts told, and measure what came of it."""
    timed = [_timed(partial(tell, case.facts)) for case in cases]
    made = [told for told, _ in timed]
    explanations = [Explanation(case.facts, one.told, one.narrative) for case, one in zip(cases, made, strict=True)]
    held = [scorecard.grounding(one) for one in explanations]
    covered = [scorecard.coverage(one) for one in explanations]
    read = _read(explained, subject, cases, explanations, job.seed)
    deleted = [_deleted(explained, case, one, job.seed) for case, one in zip(cases, explanations, strict=True)]
    return Score(
        arm=name,
        seed=job.seed,
        fingerprint=job.fingerprints[name],
        task=explained.spec.task,
        subject=subject,
        explanations=len(explanations),
        holding=sum(one.holding for one in held),
        said=sum(one.said for one in held),
        recall=mean_of([one.recall for one in covered]),
        precision=mean_of([one.precision for one in covered]),
        f1=mean_of([one.f1 for one in covered]),
        without=read.without,
        with_it=read.with_it,
        fidelity=read.fidelity,
        cited_auc=mean_of([cited for cited, _ in deleted]),
        random_auc=mean_of([drawn for _, drawn in deleted]),
        stability=_stability(cases[0].facts, made[0], name, tell),
        own=NAN if name == NONE else mean_of([scorecard.told_by(one.narrative, one.fallbacks) for one in made]),
        tell_ms=[ms for _, ms in timed],
        facts_ms=[case.facts_ms for case in cases],
    )


def _read(
    explained: Explained, subject: str, cases: Sequence[Case], explanations: Sequence[Explanation], seed: int
) -> Simulated:
    """Let a reader read. It has seen some decisions: those that are explained, or as a version is, drawn ones."""
    if subject == "interval":
        return Simulated(NAN, NAN, NAN)
    spec, unit = explained.spec, explained.unit
    seen = explained.seen[_rng(seed).permutation(len(explained.seen))[:SHOWN]]
    if subject == "decision":
        seen = np.concatenate([case.obs for case in cases])
    pairs = zip(cases, explanations, strict=True)
    examples = [scorecard_reader.told_example(one, spec, unit, case.obs[0]) for case, one in pairs]
    rules = [rule for one in explanations for rule in scorecard_reader.told_rules(one, spec, unit)]
    shown = States(seen, explained.act(seen))
    return scorecard_reader.simulated(
        spec, shown, [one for one in examples if one is not None], rules, explained.held_out
    )


def _deleted(explained: Explained, case: Case, explanation: Explanation, seed: int) -> tuple[float, float]:
    """Return the area of the cited features' deletion, and of drawn ones'; NaN where none is cited."""
    cited = scorecard_reader.cited_groups(explanation, explained.spec)
    if not cited:
        return NAN, NAN
    usual = explained.seen.mean(axis=0, dtype=np.float64)
    deletion = Deletion(explained.act, case.obs, usual, explained.spec.discrete)
    groups = [*by_name(explained.spec.observations).values()]
    return deletion.auc(cited), deletion.random_auc(groups, len(cited), [seeds.SCORED_DRAWS.first, seed])


def _stability(facts: Facts, made: Told, name: str, tell: Teller) -> float:
    """Return how alike facts are told that are said otherwise; NaN of numbers that are drawn anew each time."""
    if name in {NONE, SHUFFLED}:
        return NAN
    return mean_of([scorecard.stability(made.narrative, tell(one).narrative) for one in scorecard.rephrased(facts)])
