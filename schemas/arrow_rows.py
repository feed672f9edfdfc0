"""Transitions as Arrow record batches of one schema, for readers: rows of any agents, a batch after another."""

from typing import Any

import numpy as np
import pyarrow as pa

from headrace.schemas.codec_arrow import required_of, terms_of
from headrace.schemas.records import TaskSpec
from headrace.schemas.transition import NO_POLICY_VERSION, TransitionBatch


def record_batch(batch: TransitionBatch, spec: TaskSpec) -> pa.RecordBatch:
    """Write rows, of any agents, as a record batch of the task's schema (`schema_of`)."""
    count = len(batch)
    columns: dict[str, Any] = {
        "schema_version": pa.array(np.ones(count, np.int8)),
        "task": pa.array([batch.task] * count, pa.string()),
        "agent_id": pa.array([batch.agents[code] for code in batch.agent.tolist()], pa.string()),
        "episode_id": pa.array([batch.episodes[code] for code in batch.episode.tolist()], pa.string()),
        **required_of(batch),
        "policy_version": pa.array(batch.policy_version, mask=batch.policy_version == NO_POLICY_VERSION),
        "log_prob": pa.array(batch.log_prob, from_pandas=True),
    }
    if spec.reward_terms:
        columns["reward_terms"] = terms_of(batch, spec)
    return pa.record_batch(columns)


def schema_of(spec: TaskSpec) -> pa.Schema:
    """Return the schema that every record batch of a task has."""
    ints, floats = np.zeros(0, np.int64), np.zeros(0, np.float32)
    action = np.zeros(0, np.int32) if isinstance(spec.actions, tuple) else np.zeros((0, spec.action_count), np.float32)
    obs, terms = np.zeros((0, spec.width), np.float32), np.zeros((0, len(spec.reward_terms)), np.float32)
    codes, flags = np.zeros(0, np.int32), np.zeros(0, np.bool_)
    names = (spec.task, (), (), codes, codes)
    empty = TransitionBatch(*names, ints, ints, ints, obs, action, floats, obs, flags, flags, terms, ints, floats)
    return record_batch(empty, spec).schema
