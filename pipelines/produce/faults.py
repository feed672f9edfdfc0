"""What ingest will reject of a file, by rule: how many lines, and the first of them with its reason."""

from collections.abc import Sequence

from msgspec import Struct

from headrace.schemas.checker import Rejection


class Fault(Struct):
    """A rule that lines break. first_line: its number in the file, from 1 on; reason: what is wrong with it."""

    rule: str
    lines: int
    first_line: int
    reason: str


class Faults(dict[str, Fault]):
    """The faults of a file, by rule, in order of appearance."""

    @property
    def lines(self) -> int:
        """How many lines have one."""
        return sum(fault.lines for fault in self.values())

    def note(self, rejected: Sequence[Rejection], numbers: Sequence[int]) -> None:
        """Count a block's rejected lines; numbers: those of all its lines."""
        for one in rejected:
            fault = self.setdefault(one.rule, Fault(one.rule, 0, numbers[one.position], one.reason))
            fault.lines += 1

    def told(self) -> list[str]:
        """Say each in a sentence, the most frequent first."""
        ordered = sorted(self.values(), key=lambda fault: -fault.lines)
        return [
            f"{fault.rule}: {fault.lines} {'line' if fault.lines == 1 else 'lines'}, "
            f"first line {fault.first_line}: {fault.reason}"
            for fault in ordered
        ]


def layout_hint(line: bytes) -> str:
    """Guess how a line is laid out of which, as of all others, nothing can be read."""
    if line.lstrip()[:1] in {b"[", b"{", b"]", b"}"}:
        return "is the JSON laid out over several lines? `jq -c '.[]' FILE` makes a line of each item of an array"
    return "each line must be a JSON object, as docs/topics.md has it: convert CSV and other tables first"
