"""What a version's report is borne out by where no simulator is."""

import numpy as np
from numpy.testing import assert_allclose
from test_explain_facts import said
from test_explain_rows import ARM, batch
from test_explain_samples import version

from headrace.learners.acting import BoxPolicy, Policy
from headrace.learners.checkpoint import pack
from headrace.learners.explain.evidence import ContinuousDecisions, RecordedDecisions
from headrace.learners.explain.facts import version_facts
from headrace.learners.explain.simulation import task_simulator
from headrace.learners.explain.template import TemplateNarrator
from headrace.learners.explain.witness import Witness, decided, spaced
from headrace.schemas.grounding import problems
from headrace.schemas.records import ChunkReference, TaskSpec


def box(gain: float) -> BoxPolicy:
    """The action is `gain` times the first feature, within -2 and 2."""
    return BoxPolicy(
        {
            "mean.weight": np.array([[gain]], np.float32),
            "mean.bias": np.zeros(1, np.float32),
            "log_std": np.zeros(1, np.float32),
            "action.low": np.array([-2.0], np.float32),
            "action.high": np.array([2.0], np.float32),
        }
    )


def test_a_continuous_version_and_the_one_before_decide_on_the_same_rows() -> None:
    rows = batch(np.zeros((40, 1), np.float32), 0.0, 1)
    rows.obs[:] = np.linspace(-3.0, 3.0, 40, dtype=np.float32)[:, None]
    rows.next_obs[:] = rows.obs + 0.1
    found = decided(box(1.0), box(0.0), [rows])
    assert isinstance(found, ContinuousDecisions)
    assert_allclose(found.actions, np.clip(rows.obs, -2.0, 2.0), atol=1e-6)
    assert_allclose(found.following, np.clip(rows.next_obs, -2.0, 2.0), atol=1e-6)
    assert found.before is not None
    assert_allclose(found.before, 0.0)
    assert (found.low[0], found.high[0], found.range[0]) == (-2.0, 2.0, 4.0)
    assert decided(box(1.0), None, []) is None


def test_a_discrete_version_is_shadowed_by_the_one_before() -> None:
    def policy(left: float) -> Policy:
        weight = np.array([[left, 1.0]], np.float32)
        return Policy({"logits.weight": weight, "logits.bias": np.zeros(2, np.float32)})

    rows = batch(np.zeros(40, np.int32), 0.0, 1)
    rows.obs[:] = 1.0
    found = decided(policy(0.0), policy(2.0), [rows])
    assert isinstance(found, RecordedDecisions)
    assert set(found.actions) == {1}
    assert set(found.shadows["serving"]) == {0}


def test_a_version_is_told_as_agents_act_by_it() -> None:
    """Of nearly equal logits: draws balance it for a while, its best action alone pushes one way until it falls."""
    arrays = {"logits.weight": np.zeros((4, 2), np.float32), "logits.bias": np.array([0.1, 0.0], np.float32)}
    spec = TaskSpec("t", ("x", "v", "angle", "turn"), ("left", "right"), 1_000, environment="CartPole-v1")
    found = Witness(lambda _task, _version: pack(arrays), lambda _references: []).evidence(spec, version(1, "t"), [])
    assert found.draws
    assert found.policy is not None
    greedily = task_simulator(spec).outcomes(Policy(arrays))  # type: ignore[union-attr]
    assert found.policy.returns.mean() > 1.5 * greedily.returns.mean()
    facts = version_facts(spec, version(1, "t"), found)
    assert "Agents draw its actions, and the returns here are of such draws; the" in said(facts)
    assert problems(TemplateNarrator().tell(facts), facts) == []


def test_a_chunk_that_had_grown_is_read_once_and_as_far_as_it_had() -> None:
    asked: list[list[ChunkReference]] = []

    def transitions(references: list[ChunkReference]) -> list[object]:
        asked.append(references)
        return []

    first, grown = (ChunkReference("t", 0, 0, 0, 0, 0, rows, rows) for rows in (10, 20))
    other = ChunkReference("t", 1, 0, 0, 0, 0, 5, 5)
    Witness(lambda _task, _version: b"", transitions).rows([first, other, grown])  # type: ignore[arg-type]
    assert sorted(asked[0]) == [grown, other]


def test_references_are_taken_evenly_spaced() -> None:
    references = [ChunkReference("t", 0, place, 0, 0, 0, 1, 1) for place in range(10)]
    assert [one.start_ms for one in spaced(references, 4)] == [0, 3, 6, 9]
    assert spaced([], 4) == []
    assert spaced(references, 16) == references


def test_what_a_version_relies_on_is_told() -> None:
    """The action is the angle, and nothing else is seen."""
    rows = batch(np.zeros((40, 1), np.float32), 0.0, 1)
    rows.obs[:] = np.linspace(-3.0, 3.0, 40, dtype=np.float32)[:, None]
    arrays = {"mean.weight": np.ones((1, 1)), "mean.bias": np.zeros(1), "log_std": np.zeros(1)}
    packed = pack({name: value.astype(np.float32) for name, value in arrays.items()})
    found = Witness(lambda _task, _version: packed, lambda _references: [rows]).evidence(ARM, version(1, "arm"), [])
    facts = version_facts(ARM, version(1, "arm"), found)
    assert "Its decisions rely most on angle (100 %)." in said(facts)
