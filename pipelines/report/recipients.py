"""Who gets digests, by settings and by subscribers, and what became of the last one."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.pipelines.report.mails import Mails, Told
from headrace.pipelines.report.subscribers import Subscribers
from headrace.schemas.ports import Log
from headrace.schemas.records import Subscriber, mailbox, subscriber_key


@dataclass(frozen=True, slots=True)
class Recipient:
    """One line of `headrace digest list`. last: of the newest mail. refused: of the newest refused for good."""

    subscriber: Subscriber
    last: Told | None
    refused: Told | None

    @property
    def bounced(self) -> bool:
        """Whether a digest should arrive here, and the last one did not."""
        wanted = self.subscriber.state == "active"
        return wanted and self.last is not None and self.last.verdict.state == "refused"


def recipients(log: Log, by_settings: Sequence[str], cron: str = "", zone: str = "") -> list[Recipient]:
    """Return the settings' recipients, who have an empty task, and then the subscribers, by task and mailbox."""
    known = Subscribers(log).refresh().by_key
    mails = Mails(log).refresh()
    named = {subscriber_key("", one): Subscriber("", one, "active", 0, "settings", cron, zone) for one in by_settings}
    named |= {key: known[key] for key in named if key in known and known[key].state != "active"}
    others = {key: one for key, one in sorted(known.items()) if one.task}
    found = [(one, mailbox(one.address)) for one in (named | others).values()]
    return [Recipient(one, mails.last.get(address), mails.refusals.get(address)) for one, address in found]
