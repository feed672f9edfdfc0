"""What bytes are that should be JSON text, by how they begin."""

from typing import Final

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""What Windows tools write before UTF-8 text. It means nothing, and is passed over."""

_FORMATS: Final = (
    (b"PAR1", "a Parquet file"),
    (b"PARE", "an encrypted Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"FEA1", "a Feather file"),
    (b"\xff\xff\xff\xff", "an Arrow stream"),
    (b"ORC", "an ORC file"),
    (b"Obj\x01", "an Avro file"),
    (b"\x89HDF", "an HDF5 file (Minari, D4RL, d3rlpy)"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"MATLAB ", "a MATLAB file"),
    (b"SQLite format 3", "a SQLite database"),
    (b"%PDF", "a PDF file"),
    *((b"\x80" + bytes([protocol]), "a Python pickle") for protocol in range(2, 6)),
    *((b"PK" + tail, "a zip archive (or a NumPy .npz, or .xlsx)") for tail in (b"\x03\x04", b"\x05\x06", b"\x07\x08")),
    (b"\x1f\x8b", "compressed by gzip (`zcat FILE` unpacks it)"),
    (b"\x1f\x9d", "compressed by compress (`zcat FILE` unpacks it)"),
    (b"(\xb5/\xfd", "compressed by zstd (`zstdcat FILE` unpacks it)"),
    (b"BZh", "compressed by bzip2 (`bzcat FILE` unpacks it)"),
    (b"\xfd7zXZ\0", "compressed by xz (`xzcat FILE` unpacks it)"),
    (b"\x04\x22M\x18", "compressed by lz4 (`lz4cat FILE` unpacks it)"),
    (b"\xff\x06\0\0sNaPpY", "compressed by snappy"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\xff\xfe\0\0", "UTF-32 text (`iconv -f UTF-32 -t UTF-8 FILE` converts it)"),
    (b"\0\0\xfe\xff", "UTF-32 text (`iconv -f UTF-32 -t UTF-8 FILE` converts it)"),
    (b"\xff\xfe", "UTF-16 text (`iconv -f UTF-16 -t UTF-8 FILE` converts it)"),
    (b"\xfe\xff", "UTF-16 text (`iconv -f UTF-16 -t UTF-8 FILE` converts it)"),
)
"""What other files begin with. Of two that fit, the longer stands first."""
_TAR_MARK: Final = slice(257, 262)


def other_format(head: bytes) -> str | None:
    """Say what bytes are that begin like no JSON text; None where they may be one."""
    if head[_TAR_MARK] == b"ustar":
        return "a tar archive"
    found = next((name for magic, name in _FORMATS if head.startswith(magic)), None)
    if found is None and b"\0" in head[:512]:
        return "binary, or UTF-16 or UTF-32 text (it holds zero bytes)"
    return found


def no_json(data: bytes, error: Exception) -> str:
    """Say why bytes are no JSON, whatever their contents; error: the decoder's own."""
    other = other_format(data)
    numbers = b"NaN" in data or b"Infinity" in data
    if other is None and numbers and "malformed" in str(error):
        return f"{error}: NaN and Infinity are no JSON, the largest float32 is 3.4e38"
    return f"it is {other}" if other else str(error)
