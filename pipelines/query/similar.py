"""When did we last see this, and what happened? The sampled decisions nearest to an observation, and what followed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.schemas.chunk import decode_chunk
from headrace.schemas.codec import to_records
from headrace.schemas.decisions import MOST_SIMILAR, vectors_of
from headrace.schemas.errors import SettingsError
from headrace.schemas.partition import group_of
from headrace.schemas.ports import Index
from headrace.schemas.records import TaskSpec
from headrace.schemas.transition import TransitionBatch

FOLLOWED_WINDOWS: Final = 64
"""What followed a decision is looked for in so many windows from its own on."""


@dataclass(frozen=True, slots=True)
class StepKey:
    """One decision: its agent, episode and step."""

    agent_id: str
    episode_id: str
    step: int

    def __str__(self) -> str:
        """Write it as it is typed."""
        return f"{self.agent_id}/{self.episode_id}/{self.step}"


def observation(values: Sequence[float], spec: TaskSpec) -> NDArray[np.float32]:
    """Return float32[D]; raises SettingsError where the numbers are no observation of the task."""
    with np.errstate(over="ignore"):
        obs = np.array(values, np.float32)
    if len(obs) != spec.width:
        names = ", ".join(spec.observations[:8]) + (", ..." if spec.width > 8 else "")
        raise SettingsError(f"an observation of {spec.task} has {spec.width} numbers ({names}), {len(obs)} were given")
    if (fault := not_finite(obs, np.array(values), spec)) is not None:
        raise SettingsError(fault)
    return obs


def not_finite(obs: NDArray[np.float32], sent: NDArray[np.float64], spec: TaskSpec) -> str | None:
    """Say what of float32[..., D] is no finite number, None where all are; sent: the numbers that they were."""
    finite = np.isfinite(obs)
    if finite.all():
        return None
    place = tuple(np.argwhere(~finite)[0])
    return f"{spec.observations[place[-1]]} is {sent[place]}: an observation holds finite 32-bit numbers alone"


def observation_at(index: Index, spec: TaskSpec, place: StepKey) -> NDArray[np.float32]:
    """Return float32[D], what the agent saw there; raises SettingsError where the index has no such transition."""
    for rows in _episode(index, spec, place):
        found = np.flatnonzero(rows.step == place.step)
        if len(found):
            obs: NDArray[np.float32] = rows.obs[found[0]]
            return obs
    raise SettingsError(
        f"the index has no transition {place} of {spec.task}: `headrace query transitions --task {spec.task} "
        f"--agent {place.agent_id}` lists what it has"
    )


def similar(
    index: Index, spec: TaskSpec, obs: NDArray[np.float32], *, limit: int, steps: int, apart: StepKey | None = None
) -> Iterator[dict[str, Any]]:
    """Give at most `limit` sampled decisions, those nearest to float32[D] first, as JSON objects.

    Each is the transition with its `distance` (0: the same; 1: every feature differs by its whole range) and what
    `followed` in the next `steps` of its episode. apart: a decision that is left out.
    """
    asked = min(limit + (apart is not None), MOST_SIMILAR)
    found = index.decisions.similar(spec.task, vectors_of(obs[np.newaxis], spec)[0], asked)
    if found is None:
        return
    for record, distance in zip(to_records(found.rows, spec), found.distances.tolist(), strict=True):
        place = StepKey(record["agent_id"], record["episode_id"], record["step"])
        if place != apart and limit:
            limit -= 1
            yield {"distance": distance, **record, "followed": followed(index, spec, record, steps)}


def followed(index: Index, spec: TaskSpec, decision: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return what came in the next `steps` of a decision's episode, as far as the index holds them.

    steps: how many were found. actions: what was chosen in them. reward_sum, reward_terms: sums over them. end:
    whether the episode was terminated or truncated, in them or by the decision itself; None where it went on.
    """
    end = _end(decision)
    later: dict[int, dict[str, Any]] = {}
    if end is None:
        place = StepKey(decision["agent_id"], decision["episode_id"], decision["step"])
        later = _later(index, spec, place, decision["ts"], steps)
    rows = [later[step] for step in sorted(later)]
    terms = [row.get("reward_terms", {}) for row in rows]
    return {
        "steps": len(rows),
        "actions": [row["action"] for row in rows],
        "reward_sum": fsum(row["reward"] for row in rows),
        "reward_terms": {
            name: fsum(one[name] for one in terms if name in one)
            for name in spec.reward_terms
            if any(name in one for one in terms)
        },
        "end": end or next(filter(None, map(_end, rows)), None),
    }


def _end(row: dict[str, Any]) -> str | None:
    return "terminated" if row["terminated"] else "truncated" if row["truncated"] else None


def _later(index: Index, spec: TaskSpec, place: StepKey, ts: int, steps: int) -> dict[int, dict[str, Any]]:
    """Return the rows of the next `steps` steps, by step; reads on until they are there, or the episode's end is."""
    start_ms = ts // spec.window_ms * spec.window_ms
    wanted = set(range(place.step + 1, place.step + 1 + steps))
    found: dict[int, dict[str, Any]] = {}
    for rows in _episode(index, spec, place, start_ms, start_ms + FOLLOWED_WINDOWS * spec.window_ms):
        near = rows.take((rows.step > place.step) & (rows.step <= place.step + steps))
        for row in to_records(near, spec):
            if found.setdefault(row["step"], row) is row and _end(row):
                wanted = {step for step in wanted if step <= row["step"]}
        if wanted <= found.keys():
            break
    return {step: row for step, row in found.items() if step in wanted}


def _episode(
    index: Index, spec: TaskSpec, place: StepKey, start_ms: int | None = None, end_ms: int | None = None
) -> Iterator[TransitionBatch]:
    """Stream an episode's transitions, chunk by chunk in key order."""
    group = group_of(place.agent_id, spec.groups)
    for row in index.scan(spec.task, start_ms, end_ms, group=group):
        batch = decode_chunk(row.payload, row.checksum, row.reference)
        if place.agent_id in batch.agents and place.episode_id in batch.episodes:
            agent, episode = batch.agents.index(place.agent_id), batch.episodes.index(place.episode_id)
            yield batch.take((batch.agent == agent) & (batch.episode == episode))
