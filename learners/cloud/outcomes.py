"""The numbers that people know the service by, as they follow from what its agents tell.

Three are exact: the parts of the reward are the plant's own numbers. The latency is as the agents see it: with a noise
of 10 %, a step late, and at most four times the limit.
"""

from typing import Final

from headrace.learners.cloud.plant import (
    COST_WEIGHT,
    FEATURE_SCALES,
    P95,
    REPLICAS_MAX,
    REWARD_SCALE,
    THROUGHPUT_WEIGHT,
)
from headrace.schemas.records import Outcome, Share, Source

OUTCOMES: Final = (
    Outcome("time above the SLO", "%", "lower", Source(reward_term="latency"), Share(share_below=0.0)),
    Outcome(
        "average size",
        "replicas",
        "lower",
        Source(reward_term="cost"),
        "mean",
        scale=-REPLICAS_MAX / (REWARD_SCALE * COST_WEIGHT),
    ),
    Outcome(
        "dropped requests",
        "%",
        "lower",
        Source(reward_term="throughput"),
        "mean",
        scale=-100.0 / (REWARD_SCALE * THROUGHPUT_WEIGHT),
        offset=100.0,
    ),
    Outcome(
        "p95 latency as observed",
        "ms",
        "lower",
        Source(observation="p95_t", next=True),
        "mean",
        scale=FEATURE_SCALES[P95],
    ),
)
"""Replicas that are pending cost as those that are ready, and count; of the dropped requests the mean of the steps."""
