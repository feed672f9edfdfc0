"""What was written again, compared with what the index then holds: a damaged row has the write time of a good one."""

import msgspec

from headrace.pipelines.ingest.items import Fold
from headrace.schemas.chunk import ChunkRow, decode_stats, uncompress
from headrace.schemas.errors import CorruptDataError
from headrace.schemas.ports import Index
from headrace.schemas.records import WindowRow, WindowSummary


def repair(index: Index, fold: Fold) -> int:
    """Write over what the index holds otherwise than a flushed fold has it; return how many rows that were.

    All of a fold that may have been written before is compared; of any other the windows that late rows have changed.
    A good row with a greater write time stays where it may be the same one, grown. Raises HiddenRowsError where the
    index can't.
    """
    compared = fold.chunks if fold.again else []
    found = index.chunks([row.reference for row in compared])
    chunks = [row for row, held in zip(compared, found, strict=True) if not _holds_chunk(held, row, whole=fold.whole)]
    windows = [row for row in fold.late if not _holds_window(index.window(row.key), row)]
    if chunks or windows:
        index.replace(chunks, windows)
    decisions = index.decisions.repair(fold.decisions) if fold.again and fold.decisions else 0
    return len(chunks) + len(windows) + decisions


def _holds_chunk(held: ChunkRow | None, row: ChunkRow, *, whole: bool) -> bool:
    if held is None or held.write_time < row.write_time or not _intact(held):
        return False
    same = (held.rows, held.received, held.checksum, held.stats) == (row.rows, row.received, row.checksum, row.stats)
    return same or (held.write_time > row.write_time and not whole)


def _intact(held: ChunkRow) -> bool:
    try:
        uncompress(held.payload, held.checksum, held.key)
        decode_stats(held.stats, held.key)
    except CorruptDataError:
        return False
    return True


def _holds_window(held: WindowRow | None, row: WindowRow) -> bool:
    if held is None or held.write_time <= row.write_time:
        return held == row
    try:
        summary = msgspec.json.decode(held.summary, type=WindowSummary)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return held.write_time == row.key.start_ms * 1000 + summary.rows + summary.duplicates
