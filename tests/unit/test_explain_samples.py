"""Samples for the tests of explanations, and that they are what they claim to be."""

import functools

import msgspec
import numpy as np

from headrace.learners.cloud import ACTION_NAMES, OBSERVATION_NAMES, REWARD_TERMS
from headrace.learners.explain.evidence import VersionEvidence
from headrace.learners.explain.facts import version_facts
from headrace.learners.explain.interval import IntervalFold, RejectedCounts, interval_facts
from headrace.learners.explain.series import interval_series, version_series
from headrace.learners.explain.simulation import simulator
from headrace.learners.explain.template import TemplateNarrator
from headrace.schemas.grounding import check
from headrace.schemas.records import (
    AgentStats,
    ChunkReference,
    LineageEntry,
    PolicyVersion,
    Report,
    TaskSpec,
    WindowSummary,
)

HOUR = 3_600_000
START = 1_767_225_600_000
"""2026-01-01T00:00Z."""
CLOUD = TaskSpec(
    "cloud", OBSERVATION_NAMES, ACTION_NAMES, 300_000, reward_terms=REWARD_TERMS, environment="headrace/CloudService-v0"
)
PLAIN = TaskSpec("pump", ("level", "flow"), ("open", "close", "vent"), 60_000)


class Steady:
    """Values by a rule: the nearer to a number of replicas for the rate, the better."""

    def __init__(self, target: float) -> None:
        self.target = target

    def q_values(self, obs: np.ndarray) -> np.ndarray:
        rate = (1.2 * obs[:, 25] + 0.4 * obs[:, 17] - 0.6 * obs[:, 9]) * 500
        wanted = np.clip(rate / (50 * self.target) - np.rint((obs[:, 28] + obs[:, 29]) * 32), -2, 2)
        return (-0.3 * (wanted[:, None] - np.arange(-2, 3)) ** 2).astype(np.float32)


def version(number: int, task: str = "cloud", *, promoted: bool = True, **fields: object) -> PolicyVersion:
    evaluation = {"policy": 95 - 40 / number, "serving": 80.0, "rate_rule": 88.5, "clairvoyant": 98.8}
    made = PolicyVersion(
        task=task,
        version=number,
        parent=number - 1 or None,
        algorithm="dqn",
        config={},
        seed=0,
        code_version="0",
        weights_hash="0",
        environment_steps=number * 20_000,
        updates=number * 5_000,
        lineage=[LineageEntry(ChunkReference(task, 0, START, 0, 0, 0, 4_096, 1), 0, 0)],
        evaluation=evaluation,
        difference=None,
        promoted=promoted,
        reason="",
    )
    return msgspec.structs.replace(made, **fields)


@functools.cache
def evidence() -> VersionEvidence:
    world = simulator(CLOUD.environment, 32, 5)
    assert world is not None
    better, worse = Steady(0.5), Steady(0.42)
    return VersionEvidence(
        7,
        5,
        world.outcomes(better),
        world.outcomes(worse),
        world.baselines(),
        world.decisions(better),
        {"episode": world.episode(better, "v7")},
    )


@functools.cache
def version_report() -> Report:
    versions = [version(number, promoted=number % 2 == 1) for number in range(1, 8)]
    facts = version_facts(CLOUD, versions[-1], evidence(), versions[-2])
    series = version_series(CLOUD, versions, evidence())
    return Report("cloud.version.7", "cloud", "version", START, START, 7, facts, TemplateNarrator().tell(facts), series)


def summary(
    start_ms: int,
    mean: float = 0.5,
    *,
    task: str = "cloud",
    group: int = 0,
    rows: int = 10,
    agents: int = 6,
    version: int = 5,
    seed: int = 0,
    terms: int = 3,
    window_ms: int = 300_000,
    named: bool = True,
) -> WindowSummary:
    rng = np.random.default_rng([start_ms // 1000, group, seed])
    stats = []
    for agent in range(agents):
        reward = float((mean + 0.05 * agent) * rows + rng.normal(0, 0.1))
        parts = (reward + 5.0, -3.0, -2.0)[:terms]
        stats.append(
            AgentStats(f"agent-{agent}", rows, reward, 0.0, 1.0, parts, (1, 2, 4, 2, 1), 1, {version: rows}, 0, 9)
        )
    totals = AgentStats(
        "",
        rows * agents,
        sum(one.reward_sum for one in stats),
        0.0,
        1.0,
        tuple(sum(one.reward_terms[place] for one in stats) for place in range(terms)),
        tuple(agents * count for count in (1, 2, 4, 2, 1)),
        agents,
        {version: rows * agents},
        0,
        9,
    )
    return WindowSummary(
        task, group, 0, start_ms, start_ms + window_ms, totals.rows, 2, totals, stats if named else [], []
    )


def fold(start_ms: int, mean: float, **fields: object) -> IntervalFold:
    made = IntervalFold(start_ms, start_ms + 6 * HOUR, 3)
    for window in range(12):
        made.add(summary(start_ms + window * 300_000, mean, **fields))  # type: ignore[arg-type]
    return made


@functools.cache
def interval_report() -> Report:
    before, now = fold(START - 6 * HOUR, 0.5).totals(), fold(START, 0.6, version=7).totals()
    rejected = RejectedCounts({"finite": 3, "obs_bounds": 12}, START + 305_000, START + 6 * HOUR + 305_000)
    facts = interval_facts(CLOUD, now, before, rejected, 1)
    narrative = TemplateNarrator().tell(facts)
    series = interval_series(CLOUD, now, before)
    return Report("cloud.interval.1", "cloud", "interval", START, START + 6 * HOUR, None, facts, narrative, series)


def test_the_samples_are_grounded_and_survive_json() -> None:
    for report in (version_report(), interval_report()):
        check(report.narrative, report.facts)
        assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
