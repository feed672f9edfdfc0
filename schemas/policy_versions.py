"""Policy versions as stores keep them: format 2, and format 1, whose lineage lay in three lists. Who acts by which."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from headrace.schemas.canary import in_share
from headrace.schemas.errors import StorageError
from headrace.schemas.records import UNKNOWN_ROW, PolicyVersion, ServingPolicy

OPPONENTS: Final = {
    "serving": "what served",
    "best": "the best version so far",
    "agents": "what the agents did",
    "floor": "the floor",
}
"""Whom a gate compares a candidate with: as the keys of `evaluation` name it, and for people."""


class _Lineage(msgspec.Struct):
    """Of format 1. first_rows: of each reference, the first row that was new. windows: how many each window brought."""

    lineage: list[Any]
    first_rows: list[int] = []
    windows: list[int] = []


def read_policy_version(data: bytes | msgspec.Raw) -> PolicyVersion:
    """Return a version as it was stored, in this format or the one before; raises msgspec.MsgspecError."""
    fields = msgspec.json.decode(data)
    if isinstance(fields, dict) and fields.get("schema_version", 1) == 1:
        fields = with_one_lineage(fields) | {"schema_version": 2}
    return msgspec.convert(fields, PolicyVersion)


def with_one_lineage(fields: dict[str, Any]) -> dict[str, Any]:
    """Put the three lists of format 1 together to entries; raises msgspec.ValidationError where they are none.

    Records older still don't say which rows were new.
    """
    old = msgspec.convert(fields, _Lineage)
    first_rows, windows = old.first_rows, old.windows
    if not len(first_rows) == len(old.lineage) == sum(windows):
        first_rows, windows = [UNKNOWN_ROW] * len(old.lineage), [len(old.lineage)]
    numbers = [number for number, count in enumerate(windows) for _ in range(count)]
    return {**fields, "lineage": [*zip(old.lineage, first_rows, numbers, strict=True)]}


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def manifest_bytes(version: PolicyVersion) -> bytes:
    """Return a version's manifest as JSON: the same for the same version, and checked to be readable again."""
    data = msgspec.json.encode(version, order="deterministic")
    try:
        read_policy_version(data)
    except msgspec.MsgspecError as error:  # JSON has no NaN: it is written as null
        raise StorageError(
            f"policy {version.task}@{version.version}: its manifest can't be stored ({error}): every number in it must "
            "be finite"
        ) from error
    return data


def opponent_of(evaluation: Mapping[str, float]) -> str:
    """Return the key of the one that a version's `evaluation` says it was compared with: the floor where no other."""
    return next((name for name in OPPONENTS if name in evaluation), "floor")


def level_of(version: PolicyVersion) -> float | None:
    """Return the level of the interval of its difference, such as .95; None where the record doesn't tell it."""
    return None if version.judged is None else 1.0 - 2.0 * version.judged.alpha


def acts_by(record: ServingPolicy, agent_id: str) -> int:
    """Return the version that an agent acts by: the canary's where the agent belongs to its share; 0 for none."""
    canary = record.canary
    return canary.version if canary and in_share(canary, record.task, agent_id) else record.version
