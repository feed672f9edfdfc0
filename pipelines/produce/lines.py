"""The lines of a file, block by block; and files that hold none, which are refused by their first bytes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from headrace.schemas.errors import SettingsError
from headrace.schemas.formats import BYTE_ORDER_MARK, other_format

BLOCK_LINES: Final = 2_000
BLOCK_BYTES: Final = 4 << 20
MAX_LINE_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """Lines without their ends, empty ones left out. numbers: theirs in the file, from 1 on. size: bytes read."""

    lines: list[bytes]
    numbers: list[int]
    size: int


def blocks(source: BinaryIO, name: str) -> Iterator[Block]:
    """Yield a file's lines. A heartbeat is the last line of its block.

    Raises SettingsError for a line above MAX_LINE_BYTES, or a file that is evidently no text.
    """
    lines: list[bytes] = []
    numbers: list[int] = []
    size = number = 0
    while line := source.readline(MAX_LINE_BYTES + 1):
        number += 1
        _refuse(line, number, name)
        size += len(line)
        text = re.sub(rb"\r?\n\Z", b"", line).removeprefix(BYTE_ORDER_MARK)
        if text.strip():
            lines.append(text)
            numbers.append(number)
        if len(lines) >= BLOCK_LINES or size >= BLOCK_BYTES or b'"heartbeat"' in text:
            yield Block(lines, numbers, size)
            lines, numbers, size = [], [], 0
    if size:
        yield Block(lines, numbers, size)


def _refuse(line: bytes, number: int, name: str) -> None:
    if number == 1 and (found := other_format(line)):
        raise SettingsError(
            f"{name} is {found}: give lines of JSON in UTF-8, one transition each, such as `... | headrace produce -`"
        )
    if len(line) > MAX_LINE_BYTES:
        raise SettingsError(f"{name}: line {number} has more than {MAX_LINE_BYTES} bytes: one transition a line")
