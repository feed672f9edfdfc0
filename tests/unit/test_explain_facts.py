"""Facts of versions and of intervals, from arrays and summaries worked out by hand."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import stdtrit
from test_explain_samples import (
    CLOUD,
    HOUR,
    PLAIN,
    START,
    evidence,
    fold,
    interval_report,
    summary,
    version,
    version_report,
)

from headrace.learners.cloud.environment import ENVIRONMENT
from headrace.learners.explain import evidence as explain_evidence
from headrace.learners.explain.behaviour import margins
from headrace.learners.explain.evidence import (
    ContinuousDecisions,
    Outcomes,
    RecordedDecisions,
    VersionEvidence,
)
from headrace.learners.explain.facts import corrected, p_value, version_facts
from headrace.learners.explain.interval import (
    IntervalFold,
    RejectedCounts,
    Totals,
    interval_facts,
    ratio_difference,
    rows_comparable,
    span,
)
from headrace.learners.explain.series import ESTIMATED, version_series
from headrace.learners.explain.simulation import simulator
from headrace.learners.explain.template import JUDGED, TemplateNarrator
from headrace.learners.explain.timeline import (
    ClosedInterval,
    Closing,
    IngestPosition,
    IngestProgress,
    Timeline,
    whole_windows_ms,
)
from headrace.learners.judge.observed import ObservedReturn
from headrace.learners.judge.statistics import mean_interval
from headrace.schemas.grounding import fill, problems
from headrace.schemas.names import slug
from headrace.schemas.records import (
    ChunkReference,
    DataEvidence,
    Fact,
    Facts,
    Interval,
    Judgement,
    LineageEntry,
    PolicyVersion,
    TaskSpec,
)


def by_id(facts: Facts) -> dict[str, Fact]:
    return {fact.fact_id: fact for fact in facts.facts}


def test_returns_are_compared_pair_by_pair() -> None:
    spec = TaskSpec("t", ("a",), ("x", "y"), 1_000, reward_terms=("speed", "cost"))
    mine = Outcomes(np.array([3.0, 5.0, 4.0]), np.array([[4.0, -1.0], [6.0, -1.0], [5.0, -1.0]]))
    old = Outcomes(np.array([1.0, 3.0, 2.0]), np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0]]))
    facts = by_id(version_facts(spec, version(7, "t"), VersionEvidence(7, 5, mine, old, {"hpa": mine})))
    better = facts["return.vs-serving"]
    assert (better.value, better.low, better.high, better.direction) == (2.0, 2.0, 2.0, "up")
    assert facts["return.vs-hpa"].direction == "flat"
    assert facts["term.cost.vs-serving"].value == -1.0
    assert facts["term.cost.vs-serving"].direction == "down"
    assert facts["return.policy"].value == 4.0
    assert facts["version.previous"].value == 5


def test_actions_margins_and_differences_by_situation() -> None:
    obs = np.array([[1, 0], [2, 0], [3, 0], [4, 0], [5, 0], [6, 0]], np.float32)
    values = np.array([[1, 0, -9], [2, 0, -9], [0, 1, -9], [0, 1, -9], [0, 3, -9], [0, 4, -9]], float)
    shadows = {"rule": np.array([0, 0, 0, 1, 1, 1]), "serving": np.array([0, 0, 2, 2, 1, 1])}
    decisions = RecordedDecisions(obs, values, shadows, (0.0, 1.0, 2.0))
    facts = by_id(version_facts(PLAIN, version(1, "pump"), VersionEvidence(1, None, decisions=decisions)))
    # Thresholds are quantiles: 2.09 parts what it opens at from what it closes at.
    assert facts["situation.s1"].label.startswith("level \u2264 2.09,")
    assert facts["situation.s2"].label.startswith("level > 2.09,")
    assert (facts["situation.s1"].value, facts["situation.s2"].value) == (2, 4)
    assert facts["action.s1.open"].value == facts["action.s2.close"].value == 100.0
    assert facts["situations.explained"].value == 100.0
    assert facts["margin.s1"].value == 1.5
    assert facts["margin.s2"].value == 2.25
    assert_allclose(facts["differs.rule"].value, 100 / 6)
    assert_allclose(facts["differs.rule.larger"].value, 100 / 6)
    assert facts["differs.rule.smaller"].value == 0.0
    assert_allclose(facts["differs.serving"].value, 200 / 6)
    assert facts["differs.serving.switch"].label.startswith("\u201cclose\u201d in place of \u201cvent\u201d,")


def said(facts: Facts) -> str:
    return " ".join(fill(sentence, facts) for sentence in TemplateNarrator().tell(facts).sentences)


LOW, HIGH = (0.0, 1.0), (9.0, 1.0)


def decided(spec: TaskSpec, *groups: tuple[tuple[float, ...], int]) -> Facts:
    """Facts of decisions, each of two: what was seen and the number of the action."""
    obs = np.array([seen for seen, _ in groups for _ in range(2)], np.float32)
    decisions = RecordedDecisions(obs, np.eye(spec.action_count)[[action for _, action in groups for _ in range(2)]])
    return version_facts(spec, version(1, spec.task), VersionEvidence(1, None, decisions=decisions))


def test_a_situations_commonest_action_is_told_of_however_rare_it_is_overall() -> None:
    spec = TaskSpec("t", ("level", "flow"), tuple("abcdefgh"), 1_000)
    facts = decided(spec, (HIGH, 7), *((LOW, place % 7) for place in range(21)))
    assert by_id(facts)["action.s2.h"].value == 100.0
    assert "Where level > 0, it takes \u201ch\u201d in 100 % of 2 decisions." in said(facts)


def test_a_situations_commonest_action_outlives_another_of_the_same_slug() -> None:
    actions = ("move_the_front_pool_up_by_1", "move_the_front_pool_up_by_2", "stay")
    facts = decided(TaskSpec("t", ("level", "flow"), actions, 1_000), (HIGH, 1), (LOW, 0), (LOW, 0))
    assert "it takes \u201cmove_the_front_pool_up_by_2\u201d in 100 % of 2 decisions" in said(facts)
    assert "it takes \u201cmove_the_front_pool_up_by_1\u201d in 100 % of 4 decisions" in said(facts)


def test_actions_that_are_numbers_stand_in_quotation_marks() -> None:
    facts = decided(TaskSpec("t", ("level", "flow"), ("-1", "0", "+1"), 1_000), (HIGH, 1), (LOW, 2))
    assert "it takes \u201c0\u201d in" in said(facts)
    assert "it takes \u201c+1\u201d in" in said(facts)


def test_rows_learned_from_are_the_rows_since_its_parent_not_the_sum_of_the_lineage() -> None:
    parent, child = version(1, "pump", environment_steps=800), version(2, "pump", environment_steps=2_308)
    evidence = VersionEvidence(2, 1)
    assert by_id(version_facts(PLAIN, child, evidence, parent))["training.rows"].value == 1_508
    assert "training.rows" not in by_id(version_facts(PLAIN, child, evidence))
    assert by_id(version_facts(PLAIN, parent, VersionEvidence(1, None)))["training.rows"].value == 800


def test_what_is_not_finite_is_no_fact() -> None:
    decisions = RecordedDecisions(np.ones((2, 2), np.float32), np.full((2, 3), np.nan))
    facts = by_id(version_facts(PLAIN, version(1, "pump"), VersionEvidence(1, None, decisions=decisions)))
    assert "margin.s1" not in facts
    assert "action.s1.open" in facts


def test_holm_goes_on_until_the_first_that_does_not_pass() -> None:
    def called(*p_values: float) -> list[bool]:
        """Whether a direction is called, of changes of 1 with such p-values at 99 degrees of freedom."""
        halves = [stdtrit(99, 0.975) / -stdtrit(99, p / 2) for p in p_values]
        changes = [
            Fact(str(p), "", 1.0, "", 1.0 - half, 1.0 + half, "up") for p, half in zip(p_values, halves, strict=True)
        ]
        return [fact.direction == "up" for fact in corrected(changes, 100) if fact.direction]

    assert called(0.04, 0.01, 0.02) == [True, True, True]
    assert called(0.04, 0.01, 0.03) == [False, True, False]
    assert called(0.02, 0.03) == [True, True]
    assert called(0.03, 0.04) == [False, False]
    assert called() == []


def test_a_p_value_belongs_to_its_interval() -> None:
    mean, low, high, count = mean_interval(np.array([1.0, 2.0, 4.0, 3.0, 0.0]))
    # t = 2 / (1.5811 / sqrt(5)) = 2.8284 at 4 degrees of freedom.
    assert_allclose(p_value(Fact("a", "a", mean, "return", low, high), count), 0.04742, atol=1e-5)
    assert p_value(Fact("a", "a", 2.0, "return", 2.0, 2.0), 5) == 0.0
    assert p_value(Fact("a", "a", 0.0, "return", 0.0, 0.0), 5) == 1.0


def test_among_many_comparisons_a_weak_one_is_called_flat_and_keeps_its_interval() -> None:
    weak = Fact("weak", "weak", 1.0, "return", 0.1, 1.9, "up")
    strong = Fact("strong", "strong", -9.0, "return", -9.9, -8.1, "down")
    none = [Fact(f"none-{place}", "none", 0.0, "return", -1.0, 1.0, "flat") for place in range(3)]
    assert next(corrected([weak], 100)).direction == "up"
    *found, count = corrected([weak, strong, *none], 100)
    assert [fact.direction for fact in found] == ["flat", "down", "flat", "flat", "flat"]
    assert (found[0].low, found[0].high) == (0.1, 1.9)
    assert count.value == 5


def test_a_reports_comparisons_are_one_family() -> None:
    report = version_report()
    changes = [fact for fact in report.facts.facts if fact.fact_id.partition(".")[2].partition("vs-")[1]]
    assert by_id(report.facts)["comparisons.count"].value == len(changes) == 28
    assert by_id(interval_report().facts)["comparisons.count"].value == 4


def test_margins_of_one_action_are_zero() -> None:
    assert_allclose(margins(np.ones((3, 1))), 0.0)


def test_an_environment_names_its_baselines(monkeypatch: pytest.MonkeyPatch) -> None:
    own = replace(ENVIRONMENT, called={"pid": "the old controller"})
    monkeypatch.setattr(explain_evidence, "environment_of", lambda name: own if name == "Pump-v0" else None)
    obs = np.array([[1, 2], [2, 1]], np.float32)
    evidence = VersionEvidence(1, None, decisions=RecordedDecisions(obs, np.eye(3)[:2], {"pid": np.array([0, 0])}))
    for spec, name in ((PLAIN, "pid"), (msgspec.structs.replace(PLAIN, environment="Pump-v0"), "the old controller")):
        found = by_id(version_facts(spec, version(1, "pump"), evidence))
        assert found["differs.pid"].label.partition(",")[0] == name


@pytest.mark.parametrize(
    ("decided_by", "fields", "kind"),
    [
        ("gate", {}, "gate"),
        ("gate", {"by_data": DataEvidence("fitted Q evaluation", 900, 800.0, 40)}, "data"),
        ("gate", {"config": {"gate": "auto"}, "judged": Judgement(0, 1, 0.025, 7, 512, 512)}, "gate"),
        ("settings", {}, "untested"),
        ("canary", {"promoted": False}, "canary"),
        ("gate", {"difference": Interval(-1.0, -3.0, 1.0), "judged": Judgement(2, 1, 0.025, 7, 512, 512)}, "close"),
        ("ann", {}, "person"),
        ("ann", {"promoted": False}, "overruled"),
        ("ann", {"promoted": False, "config": {"source": "rules"}}, "person"),
    ],
)
def test_a_report_says_how_a_version_was_tested(decided_by: str, fields: dict[str, Any], kind: str) -> None:
    one = version(1, "pump", **fields)
    facts = version_facts(PLAIN, one, VersionEvidence(1, None), decided_by=decided_by)
    assert [key for key in by_id(facts) if key.startswith("judged.")] == [f"judged.{kind}"]
    assert problems(TemplateNarrator().tell(facts), facts) == []
    assert JUDGED.get(kind, "") in said(facts)


def test_who_had_no_predecessor_is_compared_with_the_floor() -> None:
    """Its interval is as wide as the error it could spend asked for, so that it is no 95 % interval."""
    one = version(
        1,
        "pump",
        evaluation={"policy": 5.0, "random": 3.0},
        judged=Judgement(0, 1, 0.01, 7, 64, 16),
        difference=Interval(2.0, 1.0, 3.0),
    )
    facts = version_facts(PLAIN, one, VersionEvidence(1, None))
    told = by_id(facts)["return.vs-floor"]
    assert (told.value, told.low, told.direction) == (2.0, None, "up")
    assert fill(TemplateNarrator().tell(facts).headline, facts) == "v1 is better than the baseline to beat by +2 return"


def test_what_rows_estimated_is_told_as_discounted_and_without_an_interval_of_another_level() -> None:
    one = version(
        6,
        "pump",
        evaluation={"policy": 5.0, "agents": 3.0},
        by_data=DataEvidence("fitted Q evaluation", 25_774, 18_978.0, 132),
        difference=Interval(2.0, 1.0, 3.0),
    )
    facts = version_facts(PLAIN, one, VersionEvidence(6, None))
    told = by_id(facts)
    assert (told["return.vs-agents"].low, told["return.vs-agents"].unit) == (None, "discounted return")
    assert told["return.policy"].label == "its own, discounted return as rows let the gate estimate it"
    headline = fill(TemplateNarrator().tell(facts).headline, facts)
    assert headline == "v6 is better than the agents as they acted by +2 discounted return"
    assert "rests on 25,774 rows, and its returns are discounted." in said(facts)
    assert problems(TemplateNarrator().tell(facts), facts) == []


def test_a_learning_curve_holds_returns_of_one_kind() -> None:
    by_data = DataEvidence("fitted Q evaluation", 900, 800.0, 40)
    versions = [version(1, "pump"), *(version(number, "pump", by_data=by_data) for number in (2, 3))]
    curve = version_series(PLAIN, versions, VersionEvidence(3, None))["learning_curve"][0]
    assert (curve.name, curve.x) == (ESTIMATED, (40_000.0, 60_000.0))


def test_refusals_before_a_version_are_told_and_where_learning_went_back_to() -> None:
    before, one = version(8, "pump", refusals=57), version(9, "pump", went_back_to=3)
    facts = version_facts(PLAIN, one, VersionEvidence(9, 3), before)
    text = said(facts)
    assert (
        "The gate refused 57 candidates in a row, before this version. Learning went back to the weights of v3" in text
    )
    overruled = version_facts(PLAIN, version(9, "pump", refusals=1), VersionEvidence(9, 3), before)
    assert "The gate refused 1 candidate, this version included." in said(overruled)
    assert "refused" not in said(version_facts(PLAIN, version(9, "pump"), VersionEvidence(9, 3), version(8, "pump")))


def test_an_interval_tells_the_refusals_that_its_own_rows_brought() -> None:
    def of(number: int, start_ms: int, **fields: object) -> PolicyVersion:
        return version(
            number, lineage=[LineageEntry(ChunkReference("cloud", 0, start_ms, 0, 0, 0, 9, 1), 0, 0)], **fields
        )

    totals = fold(START, 0.6).totals()
    learned = [of(1, START), of(2, START + 1, refusals=1, went_back_to=1), of(3, START + 2, refusals=2)]
    later = of(4, START + 6 * HOUR, refusals=3)
    facts = interval_facts(CLOUD, totals, None, learned=[*learned, later])
    assert "The gate refused 2 candidates in a row, v3 the newest. Learning went back to the weights of v1" in said(
        facts
    )
    assert problems(TemplateNarrator().tell(facts), facts) == []
    for others in (learned[:1], [of(9, START - 1, refusals=5)], [later]):
        assert "refused" not in said(interval_facts(CLOUD, totals, None, learned=others))


def test_what_agents_earned_before_is_told() -> None:
    observed = ObservedReturn(4, "return", 21.5, 20.0, 23.0, 40, 8, 900)
    facts = version_facts(PLAIN, version(5, "pump"), VersionEvidence(5, 4, observed=observed), decided_by="settings")
    assert "agents that acted by v4 earned 21.5 return (95 % 20.0 to 23.0) an episode" in said(facts)


def test_continuous_actions_have_situations_bounds_and_steps() -> None:
    obs = np.repeat(np.array([[0.0, 1.0], [5.0, 1.0]], np.float32), 50, axis=0)
    actions = np.repeat([[-2.0], [1.0]], 50, axis=0)
    low, high = np.array([-2.0]), np.array([2.0])
    decisions = ContinuousDecisions(obs, actions, actions + 0.4, low, high, actions * 0.0)
    facts = version_facts(PLAIN, version(1, "pump"), VersionEvidence(1, None, decisions=decisions))
    found = {key: fact.value for key, fact in by_id(facts).items()}
    assert (found["action.s1.d1"], found["action.s2.d1"]) == (-2.0, 1.0)
    assert (found["saturation.d1.lowest"], found["saturation.d1.highest"]) == (50.0, 0.0)
    assert_allclose([found["smoothness.d1"], found["apart.serving"]], [10.0, 37.5])
    assert found["situations.explained"] == 100.0
    assert problems(TemplateNarrator().tell(facts), facts) == []
    text = said(facts)
    assert "Where level > 0, the action is 1 on average (in 50 decisions)." in text
    assert "the action moves by 10.0 % of its range on average; it lies at its lowest value in 50 % and at" in text
    plots = version_series(PLAIN, [version(1, "pump")], VersionEvidence(1, None, decisions=decisions))
    (series,) = plots["action_range"]
    assert (series.name, series.y, series.low) == ("the action", (-2.0, 1.0), (-2.0, 1.0))


@pytest.mark.parametrize(
    ("name", "part"), [("+2", "plus-2"), ("-2", "minus-2"), ("a.b+c", "a_b_c"), ("x" * 50, "x" * 24)]
)
def test_names_become_parts_of_ids(name: str, part: str) -> None:
    assert slug(name) == part


def test_without_a_simulator_the_gate_speaks() -> None:
    gated = version(3, "pump", difference=Interval(1.0, 0.5, 1.5))
    facts = by_id(version_facts(PLAIN, gated, VersionEvidence(3, 2)))
    assert facts["return.vs-serving"].direction == "up"
    assert facts["return.rate_rule"].value == 88.5


def test_the_cloud_report_tells_verdict_terms_and_behaviour() -> None:
    report = version_report()
    text = " ".join(fill(sentence, report.facts) for sentence in report.narrative.sentences)
    assert fill(report.narrative.headline, report.facts).startswith("v7 is better than v5 by +")
    for part in ("the rate rule", "Where ", "clairvoyant", "cost by"):
        assert part in text
    assert set(report.series) == {"learning_curve", "terms", "action_mix", "episode"}
    assert all(len(fact.fact_id) <= 64 for fact in report.facts.facts)


def test_the_simulator_repeats_itself() -> None:
    first, second = (simulator(CLOUD.environment, 8, seed) for seed in (1, 1))
    assert first is second
    assert simulator(None) is None
    rule = evidence().baselines["rate_rule"]
    assert_allclose(rule.terms.sum(axis=1), rule.returns)


def test_continuous_actions_give_no_action_mix() -> None:
    assert "action_mix" not in version_series(PLAIN, [version(1, "pump")], VersionEvidence(1, None))


def test_an_interval_adds_up_its_windows_and_the_last_of_each_counts() -> None:
    made = IntervalFold(START, START + HOUR, 3)
    made.add(summary(START, rows=10))
    made.add(summary(START, rows=15))
    made.add(summary(START + 300_000, rows=5, version=7))
    total = made.totals()
    assert (total.rows, total.late_rows, total.duplicates, total.episodes) == (120, 30, 4, 12)
    assert total.versions == {5: 90, 7: 30}
    assert total.by_version[7][0] == 30
    assert_allclose(total.table[:, 0], 20)
    assert total.named


def test_a_ratios_difference_is_that_of_the_levels_and_its_interval_is_over_units() -> None:
    before, now = fold(START - 6 * HOUR, 0.5).totals(), fold(START, 0.6).totals()
    found = ratio_difference(now, before, 1)
    assert found is not None
    sums = [total.table.sum(axis=0) for total in (now, before)]
    assert_allclose(found.mean, sums[0][1] / sums[0][0] - sums[1][1] / sums[1][0])
    # With equal rows the estimator is the paired t interval of the units' means.
    means = now.table[:, 1] / now.table[:, 0] - before.table[:, 1] / before.table[:, 0]
    half = 2.5705818 * means.std(ddof=1) / np.sqrt(6)
    assert_allclose((found.low, found.high), (means.mean() - half, means.mean() + half), rtol=1e-6)


def test_too_few_units_give_no_interval_and_no_claim() -> None:
    before, now = (fold(start, 0.5, agents=2).totals() for start in (START - 6 * HOUR, START))
    assert ratio_difference(now, before, 1) is None
    assert "reward.change" not in by_id(interval_facts(CLOUD, now, before))


def test_unnamed_agents_are_counted_by_group() -> None:
    total = fold(START, 0.5, named=False).totals()
    assert total.units == ("group 0",)
    assert "agents.total" not in by_id(interval_facts(CLOUD, total, None))


def test_an_intervals_report_tells_change_volume_and_what_was_wrong() -> None:
    report = interval_report()
    text = " ".join(fill(sentence, report.facts) for sentence in report.narrative.sentences)
    assert fill(report.narrative.headline, report.facts).startswith("Mean reward rose by +0.0985 per step")
    for part in (
        "6 agents",
        "15 messages were rejected from 1 Jan 2026 00:05:05 to 06:05:05 UTC (of all tasks, by the log's clock)",
        "by rule obs_bounds (12 messages)",
        "v7 (100 %)",
        "Of the parts of the reward, the throughput part rose by 0.0985 per step",
        "no change is shown in the latency part and the cost part",
    ):
        assert part in text
    assert report.facts.subject == "1 Jan 2026, 00:00 to 06:00 UTC"
    assert span(START, START + 24 * HOUR) == "1 Jan 2026, 00:00 to 2 Jan 2026, 00:00 UTC"


def test_that_nothing_was_rejected_is_said_of_a_time_and_only_of_the_intervals_own() -> None:
    total = fold(START, 0.5).totals()
    end_ms = START + 6 * HOUR
    live = interval_facts(CLOUD, total, None, RejectedCounts({}, START + 300_000, end_ms + 300_000))
    text = "No message of any task was rejected from 1 Jan 2026 00:05:00 to 06:05:00 UTC (by the log's clock)."
    assert text in said(live)
    for after_ms, until_ms in ((end_ms + 300_000, end_ms + 300_000), (end_ms + 99 * HOUR, end_ms + 105 * HOUR)):
        apart = interval_facts(CLOUD, total, None, RejectedCounts({}, after_ms, until_ms))
        assert "rejected" not in said(apart)
    imported = interval_facts(
        CLOUD, total, None, RejectedCounts({"finite": 500}, end_ms + 99 * HOUR, end_ms + 105 * HOUR)
    )
    assert "500 messages were rejected from 5 Jan 2026 09:00:00 to 15:00:00 UTC (of all tasks" in said(imported)
    assert "rejected" not in said(interval_facts(CLOUD, total, None))


LEAD = IngestProgress((IngestPosition(-1, lags=False),), {}, 5_000)
"""Nothing is left to ingest, so that the windows told alone say how far the stream is."""


def told(
    timeline: Timeline, windows: list[tuple[str, int]], first: int = 0, progress: IngestProgress = LEAD
) -> list[ClosedInterval]:
    """Tell windows of (task, five-minute slot), one an offset, and ask after each."""
    closed: list[ClosedInterval] = []
    for offset, (task, slot) in enumerate(windows, first):
        spec = TaskSpec(task, ("a",), ("x",), 300_000)
        one = summary(START + slot * 300_000, task=task, terms=0)
        timeline.add(spec, one, offset, START + offset * 1_000)
        closed += timeline.close(progress, offset + 1)
    return closed


def test_an_interval_closes_when_its_last_window_is_told_and_nothing_is_left_to_ingest() -> None:
    timeline = Timeline(HOUR)
    assert told(timeline, [("a", slot) for slot in range(11)]) == []
    (closed,) = told(timeline, [("a", 11)], 11)
    assert closed.current.rows == 12 * 60
    assert closed.previous is None
    assert timeline.hold() == 0
    (second,) = told(timeline, [("a", 12), ("a", 3), ("a", 13), ("a", 24)], 12)
    assert second.unreported == 1
    assert second.previous is not None
    assert timeline.hold() == 12


@pytest.mark.parametrize(
    ("place", "passed"),
    [
        (IngestPosition(START + HOUR + 5_000, lags=True), True),
        (IngestPosition(START + HOUR + 4_999, lags=True), False),
        (IngestPosition(-1, lags=True), False),
        (IngestPosition(-1, lags=False), True),
        (IngestPosition(START + HOUR + 4_999, lags=False), False),  # its last window is untold, and may be soon
        (IngestPosition(START + HOUR - 400_000, lags=False), True),  # nobody sends there any more
    ],
)
def test_every_partition_must_be_past_the_interval(place: IngestPosition, passed: bool) -> None:
    ahead = IngestPosition(START + HOUR + 6_000, lags=False)
    assert IngestProgress((ahead, place), {}, 5_000).passed(START + HOUR, 300_000, 0) is passed
    assert not IngestProgress((IngestPosition(START + HOUR, lags=False),) * 2, {}, 5_000).passed(
        START + HOUR, 300_000, 0
    )


@pytest.mark.parametrize(
    ("window_ms", "length_ms"), [(300_000, HOUR), (7 * 60_000, 63 * 60_000), (24 * HOUR, 24 * HOUR), (1, HOUR)]
)
def test_an_interval_begins_and_ends_with_a_window(window_ms: int, length_ms: int) -> None:
    assert whole_windows_ms(HOUR, window_ms) == length_ms
    timeline, spec = Timeline(HOUR), TaskSpec("a", ("a",), ("x",), window_ms)
    start_ms = START - START % window_ms
    for offset in range(2):
        one = msgspec.structs.replace(
            summary(start_ms + offset * length_ms, task="a", terms=0), end_ms=start_ms + offset * length_ms + window_ms
        )
        timeline.add(spec, one, offset, START + offset)
    closed = timeline.close(IngestProgress((IngestPosition(START + 99 * HOUR, lags=False),), {}, 0), 2)
    for one in (shown.current for shown in closed):
        assert one.start_ms % window_ms == one.end_ms % window_ms == 0
        assert one.end_ms - one.start_ms == length_ms
    assert len(closed) == 2


@pytest.mark.parametrize(
    ("rows", "before", "comparable"),
    [
        # The rows of each of four windows, of six agents. A row more by each of them may be due to the bounds.
        ((60, 60, 60, 60), (60, 60, 60, 60), True),
        ((60, 60, 60, 66), (60, 60, 60, 60), False),
        ((60, 60, 60, 67), (60, 60, 60, 60), True),
        ((60, 60, 60, 60), (0, 60, 60, 60), False),  # the task began in the interval before
        ((0, 0, 60, 60), (60, 60, 60, 60), True),
        ((60, 60, 60, 60), (0, 120, 0, 60), True),  # a window without rows is nothing new there
    ],
)
def test_rows_are_compared_where_their_change_is_not_the_bounds(
    rows: tuple[int, ...], before: tuple[int, ...], comparable: bool
) -> None:
    def total(start_ms: int, each: tuple[int, ...]) -> Totals:
        windows = {start_ms + place * HOUR: (count, 0.0) for place, count in enumerate(each)}
        return replace(fold(start_ms, 0.5).totals(), rows=sum(each), windows=windows)

    assert rows_comparable(total(START + 4 * HOUR, rows), total(START, before)) is comparable


def test_tasks_do_not_close_each_other() -> None:
    timeline = Timeline(HOUR)
    assert told(timeline, [("a", 1), ("b", 1), ("a", 5)]) == []
    assert [one.spec.task for one in told(timeline, [("b", 30)], 3)] == ["b"]
    assert timeline.hold() == 0


def test_reading_again_from_the_hold_closes_the_same_intervals() -> None:
    """What was reported closes where it did, however late and however often one asks."""
    rng = np.random.default_rng(0)
    windows = [("ab"[rng.integers(2)], max(0, int(slot / 2 + rng.normal(0, 3)))) for slot in range(200)]
    whole = Timeline(HOUR)
    places: list[ClosedInterval] = []
    holds: list[int] = []
    for offset, window in enumerate(windows):
        places += told(whole, [window], offset)
        hold = whole.hold()
        holds.append(offset + 1 if hold is None else hold)
    for restart in (40, 90, 130, 170):
        reported: dict[tuple[str, int], Closing] = {
            (one.spec.task, one.current.start_ms): one.closing for one in places if one.closing.offset <= restart
        }
        again = Timeline(HOUR, lambda task, start_ms, reported=reported: reported.get((task, start_ms)))  # type: ignore[misc]
        first = holds[restart - 1]
        assert told(again, windows[first:restart], first, LAGGING) == []
        found = [one for place in range(restart, 200) for one in told(again, [windows[place]], place)]
        assert [shape(one) for one in found] == [shape(one) for one in places if one.closing.offset > restart]


LAGGING = IngestProgress((IngestPosition(-1, lags=True),), {}, 5_000)


def test_append_times_are_told_without_gap_or_overlap() -> None:
    timeline = Timeline(HOUR)
    closed = told(timeline, [("a", slot) for slot in range(37)])
    spans = [one.appended_ms for one in closed]
    assert spans == [
        (START - 300_000, START + 11_000),
        (START + 11_000, START + 23_000),
        (START + 23_000, START + 35_000),
    ]
    assert timeline.pending_ms() == START + 35_000 - HOUR


def test_intervals_that_are_closed_together_tell_of_their_own_append_times() -> None:
    timeline = Timeline(HOUR)
    assert told(timeline, [("a", slot) for slot in range(37)], progress=LAGGING) == []
    assert [one.appended_ms[1] - START for one in timeline.close(LEAD, 37)] == [12_000, 24_000, 36_000]


def shape(one: ClosedInterval) -> tuple[object, ...]:
    before = one.previous.rows if one.previous else None
    return (one.closing, one.spec.task, one.current.start_ms, one.current.rows, before, one.unreported, one.appended_ms)


def test_a_silent_task_is_closed_and_let_go() -> None:
    timeline = Timeline(HOUR)
    told(timeline, [("a", 0)])
    later = summary(START + 60 * 300_000, task="b", terms=0)
    timeline.add(TaskSpec("b", ("a",), ("x",), 300_000), later, 1, START + 3 * HOUR)
    assert timeline.looks_over()
    assert timeline.close(LAGGING, 2) == []
    assert [one.spec.task for one in timeline.close(LEAD, 2)] == ["a"]
    assert timeline.hold() == 1


def test_an_interval_says_that_agents_explore_and_whether_versions_changed() -> None:
    before, same, other = (fold(START, 0.5, version=number).totals() for number in (5, 5, 7))
    assert "the same as in the interval before" in said(interval_facts(CLOUD, same, before))
    assert "not the same as in the interval before" in said(interval_facts(CLOUD, other, before))
    assert "the agents' own exploration" in said(interval_facts(CLOUD, same, None))
