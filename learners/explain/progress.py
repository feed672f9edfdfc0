"""How far `ingest` has come, and whether all that it will tell of an interval has been told."""

from dataclasses import dataclass

_EVER_MS = 1 << 62


def last_end_ms(end_ms: int, window_ms: int) -> int:
    """Return the end of the last window that begins before `end_ms`."""
    return (end_ms - 1) // window_ms * window_ms + window_ms


@dataclass(frozen=True, slots=True)
class IngestPlace:
    """One partition of `transitions`. stream_ms: its stream time T at the commit, -1 where nothing is known of it."""

    stream_ms: int
    lags: bool


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """All partitions of `transitions` at one moment.

    windows_end: the ends of the partitions of `windows` just after: what was told until then lies before them.
    """

    places: tuple[IngestPlace, ...]
    windows_end: dict[int, int]
    grace_ms: int

    def passed(self, end_ms: int, window_ms: int, told_ms: int | None) -> bool:
        """Whether every partition is past an interval that ends at `end_ms`.

        Its windows are told up to T. A partition without lag whose T has stopped short is waited for until the
        stream is a window's length ahead of it, because what it holds now may be all that it will ever hold.
        told_ms: the end of the latest window told; None: nobody is waited for who has no lag (the task is silent).
        """
        closes_ms = last_end_ms(end_ms, window_ms) + self.grace_ms
        seen_ms = _EVER_MS if told_ms is None else told_ms + self.grace_ms
        stream_ms = max([seen_ms, *(place.stream_ms for place in self.places)])
        return stream_ms >= closes_ms and all(
            place.stream_ms >= closes_ms or (not place.lags and place.stream_ms + window_ms <= stream_ms)
            for place in self.places
        )
