"""What the outbox topic says: which mails are open, how far each audience's mails go, and who refused one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from headrace.pipelines.topics import MAILS, TopicReader, records
from headrace.schemas.ports import Log
from headrace.schemas.records import Mail, Verdict

OPEN: Final = frozenset({"due", "sending"})


@dataclass(frozen=True, slots=True)
class Told:
    """A recipient's verdict, and the date of the mail that it was on."""

    ts: int
    verdict: Verdict


class Mails:
    """The outbox as far as it was read. It keeps what is open, and of the rest a few numbers per audience.

    last: by address, what became of the newest mail. refusals: by address, the newest that was refused for good.
    """

    def __init__(self, log: Log) -> None:
        self._reader = TopicReader(log, MAILS)
        self._open: dict[str, Mail] = {}
        self._ends: dict[str, dict[int, int]] = {}
        self.last: dict[str, Told] = {}
        self.refusals: dict[str, Told] = {}

    def refresh(self) -> "Mails":
        """Read the topic to its end."""
        for mail in records(self._reader.batches(), Mail):
            self._take(mail)
        return self

    def _take(self, mail: Mail) -> None:
        if mail.state in OPEN:
            self._open[mail.digest_id] = mail
        else:
            self._open.pop(mail.digest_id, None)
            ends = self._ends.setdefault(mail.subscriber, {})
            ends.update({p: max(end, ends.get(p, 0)) for p, end in mail.ends.items()})
        for address, verdict in mail.verdicts.items():
            self.last[address] = Told(mail.ts, verdict)
            if verdict.state == "refused":
                self.refusals[address] = Told(mail.ts, verdict)

    def open(self, subscriber: str) -> list[Mail]:
        """Return the mails of a subscriber that are due or being sent, the oldest first."""
        return [mail for mail in self._open.values() if mail.subscriber == subscriber]

    def ends(self, subscriber: str) -> Mapping[int, int]:
        """Return, by partition, the offset before which the reports are in mails that are done with."""
        return self._ends.get(subscriber, {})
