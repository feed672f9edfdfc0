"""When a digest is due: a cron expression in a time zone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression of five fields, or `@daily` and its like, in an IANA time zone.

    Local times that a clock change skips are due when it is over; those that it repeats are due the first time.
    """

    cron: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        """Raise SettingsError for what is no cron expression, never comes, or is in no time zone."""
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError) as error:
            raise SettingsError(f"time zone {self.zone!r} is unknown; write it as in Europe/Zurich") from error
        remedy = "five fields, as in `0 8 * * 1`: Mondays at 8:00"
        try:
            came = next(self._slots(datetime(2026, 1, 1, tzinfo=UTC)), None)
        except (CronSimError, ValueError) as error:
            raise SettingsError(f"schedule {self.cron!r} is no cron expression ({error}); it has {remedy}") from error
        if came is None:
            raise SettingsError(f"schedule {self.cron!r} never comes; it has {remedy}")

    def latest(self, now_ms: int) -> int:
        """Return the last slot at or before `now_ms`, both in ms UTC."""
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        return next(int(slot.timestamp() * 1000) for slot in self._slots(now) if slot <= now)

    def _slots(self, now: datetime) -> Iterator[datetime]:
        """Return the slots before some three hours from now, the last first: a local time may come twice until then."""
        minute, hour, *days = _NAMED.get(self.cron, self.cron).upper().split()
        if len(days) != 3:
            raise ValueError("wrong number of fields")
        # CronSim heeds clock changes, as Debian's cron does, only where neither of these begins with a star.
        # Where both days are restricted, either is enough; a star with a step restricts too.
        day, month, weekday = days[0].replace("*/", "1-31/"), days[1], days[2].replace("*/", "0-6/")
        fields = (minute.replace("*", "0-59"), hour.replace("*", "0-23"), day, month, weekday)
        cron = " ".join(fields).replace("?", "*").replace("-SUN", "-7")
        return CronSim(cron, now.astimezone(ZoneInfo(self.zone)) + timedelta(hours=3), reverse=True)
