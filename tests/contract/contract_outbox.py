"""A mailer together with what has arrived where it sends to, so that a suite can look."""

from collections.abc import Callable
from typing import NamedTuple

from headrace.schemas.ports import Mailer


class Outbox(NamedTuple):
    """arrived: returns the messages' bytes as the receiver has them."""

    mailer: Mailer
    arrived: Callable[[], list[bytes]]
