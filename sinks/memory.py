"""The cache in memory: the least recently used entries leave when the bytes run out."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from headrace.schemas.ports import Adapter, Backend
from headrace.schemas.records import ChunkReference

DEFAULT_BYTES: Final = 256 << 20
ENTRY_BYTES: Final = 512
"""What an entry takes besides its payload: the reference, its numbers and its place in the dictionary."""


class MemoryCache(Backend):
    """The port `Cache`, usable from any thread. max_bytes: of payloads and entries together."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self.hits = 0
        self.misses = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[ChunkReference, bytes] = OrderedDict()

    def get(self, references: Sequence[ChunkReference]) -> list[bytes | None]:
        with self._lock:
            found = [self._get(reference) for reference in references]
            misses = found.count(None)
            self.misses += misses
            self.hits += len(found) - misses
            return found

    def _get(self, reference: ChunkReference) -> bytes | None:
        payload = self._entries.get(reference)
        if payload is not None:
            self._entries.move_to_end(reference)
        return payload

    def put(self, entries: Sequence[tuple[ChunkReference, bytes]]) -> None:
        """Store payloads; one that is larger than the whole cache is not kept."""
        with self._lock:
            for reference, payload in entries:
                self._put(reference, payload)

    def _put(self, reference: ChunkReference, payload: bytes) -> None:
        size = ENTRY_BYTES + len(payload)
        if size > self.max_bytes:
            return
        before = self._entries.pop(reference, None)
        self.used_bytes += size - (0 if before is None else ENTRY_BYTES + len(before))
        self._entries[reference] = payload
        while self.used_bytes > self.max_bytes:
            _, forgotten = self._entries.popitem(last=False)
            self.used_bytes -= ENTRY_BYTES + len(forgotten)

    def forget(self, task: str, end_ms: int) -> int:
        with self._lock:
            gone = [one for one in self._entries if one.task == task and one.start_ms < end_ms]
            for reference in gone:
                self.used_bytes -= ENTRY_BYTES + len(self._entries.pop(reference))
            return len(gone)

    def counters(self) -> Mapping[tuple[str, ...], float]:
        return {("memory", "hit"): self.hits, ("memory", "miss"): self.misses}

    def close(self) -> None:
        with self._lock:
            self._entries.clear()
            self.used_bytes = 0


ADAPTER: Final = Adapter(lambda url, *_: MemoryCache(url.whole("bytes", DEFAULT_BYTES)), ("bytes",))
