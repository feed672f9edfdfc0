"""Policies: a version, what it was judged by, and what serves."""

from typing import Any, Final, Literal

from msgspec import UNSET, Struct, UnsetType

from headrace.schemas.canary import Canary
from headrace.schemas.records.stream import ChunkReference


class Interval(Struct, frozen=True):
    """A mean and its confidence interval: of 95 %, where a record's `judged` does not tell another level."""

    mean: float
    low: float
    high: float


UNKNOWN_ROW: Final = -1
"""The first new row of a reference where a record of the first format does not say it."""


class LineageEntry(Struct, frozen=True, array_like=True):
    """A reference that a version learned from.

    first_row: the first of its rows that was new. window: the number of the window that brought it, from 0 since the
    version's parent: updates fall due between two windows.
    """

    reference: ChunkReference
    first_row: int
    window: int


class Judgement(Struct, frozen=True):
    """How the gate compared a candidate with its opponent.

    opponent: the version that served, 0 for the floor baseline. number: the candidate's place among those that met
    this opponent. alpha: the error that it might spend, one-sided; the record's interval has level 1 - 2 alpha. seed:
    of the fresh traces, of which there were `traces`; taken: so many were needed, the first ones.
    """

    opponent: int
    number: int
    alpha: float
    seed: int
    traces: int
    taken: int


class DataEvidence(Struct, frozen=True):
    """The rows that judged a version. effective_rows: of them, those that show its own decisions.

    groups: of episodes or agents, the independent units.
    """

    estimator: str
    rows: int
    effective_rows: float
    groups: int


class PolicyVersion(Struct, frozen=True):
    """A trained version, as the policy store keeps it beside the weights: where it came from and how it did.

    parent: the version whose training this one went on from, None where it began from the seed.
    lineage: what it learned from since its parent, in the order in which it was taken in.
    complete: False where chunks were lost before a restart, and replay was begun anew: it can't be retrained.
    evaluation: mean returns on the gate's fixed traces, by policy ("policy", "serving", baselines): of policies it is
    the floor's mean there and the difference to it on the traces that they were judged on. judged: how that was done.
    by_data: the rows that judged it instead, by discounted returns ("policy"; "serving" or "agents", what these did).
    refusals: how many candidates in a row the gate has refused, this one included. went_back_to: the version by whose
    weights learning went on after the parent, as too many were refused; what the parent holds beside them it kept.
    outcomes: by policy and name, where the task declares any, on the fresh traces that judged it.
    """

    task: str
    version: int
    parent: int | None
    algorithm: str
    config: dict[str, Any]
    seed: int
    code_version: str
    weights_hash: str
    environment_steps: int
    updates: int
    lineage: list[LineageEntry]
    evaluation: dict[str, float]
    difference: Interval | None
    promoted: bool
    reason: str
    complete: bool = True
    judged: Judgement | None = None
    by_data: DataEvidence | None = None
    refusals: int = 0
    went_back_to: int | None = None
    outcomes: dict[str, dict[str, float]] | UnsetType = UNSET
    schema_version: Literal[2] = 2

    @property
    def references(self) -> list[ChunkReference]:
        """The chunks that it learned from, in order."""
        return [entry.reference for entry in self.lineage]


class ServingPolicy(Struct, frozen=True):
    """The `policies` record: what serves a task now, who or what decided, and why. No weights.

    version: 0 where none serves. held: whether `learn` may not promote another until it is released. canary: what a
    share of the agents tries; `acts_by` in policy_versions.py tells which of the agents.
    """

    task: str
    version: int
    weights_hash: str
    decided_by: str
    reason: str
    ts: int
    held: bool = False
    canary: Canary | None = None
    schema_version: Literal[1] = 1
