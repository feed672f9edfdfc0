"""When a digest is due: a cron expression in a time zone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from headrace.schemas.errors import SettingsError

_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression of five fields, six with seconds first, or `@daily` and its like, in an IANA time zone.

    Local times that a clock change skips are due when it is over; those that it repeats are due the first time. Not so
    where a minute has several slots.
    """

    cron: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        """Raise SettingsError for what is no cron expression, never comes, or is in no time zone."""
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError) as error:
            raise SettingsError(f"time zone {self.zone!r} is unknown; write it as in Europe/Zurich") from error
        remedy = "five fields, as in `0 8 * * 1`: Mondays at 8:00, or six with seconds first"
        try:
            came = next(self.slots(datetime(2026, 1, 1, tzinfo=UTC)), None)
        except (CronSimError, ValueError) as error:
            raise SettingsError(f"schedule {self.cron!r} is no cron expression ({error}); it has {remedy}") from error
        if came is None:
            raise SettingsError(f"schedule {self.cron!r} never comes; it has {remedy}")

    def latest(self, now_ms: int) -> int:
        """Return the last slot at or before `now_ms`, both in ms UTC."""
        return _latest(self, now_ms // 1_000)

    def slots(self, now: datetime) -> Iterator[datetime]:
        """Return the slots before some three hours from now, the last first: a local time may come twice until then."""
        parts = _NAMED.get(self.cron, self.cron).upper().split()
        if len(parts) not in {5, 6}:
            raise ValueError(f"wrong number of fields: {len(parts)}")
        *seconds, minute, hour, day, month, weekday = parts
        if "?" in {*seconds, minute, hour, month}:  # ? stands for a day alone, so the fields are others than these
            raise ValueError("? in place of no day; a year at the end is not understood")
        # CronSim applies clock changes, as Debian's cron does, only where neither of these begins with a star.
        # Where both days are restricted, either is enough; a star with a step restricts too.
        fields = (
            _unwrapped(minute.replace("*", "0-59"), 0, 59),
            _unwrapped(hour.replace("*", "0-23"), 0, 23),
            _unwrapped(day.replace("*/", "1-31/"), 1, 31),
            _unwrapped(_numbered(month, _MONTHS, 1), 1, 12),
            _unwrapped(_numbered(weekday.replace("*/", "0-6/"), _WEEKDAYS, 0).replace("7-", "0-"), 0, 6),
        )
        start = now.astimezone(ZoneInfo(self.zone)) + timedelta(hours=3)
        if seconds and seconds[0].isdecimal() and int(seconds[0]) < 60:  # CronSim minds clock changes of five fields
            second = timedelta(seconds=int(seconds.pop()))
            return (slot + second for slot in CronSim(" ".join(fields).replace("?", "*"), start, reverse=True))
        return CronSim(" ".join((*seconds, *fields)).replace("?", "*"), start, reverse=True)


@lru_cache(1_024)
def _latest(schedule: Schedule, now_s: int) -> int:
    """Slots are whole seconds, and thousands of readers have few schedules."""
    now = datetime.fromtimestamp(now_s, UTC)
    return next(int(slot.timestamp() * 1000) for slot in schedule.slots(now) if slot <= now)


def _numbered(field: str, names: tuple[str, ...], first: int) -> str:
    for number, name in enumerate(names, first):
        field = field.replace(name, str(number))
    return field


def _unwrapped(field: str, low: int, high: int) -> str:
    """Write ranges that pass the field's end (22-2, FRI-MON) as lists: CronSim refuses them."""

    def listed(match: re.Match[str]) -> str:
        first, last, step = (int(number or 1) for number in match.groups())
        if first <= last or first > high:
            return match[0]
        return ",".join(map(str, [*range(first, high + 1), *range(low, last + 1)][::step]))

    return re.sub(r"\b(\d+)-(\d+)(?:/(\d+))?(?![^,])", listed, field)
