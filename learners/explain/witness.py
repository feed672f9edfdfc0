"""What a version's report can be borne out by: its simulator's traces, or else the last rows that it learned from."""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from headrace.learners.acting import Policy
from headrace.learners.explain.evidence import RecordedDecisions, VersionEvidence
from headrace.learners.explain.simulation import measure_of, simulator
from headrace.schemas.errors import CorruptDataError, UnknownPolicyError
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
        world = simulator(spec.environment)
        if policy is None:
            return VersionEvidence(version.version, before)
        if world is None:
            return VersionEvidence(version.version, before, decisions=self._decisions(policy, version))
        previous = None if before is None else self._policy(spec, before)
        return VersionEvidence(
            version.version,
            before,
            world.outcomes(policy),
            None if previous is None else world.outcomes(previous),
            world.baselines(),
            world.decisions(policy),
            {"episode": world.episode(policy, f"v{version.version}")},
        )

    def _policy(self, spec: TaskSpec, version: int) -> Policy | None:
        """Return a version that can be asked for values; None for one that is of another kind, or gone."""
        if not spec.discrete:  # a continuous policy gives the action itself, and compares none
            return None
        try:
            policy = Policy.from_bytes(self._weights(spec.task, version))
        except (ValueError, CorruptDataError, UnknownPolicyError) as error:
            logger.warning("%s@%d cannot be asked what it would do: %s", spec.task, version, error)
            return None
        return policy if (policy.observation_width, policy.actions) == (spec.width, spec.action_count) else None

    def _decisions(self, policy: Policy, version: PolicyVersion) -> RecordedDecisions | None:
        """Let the version decide on the last rows that it learned from."""
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
