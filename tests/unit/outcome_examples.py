"""Reports of CloudService's own task, which declares outcomes: of two versions, and of an interval."""

import functools
from typing import Any

from msgspec.structs import replace
from test_explain_samples import HOUR, START, Steady, summary, version

from headrace.learners.explain.evidence import VersionEvidence
from headrace.learners.explain.facts import version_facts
from headrace.learners.explain.interval import IntervalFold, Totals, interval_facts
from headrace.learners.explain.simulation import Simulator, task_simulator
from headrace.learners.explain.template import TemplateNarrator
from headrace.pipelines.fleet.job import cloud_task
from headrace.schemas.records import AgentStats, Facts, Report

SPEC = cloud_task()
BETTER, WORSE = Steady(0.5), Steady(0.42)


@functools.cache
def world() -> Simulator:
    found = task_simulator(SPEC, 32, 5)
    assert found is not None
    return found


@functools.cache
def version_facts_of(number: int, before: int | None) -> Facts:
    """Facts of version 7, which is the better one, or 5."""
    own, old = (BETTER, WORSE) if number == 7 else (WORSE, BETTER)
    there = world()
    evidence = VersionEvidence(
        number,
        before,
        there.outcomes(own),
        there.outcomes(old) if before else None,
        there.baselines(),
        familiar=there.familiar,
    )
    return version_facts(SPEC, version(number), evidence, version(number - 1))


def version_report(number: int = 7, before: int | None = 5) -> Report:
    return report(f"cloud.version.{number}", version_facts_of(number, before), number)


def report(report_id: str, facts: Facts, number: int | None = None) -> Report:
    kind: Any = "interval" if number is None else "version"
    end_ms = START + 6 * HOUR if number is None else START
    return Report(report_id, facts.task, kind, START, end_ms, number, facts, TemplateNarrator().tell(facts), {})


def totals(start_ms: int, slow: float, seed: int = 0) -> Totals:
    """Six agents, twelve windows. slow: the share of their steps that were above the SLO."""
    fold = IntervalFold(start_ms, start_ms + 6 * HOUR, 3, len(SPEC.outcomes))
    for place in range(12):
        made = summary(start_ms + place * 300_000, 0.5, seed=seed)
        agents = [_with_outcomes(one, slow, number) for number, one in enumerate(made.agents)]
        fold.add(replace(made, agents=agents, totals=_with_outcomes(made.totals, slow, 0)))
    return fold.totals()


def _with_outcomes(stats: AgentStats, slow: float, number: int) -> AgentStats:
    sums = (slow * stats.rows, (14.0 + 0.01 * number) * stats.rows, 0.0, 180.0 * stats.rows)
    return replace(stats, outcomes=sums, outcome_rows=(stats.rows,) * 4)


def interval_report() -> Report:
    facts = interval_facts(SPEC, totals(START, 0.01), totals(START - 6 * HOUR, 0.03, seed=1))
    return report("cloud.interval.1", facts)
