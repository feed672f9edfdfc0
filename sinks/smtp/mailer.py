"""The port `Mailer` by SMTP: each message over a connection of its own."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from typing import Final

from headrace.schemas.ports import Adapter, Backend
from headrace.schemas.records import Verdict
from headrace.sinks.smtp.conversation import Conversation
from headrace.sinks.smtp.target import OPTIONS, Target, parse_target

_SEVEN_BIT: Final = SMTP.clone(cte_type="7bit")


class SmtpMailer(Backend):
    """Not idempotent: a server takes a message as often as it is handed over."""

    idempotent = False

    def __init__(self, target: Target) -> None:
        self._target = target

    def send(self, message: EmailMessage, _digest_id: str, recipients: Sequence[str]) -> dict[str, Verdict]:
        """Hand the message over; the envelope's sender is the one in From. Raises UnavailableError.

        What is on its way when the answer to the message's end is missing is `unknown`.
        """
        data = re.sub(rb"\r\n|\r|\n", b"\r\n", message.as_bytes(policy=_SEVEN_BIT))
        with self._conversation() as conversation:
            return conversation.hand_over(parseaddr(str(message["From"]))[1], list(recipients), data)

    def about(self) -> str:
        """Connect, secure and log in as a delivery does, and return the server's greeting."""
        with self._conversation() as conversation:
            return conversation.greeting

    @contextmanager
    def _conversation(self) -> Iterator[Conversation]:
        conversation = Conversation(self._target)
        try:
            conversation.begin()
            yield conversation
        finally:
            conversation.part()


ADAPTER: Final = Adapter(lambda url, *_: SmtpMailer(parse_target(url)), OPTIONS)
