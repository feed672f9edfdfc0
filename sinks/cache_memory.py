"""The cache in memory: the least recently used entries leave when the bytes run out."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from headrace.schemas.ports import Adapter
from headrace.schemas.records import ChunkReference

DEFAULT_BYTES: Final = 256 << 20
ENTRY_BYTES: Final = 512
"""What an entry takes besides its payload: the reference, its numbers and its place in the dictionary."""


class MemoryCache:
    """The port `Cache`, usable from any thread. max_bytes: of payloads and entries together."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[ChunkReference, bytes] = OrderedDict()

    def get(self, references: Sequence[ChunkReference]) -> list[bytes | None]:
        """Return each reference's payload, None on a miss."""
        with self._lock:
            return [self._get(reference) for reference in references]

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

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self.used_bytes = 0


ADAPTER: Final = Adapter(lambda url, *_: MemoryCache(url.whole("bytes", DEFAULT_BYTES)), ("bytes",))
