"""When a model may be asked: budgets by day, a pause after failures, and a pace that keeps reports from queueing."""

from collections.abc import Callable
from typing import Final, Literal

from headrace.pipelines.narrating.store import Spent
from headrace.schemas.narration.model import Limits

FAILURES: Final = 3
PAUSE_S: Final = 60.0
"""After so many failures in a row the model is left alone for so long; then one question tries it."""
BURST_S: Final = 60.0
SHARE: Final = 0.5
"""Of a process's time the model may have a half, a minute at once: a backlog is told by the template, not waited for.
A Kafka group gives a member up that does not poll for half an hour."""

Barred = Literal["tokens", "money", "time", "paused", "busy"]


class Allowance:
    """timer: seconds that only grow."""

    def __init__(self, limits: Limits, timer: Callable[[], float]) -> None:
        self._limits = limits
        self._timer = timer
        self._failures = 0
        self._paused_until_s = float("-inf")
        self._left_s = BURST_S
        self._filled_s = timer()

    def barred(self, spent: Spent) -> Barred | None:
        """Return why the model may not be asked now; None where it may. spent: on this day so far."""
        limits, now_s = self._limits, self._timer()
        self._left_s = min(BURST_S, self._left_s + SHARE * (now_s - self._filled_s))
        self._filled_s = now_s
        priced = limits.price_in or limits.price_out
        reasons: tuple[tuple[bool, Barred], ...] = (
            (spent.tokens >= limits.tokens_per_day, "tokens"),
            (bool(priced) and spent.money >= limits.money_per_day, "money"),
            (spent.seconds >= limits.seconds_per_day, "time"),
            (now_s < self._paused_until_s, "paused"),
            (self._left_s <= 0.0, "busy"),
        )
        return next((reason for holds, reason in reasons if holds), None)

    def used(self, seconds: float, *, failed: bool) -> None:
        """Note an exchange that is over."""
        self._left_s -= seconds
        self._failures = self._failures + 1 if failed else 0
        if self._failures >= FAILURES:
            self._paused_until_s = self._timer() + PAUSE_S

    def cost(self, tokens_in: int, tokens_out: int, seconds: float) -> Spent:
        """Return what an exchange has cost."""
        money = (tokens_in * self._limits.price_in + tokens_out * self._limits.price_out) / 1e6
        return Spent(tokens_in + tokens_out, money, seconds)
