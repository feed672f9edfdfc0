"""What a version's report can be borne out by: its simulator's traces, or else the last rows that it learned from."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headrace.learners.acting import BoxPolicy, Policy, load_policy
from headrace.learners.explain.evidence import ContinuousDecisions, RecordedDecisions, VersionEvidence
from headrace.learners.explain.reliance import reliance
from headrace.learners.explain.rows import SampledRows
from headrace.learners.explain.simulation import Simulator, measure_of, task_simulator
from headrace.learners.explain.timeline import ClosedInterval
from headrace.learners.judge.observed import observed_returns
from headrace.learners.judge.trial import as_acting
from headrace.schemas.errors import CorruptDataError, EnvironmentFailedError, UnknownPolicyError
from headrace.schemas.records import ChunkReference, PolicyVersion, TaskSpec
from headrace.schemas.transition import TransitionBatch

logger = logging.getLogger(__name__)

MAX_DECISIONS = 4_096
"""Decisions that a version is judged by where there is no simulator: the last ones it learned from."""
MAX_CHUNKS = 16


class Witness:
    """Gathers evidence. weights: of a task's version; transitions: of chunks by reference."""

    def __init__(
        self,
        weights: Callable[[str, int], bytes],
        transitions: Callable[[Sequence[ChunkReference]], list[TransitionBatch]],
    ) -> None:
        self._weights = weights
        self._transitions = transitions

    def evidence(self, spec: TaskSpec, version: PolicyVersion, earlier: list[PolicyVersion]) -> VersionEvidence:
        """Run the version and the one that served before it where a simulator is; else look at what it decides.

        Returns are of policies as agents act by them, as the gate has it; decisions are of what they hold for the best.
        """
        before = next((one.version for one in reversed(earlier) if one.promoted), None)
        policy = self._policy(spec, version.version)
        world = self._world(spec)
        previous = None if before is None else self._policy(spec, before)
        if policy is not None and world is not None:
            try:
                found = self._simulated(version, before, policy, previous, world)
                return replace(found, relies=_relies(spec, policy, found.decisions))
            except EnvironmentFailedError as error:
                logger.warning("%s@%d cannot be run: %s", spec.task, version.version, error)
        return self._recorded(spec, version, before, policy, previous)

    def recorded(self, spec: TaskSpec, version: PolicyVersion, before: int | None) -> VersionEvidence:
        """Look at what the version decides, and the one before it, on rows alone: that takes no simulator."""
        previous = None if before is None else self._policy(spec, before)
        return self._recorded(spec, version, before, self._policy(spec, version.version), previous)

    def _recorded(
        self,
        spec: TaskSpec,
        version: PolicyVersion,
        before: int | None,
        policy: Policy | BoxPolicy | None,
        previous: Policy | BoxPolicy | None,
    ) -> VersionEvidence:
        rows = self.rows(version.references)
        observed = next((one for one in observed_returns(rows) if one.version == before), None)
        decisions = None if policy is None else decided(policy, previous, rows)
        draws = policy is not None and as_acting(policy) is not policy
        relies = _relies(spec, policy, decisions)
        return VersionEvidence(
            version.version, before, decisions=decisions, observed=observed, draws=draws, relies=relies
        )

    def rows(self, references: Sequence[ChunkReference]) -> list[TransitionBatch]:
        """Return the rows of the last chunks, each once; none where they cannot be read."""
        grown = {reference.key: reference for reference in references}
        try:
            return self._transitions([*grown.values()][-MAX_CHUNKS:])
        except CorruptDataError as error:
            logger.warning("rows that a report would tell of cannot be read: %s", error)
            return []

    def sampled(self, spec: TaskSpec, closed: ClosedInterval) -> SampledRows | None:
        """Read rows of an interval and of the one before, where their summaries do not tell enough."""
        current, previous = closed.current, closed.previous
        versions = {*current.versions, *(previous.versions if previous else ())}
        if spec.discrete and len(versions) < 2:
            return None
        parts = [total.references for total in (current, previous) if total is not None]
        return SampledRows(*(self.rows(spaced(references, MAX_CHUNKS)) for references in parts))

    def _simulated(
        self,
        version: PolicyVersion,
        before: int | None,
        policy: Policy | BoxPolicy,
        previous: Policy | BoxPolicy | None,
        world: Simulator,
    ) -> VersionEvidence:
        acts, found = as_acting(policy), world.decisions(policy)
        decisions = decided(policy, previous, self.rows(version.references)) if found is None else None
        if found is not None and isinstance(previous, Policy):
            found = replace(found, shadows=_serving(previous, found.obs) | {**found.shadows})
        return VersionEvidence(
            version.version,
            before,
            world.outcomes(acts),
            None if previous is None else world.outcomes(as_acting(previous)),
            world.baselines(),
            found or decisions,
            {"episode": world.episode(policy, f"v{version.version}")},
            draws=acts is not policy,
            familiar=world.familiar,
        )

    def _world(self, spec: TaskSpec) -> Simulator | None:
        try:
            return task_simulator(spec)
        except EnvironmentFailedError as error:
            logger.warning("task %s has no simulator: %s", spec.task, error)
            return None

    def _policy(self, spec: TaskSpec, version: int) -> Policy | BoxPolicy | None:
        """Return a version's policy; None for one that does not fit the task, or is gone."""
        try:
            policy = load_policy(self._weights(spec.task, version))
        except (ValueError, CorruptDataError, UnknownPolicyError) as error:
            logger.warning("%s@%d cannot be asked what it would do: %s", spec.task, version, error)
            return None
        fits = (policy.observation_width, policy.actions) == (spec.width, spec.action_count)
        return policy if fits and isinstance(policy, Policy) == spec.discrete else None


def spaced(references: Sequence[ChunkReference], count: int) -> Sequence[ChunkReference]:
    """Return so many of the references, evenly spaced, or all."""
    return references[:: -(-len(references) // count) or 1]


def decided(
    policy: Policy | BoxPolicy, previous: Policy | BoxPolicy | None, rows: Sequence[TransitionBatch]
) -> RecordedDecisions | ContinuousDecisions | None:
    """Let a version, and the one before it, decide on rows, evenly spaced ones; None where there are none."""
    if not rows:
        return None
    every = -(-sum(map(len, rows)) // MAX_DECISIONS)
    obs, next_obs = (np.concatenate([getattr(one, name) for one in rows])[::every] for name in ("obs", "next_obs"))
    if isinstance(policy, BoxPolicy):
        low, high = policy.bounds
        actions, following = (policy.act(seen).astype(np.float64) for seen in (obs, next_obs))
        before = previous.act(obs).astype(np.float64) if isinstance(previous, BoxPolicy) else None
        return ContinuousDecisions(obs, actions, following, low, high, before)
    shadows = _serving(previous, obs) if isinstance(previous, Policy) else {}
    return RecordedDecisions(obs, policy.q_values(obs).astype(np.float64), shadows, measure=measure_of(policy))


def _relies(
    spec: TaskSpec, policy: Policy | BoxPolicy | None, decisions: RecordedDecisions | ContinuousDecisions | None
) -> dict[str, float]:
    return {} if policy is None or decisions is None else reliance(policy, spec.observations, decisions.obs)


def _serving(previous: Policy, obs: NDArray[np.float32]) -> dict[str, NDArray[np.int64]]:
    return {"serving": np.asarray(previous.q_values(obs).argmax(axis=1), np.int64)}
