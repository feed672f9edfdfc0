"""One hash over everything that an index holds: equal for equal rows, whichever backend or zstd wrote them."""

import hashlib

import msgspec

from headrace.schemas.chunk import uncompress
from headrace.schemas.ports import Index


def index_hash(index: Index) -> str:
    """Return the SHA-256, in hex, over every chunk (payload uncompressed) and every window row, in key order.

    A row is hashed as a msgpack array, which says where it ends. Raises CorruptDataError, which names the chunk.
    """
    digest = hashlib.sha256()
    encode = msgspec.msgpack.Encoder().encode
    for row in index.scan():
        raw = uncompress(row.payload, row.checksum, row.reference)
        counts = (row.rows, row.received, row.checksum)
        digest.update(encode(("chunk", *msgspec.structs.astuple(row.key), *counts, raw, row.stats)))
    for window in index.windows():
        digest.update(encode(("window", *msgspec.structs.astuple(window.key), window.write_time, window.summary)))
    return digest.hexdigest()
