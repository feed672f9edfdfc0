"""Chunks by reference, read through a cache: the index is asked only for what the cache has forgotten."""

from collections.abc import Mapping, Sequence

from headrace.schemas.chunk import ChunkRow, decode_chunk, decode_reference, encode_chunk
from headrace.schemas.errors import CorruptDataError, MissingChunkError, UnavailableError
from headrace.schemas.ports import Backend, Cache, Index
from headrace.schemas.records import ChunkReference
from headrace.schemas.transition import TransitionBatch


class TwoLevels(Backend):
    """The port `Cache`: a near level, before a far one that is larger and shared.

    What is found far away is kept near as well. Close it, and it closes both.
    """

    def __init__(self, near: Cache, far: Cache) -> None:
        self.near = near
        self.far = far

    def get(self, references: Sequence[ChunkReference]) -> list[bytes | None]:
        """Return each reference's payload, None on a miss; the far level is asked for what the near one lacks."""
        found = self.near.get(references)
        missing = [place for place, payload in enumerate(found) if payload is None]
        if missing:
            lacking = [references[place] for place in missing]
            fetched = self.far.get(lacking)
            self.near.put([(r, payload) for r, payload in zip(lacking, fetched, strict=True) if payload is not None])
            for place, payload in zip(missing, fetched, strict=True):
                found[place] = payload
        return found

    def put(self, entries: Sequence[tuple[ChunkReference, bytes]]) -> None:
        """Store payloads at both levels."""
        self.near.put(entries)
        self.far.put(entries)

    def forget(self, task: str, end_ms: int) -> int:
        """Remove entries from both levels; return how many the far one had."""
        self.near.forget(task, end_ms)
        return self.far.forget(task, end_ms)

    def about(self) -> str:
        return self.far.about()

    def counters(self) -> Mapping[tuple[str, ...], float]:
        """Return both levels' counts; the far one is asked only for what the near one lacks."""
        return {**self.near.counters(), **self.far.counters()}

    def close(self) -> None:
        self.near.close()
        self.far.close()


class CachedChunks:
    """Reads and remembers chunks. hits, misses: references found in the cache, and not, since the start.

    An entry is the payload of exactly the reference's rows, so its checksum is the reference's own. A cache
    that is down, or an entry that is damaged, is a miss.
    """

    def __init__(self, index: Index, cache: Cache) -> None:
        self._index = index
        self.cache = cache
        self.hits = 0
        self.misses = 0

    def transitions(self, references: Sequence[ChunkReference]) -> list[TransitionBatch]:
        """Return each reference's rows.

        Raises CorruptDataError, which names the reference, when the index holds no such rows.
        """
        found = [
            _intact(payload, reference) for payload, reference in zip(self._get(references), references, strict=True)
        ]
        missing = [reference for reference, batch in zip(references, found, strict=True) if batch is None]
        self.hits += len(references) - len(missing)
        self.misses += len(missing)
        read = iter(self._read(missing))
        return [next(read) if batch is None else batch for batch in found]

    def _get(self, references: Sequence[ChunkReference]) -> list[bytes | None]:
        try:
            return self.cache.get(references)
        except UnavailableError:
            return [None] * len(references)

    def _read(self, references: Sequence[ChunkReference]) -> list[TransitionBatch]:
        if not references:
            return []
        batches, entries = [], []
        for reference, row in zip(references, self._index.chunks(references), strict=True):
            if row is None:
                raise MissingChunkError(
                    f"chunk {reference}: missing from the index; it was never written, its time to live is over, or "
                    "`headrace forget` took it: `headrace run ingest --from-start` writes it again, if the log still "
                    "holds its rows"
                )
            batch = decode_reference(row.payload, row.reference, reference)
            batches.append(batch)
            # A row that has grown is encoded again without the rows that the reference doesn't know.
            grown = row.reference != reference
            entries.append((reference, encode_chunk(batch)[0] if grown else row.payload))
        self._put(entries)
        return batches

    def remember(self, rows: Sequence[ChunkRow]) -> None:
        """Store rows that the index has acknowledged: they are about to be read."""
        self._put([(row.reference, row.payload) for row in rows])

    def _put(self, entries: Sequence[tuple[ChunkReference, bytes]]) -> None:
        try:
            self.cache.put(entries)
        except UnavailableError:
            return


def _intact(payload: bytes | None, reference: ChunkReference) -> TransitionBatch | None:
    if payload is None:
        return None
    try:
        return decode_chunk(payload, reference.checksum, reference)
    except CorruptDataError:
        return None
