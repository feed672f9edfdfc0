"""Arrays and their metadata as bytes (safetensors, never pickle), and a hash of the arrays alone."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from headrace.schemas.errors import CorruptDataError

_META = "headrace"
_KINDS = "biuf"


def pack(arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any] | None = None) -> bytes:
    """Serialise arrays of any shape, and what JSON can hold, to safetensors; equal content gives equal bytes.

    Raises CorruptDataError for arrays that hold neither bools, integers nor floats.
    """
    # safetensors orders the entries of its metadata by a hash map: one entry keeps bytes stable.
    text = json.dumps(meta or {}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    ordered = {name: _canonical(name, arrays[name]) for name in sorted(arrays)}
    return safetensors.numpy.save(ordered, metadata={_META: text})


def unpack(payload: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The inverse of `pack`; the arrays are writable copies. Raises CorruptDataError for no safetensors file.

    A safetensors file from elsewhere loads with empty metadata.
    """
    try:
        arrays = safetensors.numpy.load(payload)
    except safetensors.SafetensorError as error:
        raise CorruptDataError(f"{len(payload)} bytes are not a safetensors file: {error}") from error
    header_size = int.from_bytes(payload[:8], "little")
    header = json.loads(payload[8 : 8 + header_size])
    meta = json.loads(header.get("__metadata__", {}).get(_META, "{}"))
    return {name: np.array(arrays[name]) for name in sorted(arrays)}, meta


def weights_hash(weights: bytes | Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 in hex over names (sorted), dtypes, shapes and little-endian bytes; not the metadata.

    Named arrays and what `pack` made of them give the same hash. Raises CorruptDataError as `unpack` and `pack` do.
    """
    arrays = unpack(weights)[0] if isinstance(weights, bytes) else weights
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = _canonical(name, arrays[name])
        # A JSON line names the array unambiguously; its shape and dtype fix how many bytes follow.
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode() + b"\n")
        digest.update(array.tobytes())
    return digest.hexdigest()


def _canonical(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The array in C order and little-endian."""
    array = np.asarray(array, order="C")
    if array.dtype.kind not in _KINDS:
        raise CorruptDataError(f"array {name}: dtype {array.dtype} cannot be stored; use bool, int or float")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def generator_to_meta(rng: np.random.Generator) -> dict[str, Any]:
    """A generator's place in its stream, for `pack`'s metadata."""
    state = dict(rng.bit_generator.state)
    # 128-bit numbers go as text: not every JSON reader keeps them.
    return state | {"state": {name: str(value) for name, value in state["state"].items()}}


def generator_from_meta(meta: Mapping[str, Any]) -> np.random.Generator:
    """The inverse of `generator_to_meta`."""
    rng = np.random.Generator(np.random.PCG64())
    rng.bit_generator.state = dict(meta) | {"state": {k: int(value) for k, value in meta["state"].items()}}
    return rng


def require_algorithm(meta: Mapping[str, Any], name: str) -> None:
    """Raise ValueError if a state's metadata is of another algorithm."""
    if meta.get("algorithm") != name:
        raise ValueError(f"expected a checkpoint of algorithm {name!r}, found {meta.get('algorithm')!r}")
