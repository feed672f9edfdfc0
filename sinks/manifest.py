"""What policy stores have in common: a version's manifest as bytes, and checksums."""

import hashlib

import msgspec

from headrace.schemas.errors import StorageError
from headrace.schemas.policy_versions import read_policy_version
from headrace.schemas.records import PolicyVersion


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
