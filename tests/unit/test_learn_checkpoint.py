"""Checkpoints: arrays and metadata to bytes and back, and the canonical hash."""

import hashlib

import numpy as np
import pytest

from headrace.learners.checkpoint import pack, unpack, weights_hash
from headrace.schemas.errors import CorruptDataError

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([True, False]),
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 4), np.int64),
    "strided": np.arange(24, dtype=np.float64).reshape(4, 6).T[::2],
    "big_endian": np.arange(3, dtype=">i4"),
}
META = {"z": 1, "a": [1, 2, {"x": None}], "text": "µ", "rate": 0.1}


def test_what_was_packed_comes_back():
    """Values, shapes and dtypes (little-endian) are equal, and the arrays can be written to."""
    arrays, meta = unpack(pack(ARRAYS, META))
    assert meta == META
    assert sorted(arrays) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array, strict=name != "big_endian")
        assert arrays[name].flags.writeable


def test_equal_content_gives_equal_bytes():
    """Neither the order of names nor that of the metadata's keys nor memory layout shows."""
    reordered = {name: np.asarray(ARRAYS[name], order="F") for name in reversed(ARRAYS)}
    assert pack(reordered, dict(reversed(META.items()))) == pack(ARRAYS, META)


def test_the_hash_equals_one_worked_out_by_hand():
    """The canonical form is a JSON line (name, dtype, shape), then the bytes, by name."""
    arrays = {"w": np.array([[1.0, 2.0]], np.float32), "b": np.array([3], np.int64)}
    canonical = b'["b", "<i8", [1]]\n' + bytes([3, 0, 0, 0, 0, 0, 0, 0])
    canonical += b'["w", "<f4", [1, 2]]\n' + bytes([0, 0, 0x80, 0x3F, 0, 0, 0, 0x40])
    assert weights_hash(arrays) == hashlib.sha256(canonical).hexdigest()


def test_the_hash_is_of_the_content_alone():
    """Arrays, their bytes, another order, another layout, other metadata: one hash."""
    expected = weights_hash(ARRAYS)
    assert weights_hash(pack(ARRAYS, META)) == weights_hash(pack(ARRAYS)) == expected
    assert weights_hash({name: np.asarray(ARRAYS[name], order="F") for name in reversed(ARRAYS)}) == expected


@pytest.mark.parametrize(
    "other",
    [
        {"x": np.array([1, 2, 3, 5], np.int32)},
        {"y": np.array([1, 2, 3, 4], np.int32)},
        {"x": np.array([[1, 2], [3, 4]], np.int32)},
        {"x": np.array([1, 2, 3, 4], np.uint32)},
        {"x": np.array([1, 2, 3, 4], np.int32), "y": np.zeros(0)},
    ],
)
def test_any_difference_changes_the_hash(other):
    """A value, a name, a shape, a dtype of equal bytes, one more array."""
    assert weights_hash(other) != weights_hash({"x": np.array([1, 2, 3, 4], np.int32)})


@pytest.mark.parametrize("payload", [b"", b"not safetensors", pack(ARRAYS, META)[:-3], b"\x80\x04\x95pickle"])
def test_bytes_that_are_no_checkpoint_are_refused(payload):
    """Nothing, text, a truncated file, a pickle."""
    with pytest.raises(CorruptDataError, match=f"{len(payload)} bytes are not a safetensors file"):
        unpack(payload)


def test_objects_are_refused():
    """Only plain numbers are stored."""
    with pytest.raises(CorruptDataError, match="array x: dtype object"):
        pack({"x": np.array([object()])})
