"""What a version's report can be borne out by: its simulator's traces, or else the last rows that it learned from."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from headrace.learners.acting import BoxPolicy, Policy, load_policy
from headrace.learners.explain.evidence import RecordedDecisions, VersionEvidence
from headrace.learners.explain.simulation import Simulator, measure_of, task_simulator
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
        """Run the version and the one that served before it where a simulator is; else look at what it decides."""
        before = next((one.version for one in reversed(earlier) if one.promoted), None)
        policy = self._policy(spec, version.version)
        world = self._world(spec)
        if policy is None:
            return VersionEvidence(version.version, before)
        previous = None if before is None else self._policy(spec, before)
        try:
            if world is not None:
                return self._simulated(version.version, before, policy, previous, world)
        except EnvironmentFailedError as error:
            logger.warning("%s@%d cannot be run: %s", spec.task, version.version, error)
        return VersionEvidence(version.version, before, decisions=self._decisions(policy, version))

    def _simulated(
        self,
        version: int,
        before: int | None,
        policy: Policy | BoxPolicy,
        previous: Policy | BoxPolicy | None,
        world: Simulator,
    ) -> VersionEvidence:
        return VersionEvidence(
            version,
            before,
            world.outcomes(policy),
            None if previous is None else world.outcomes(previous),
            world.baselines(),
            world.decisions(policy),
            {"episode": world.episode(policy, f"v{version}")},
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

    def _decisions(self, policy: Policy | BoxPolicy, version: PolicyVersion) -> RecordedDecisions | None:
        """Let the version decide on the last rows that it learned from; a continuous one compares no actions."""
        if isinstance(policy, BoxPolicy):
            return None
        references = version.references[-MAX_CHUNKS:]
        try:
            batches = self._transitions(references)
        except CorruptDataError as error:
            logger.warning("%s@%d: its last rows cannot be read: %s", version.task, version.version, error)
            return None
        if not batches:
            return None
        obs = np.concatenate([batch.obs for batch in batches])
        obs = obs[:: -(-len(obs) // MAX_DECISIONS)]
        return RecordedDecisions(obs, policy.q_values(obs).astype(np.float64), measure=measure_of(policy))
