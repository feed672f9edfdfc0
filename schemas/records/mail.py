"""The outbox of digests, what became of each mail, and who gets them besides the settings' recipients."""

from email.utils import parseaddr
from typing import Annotated, Literal

from msgspec import Meta, Struct

VerdictState = Literal["accepted", "deferred", "refused", "unknown"]
MailState = Literal["due", "sending", "sent", "refused", "unknown"]
WORDS_MAX = 300
"""Characters that are kept of what a mail server said."""


class Verdict(Struct, frozen=True, omit_defaults=True):
    """What became of a mail for one recipient.

    accepted: the server has it. deferred: it may be tried again. refused: for good. unknown: the server did not answer
    after it had the whole mail. words: the server's own, printable, at most WORDS_MAX characters.
    """

    state: VerdictState
    words: Annotated[str, Meta(max_length=WORDS_MAX)] = ""


class Mail(Struct, frozen=True):
    """The outbox: where a digest stands.

    state: refused where no recipient's server takes it. ts: its Date header, the same in every state. ends: by
    partition of `reports`, the offset before which its reports lie: they pin its content, so that a restart composes
    the same bytes. subscriber: the key of the subscriber that it is for, "" for the settings' recipients.
    verdicts: by address, the last one.
    """

    digest_id: str
    state: MailState
    ts: int
    ends: dict[int, int] = {}
    subscriber: str = ""
    verdicts: dict[str, Verdict] = {}
    schema_version: Literal[1] = 1


class Subscriber(Struct, frozen=True):
    """One reader of a task's digests. The last record under a key holds.

    task: "" for a recipient that the settings name, who gets every task's. address: as a header has it. state: removed
    by a person, unsubscribed by the reader. cron, zone: when. since: by partition of `reports`, the offset of the first
    report that is for this reader. who: by whom it was written.
    """

    task: str
    address: str
    state: Literal["active", "removed", "unsubscribed"]
    ts: int
    who: str
    cron: str = ""
    zone: str = ""
    since: dict[int, int] = {}
    schema_version: Literal[1] = 1

    @property
    def key(self) -> str:
        """Its name on the log: no two readers of a task have one mailbox."""
        return subscriber_key(self.task, self.address)


def subscriber_key(task: str, address: str) -> str:
    """Return a subscriber's key: the task and the mailbox, without the name before it."""
    return f"{task}/{mailbox(address)}"


def mailbox(address: str) -> str:
    """Return the address alone, in small letters: by it verdicts and subscribers are found."""
    return parseaddr(address)[1].lower()
