"""Times as people write them: `14:05`, `yesterday at 2 pm`, `ten minutes ago`, `between 13:00 and 14:00`."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from difflib import get_close_matches
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from headrace.pipelines.ask.question import Moment
from headrace.schemas.reasons import did_you_mean

DAY: Final = timedelta(days=1)
MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
COUNTS: Final = {
    "half an": 0.5,
    "half a": 0.5,
    "a couple of": 2,
    "couple of": 2,
    "a few": 3,
    "few": 3,
    "an": 1,
    "a": 1,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "twelve": 12,
    "fifteen": 15,
    "twenty": 20,
    "thirty": 30,
}
UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
CLOCKS: Final = {"noon": time(12), "midday": time(12), "midnight": time(0)}
DAY_PARTS: Final = {"morning": (0, 12), "afternoon": (12, 18), "evening": (18, 24), "night": (-6, 6)}

_COUNT: Final = r"(?P<count>\d{1,5}(?:\.\d)?|" + "|".join(sorted(COUNTS, key=len, reverse=True)) + ")"
_UNIT: Final = r"(?P<unit>s|m|h|d|w)(?:ec(?:ond)?s?|in(?:ute)?s?|(?:ou)?rs?|ays?|eeks?)?\b"
_MONTH: Final = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAY: Final = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR: Final = r"(?:,? (?P<year>[12]\d{3}))?"
_HALF: Final = r"(?: ?(?P<half>[ap])\.?m\b\.?)"
_SECONDS: Final = r"(?::(?P<second>[0-5]\d)(?:\.\d+)?)?"


class UnknownZoneError(ValueError):
    """A time in a question is of a zone that isn't known: its message says which, and what one looks like."""


@dataclass(frozen=True, slots=True)
class _Atom:
    """A part of a time, where it stands in the text. day, clock: of a moment. span: from when to when, in itself."""

    begin: int
    end: int
    day: date | None = None
    clock: time | None = None
    precision: timedelta = DAY
    span: tuple[datetime, datetime] | None = None
    point: bool = False


Fields = dict[str, str | None]


def _clock(found: Fields) -> tuple[time, timedelta]:
    hour, minute, second = (int(found.get(name) or 0) for name in ("hour", "minute", "second"))
    half = found.get("half")
    hour = hour % 12 + 12 * (half == "p") if half else hour
    named = [name for name in ("hour", "minute", "second") if found.get(name) is not None]
    exact = {"hour": timedelta(minutes=1), "minute": timedelta(minutes=1), "second": timedelta(seconds=1)}
    return time(hour, minute, second), exact[named[-1]]


def _date(found: Fields, now: datetime) -> date:
    month = MONTHS.index(str(found["month"])) + 1 if not str(found["month"]).isdecimal() else int(str(found["month"]))
    day = date(int(found.get("year") or now.year), month, int(str(found["day"])))
    return day if found.get("year") or day <= now.date() else day.replace(year=day.year - 1)


def _ago(found: Fields, now: datetime) -> tuple[datetime, datetime]:
    lasts = _length(found)
    exact = timedelta(seconds=max(1, min(UNITS_S[str(found["unit"])], 60)))
    return _earlier(now, lasts), _earlier(now, lasts - exact)


def _earlier(now: datetime, lasts: timedelta) -> datetime:
    """Return the moment so long before; clocks that were set meanwhile do not count."""
    return (now.astimezone(UTC) - lasts).astimezone(now.tzinfo)


def _length(found: Fields) -> timedelta:
    count = found.get("count") or "1"
    return timedelta(seconds=float(COUNTS.get(count, 0) or count) * UNITS_S[str(found["unit"])])


def _day_part(found: Fields, now: datetime) -> tuple[datetime, datetime]:
    day = now.date() - (DAY if found.get("which") == "yesterday" else timedelta())
    begin, end = DAY_PARTS[str(found["part"])]
    midnight = datetime.combine(day, time(), now.tzinfo)
    return midnight + timedelta(hours=begin), midnight + timedelta(hours=end)


def _weekday(found: Fields, now: datetime) -> date:
    back = (now.weekday() - WEEKDAYS.index(str(found["weekday"]))) % 7
    return now.date() - timedelta(days=back)


def _epoch(found: Fields, now: datetime) -> tuple[datetime, datetime]:
    moment = datetime.fromtimestamp(int(str(found["ms"])) / 1000, UTC).astimezone(now.tzinfo)
    return moment, moment + timedelta(milliseconds=1)


def _last(found: Fields, now: datetime) -> tuple[datetime, datetime]:
    return _earlier(now, _length(found)), now


_SPANS: Final[list[tuple[str, Callable[[Fields, datetime], tuple[datetime, datetime]], bool]]] = [
    (r"\b(?P<ms>1\d{12})\b(?: ?ms)?", _epoch, True),
    (rf"\b{_COUNT} ?{_UNIT} (?:ago|earlier|back)\b", _ago, True),
    (
        rf"\b(?:in |over |during |within |for |of )?(?:the |this )?(?:last|past|previous) (?:{_COUNT} ?)?{_UNIT}",
        _last,
        False,
    ),
    (r"\b(?:(?P<which>this|last|yesterday) )(?P<part>morning|afternoon|evening|night)\b", _day_part, False),
]
_DAYS: Final[list[tuple[str, Callable[[Fields, datetime], date]]]] = [
    (r"\b(?P<year>[12]\d{3})[-/](?P<month>\d\d)[-/](?P<day>\d\d)(?=t|\b)", _date),
    (rf"\b{_DAY}(?: of)? {_MONTH}{_YEAR}(?!\w)", _date),
    (rf"\b{_MONTH} {_DAY}{_YEAR}(?!\w)", _date),
    (r"\b(?P<day>[0-3]\d)\.(?P<month>[01]\d)\.(?P<year>[12]\d{3})\b", _date),
    (r"\btoday\b", lambda _, now: now.date()),
    (r"\bthe day before yesterday\b", lambda _, now: now.date() - 2 * DAY),
    (r"\byesterday\b", lambda _, now: now.date() - DAY),
    (r"\b(?:on |last )(?P<weekday>mon|tue|wed|thu|fri|sat|sun)(?:[a-z]*day)?\b", _weekday),
]
_HOUR: Final = r"(?P<hour>[01]?\d|2[0-3])"
_CLOCKS: Final = [
    rf"(?<![\d:.])t?{_HOUR}:(?P<minute>[0-5]\d){_SECONDS}{_HALF}?(?!\d|:\d)",
    rf"(?<![\d:.]){_HOUR}h(?P<minute>[0-5]\d)\b",
    rf"(?<![\d:.-]){_HOUR}{_HALF}",
    rf"(?<=at ){_HOUR}\.(?P<minute>[0-5]\d)\b",
    rf"\b{_HOUR} ?o.?clock\b",
    rf"(?<=at ){_HOUR}(?=\s*(?:[?.!,]|$|and\b|on\b|yesterday\b|today\b|utc\b))",
]
_NAMED_CLOCK: Final = re.compile(rf"\b({'|'.join(CLOCKS)})\b")
_AREAS: Final = [
    "africa",
    "america",
    "antarctica",
    "arctic",
    "asia",
    "atlantic",
    "australia",
    "etc",
    "europe",
    "indian",
    "pacific",
    "us",
]
_ZONE: Final = re.compile(
    r"\s*(z|utc|gmt|cest|cet|eest|eet|wet|bst|est|edt|cst|cdt|mst|mdt|pst|pdt|jst|msk|aest|"
    r"[a-z]+/[a-z_]+(?:/[a-z_]+)?|[+-]\d\d:?\d\d)(?![\w:/])"
)
_BEFORE: Final = re.compile(
    r"(?:\b(?P<since>since|after|from|starting|between)|\b(?P<until>before|until|till|up to|by)|"
    r"\b(?:at|on|around|about|near|in))?(?: about| around)?(?: the)?\s*$"
)


def times(text: str, now_ms: int, zone: tzinfo) -> tuple[Moment | None, str]:
    """Return the time that a lower-case text names, and the text with ` TIME ` in its place.

    now_ms: what "ago" and a clock without a date are counted from. zone: unless the text names one; UnknownZoneError
    says that none is called so.
    """
    after = (_ZONE.match(text, atom.end()) for atom in _clock_matches(text))
    named = next((found for found in after if found and _is_zone(found[1])), None)
    if named:
        zone, text = _zone(named[1]), text[: named.start()] + " " * len(named[0]) + text[named.end() :]
    now = datetime.fromtimestamp(now_ms / 1000, zone)
    atoms = _atoms(text, now)
    if not atoms:
        return None, text
    spans = [_span(atom, now) for atom in _dated(atoms)]
    point = len(spans) == 1 and (atoms[0].point or any(atom.clock for atom in atoms))
    (start, end), before = spans[0], _BEFORE.search(text[: atoms[0].begin])
    assert before is not None
    if len(spans) > 1:
        end = spans[1][0] if any(atom.clock for atom in atoms) else spans[1][1]
        end += DAY * (end <= start)  # a clock after "now" was taken for the day before's
    elif before["since"]:
        end, point = max(start, now), False
    elif before["until"]:
        start, end, point = datetime.combine(start.date(), time(), zone), start, False
    if not point:
        end = min(end, max(now, start))  # "today" is not over
    bounds = [round(moment.timestamp() * 1000) for moment in (start, end)]
    return Moment(bounds[0], bounds[1], point), _masked(text, atoms, before.start())


def _dated(atoms: list[_Atom]) -> list[_Atom]:
    """Return the parts that are times by themselves: clocks with the day that stands before or beside them."""
    days = [atom.day for atom in atoms if atom.day]
    clocks = [atom for atom in atoms if atom.clock]
    if not clocks:
        return atoms
    by_clock = days if len(days) == len(clocks) else [days[0] if days else None] * len(clocks)
    return [replace(atom, day=day) for atom, day in zip(clocks, by_clock, strict=True)]


def _masked(text: str, atoms: list[_Atom], begin: int) -> str:
    """Return the text with one ` TIME ` for all the parts of its time."""
    parts, at = [text[:begin], " TIME "], atoms[0].end
    for atom in atoms[1:]:
        parts += [text[at : atom.begin], " "]
        at = atom.end
    return "".join([*parts, text[at:]])


def _is_zone(name: str) -> bool:
    """Return whether a zone is meant: of two words with a stroke between them the first is like an area's name."""
    area, stroke, _ = name.partition("/")
    return not stroke or bool(get_close_matches(area, _AREAS, 1, 0.7))


def _zone(name: str) -> tzinfo:
    """Return a zone by what a question calls it; of an offset the zone of that offset."""
    spelt = "UTC" if name in {"z", "utc", "gmt"} else name.upper() if "/" not in name else name.title()
    try:
        if name[0] in "+-":
            offset = timedelta(hours=int(name[1:3]), minutes=int(name[-2:]))
            return timezone(-offset if name[0] == "-" else offset)
        return ZoneInfo(spelt)
    except (KeyError, ValueError) as error:
        like = did_you_mean(spelt, available_timezones())
        raise UnknownZoneError(f"time zone {spelt!r} is not known{like}; write one such as Europe/Berlin") from error


def _clock_matches(text: str) -> list[re.Match[str]]:
    return [found for pattern in _CLOCKS for found in re.finditer(pattern, text)]


def _atoms(text: str, now: datetime) -> list[_Atom]:
    """Return the parts of times in a text, from left to right; none lies in another."""
    found: list[_Atom] = []
    for pattern, reads, point in _SPANS:
        matches = re.finditer(pattern, text)
        found += [_Atom(*one.span(), span=reads(one.groupdict(), now), point=point) for one in matches]
    for pattern, reads_day in _DAYS:
        for match in re.finditer(pattern, text):
            try:
                found.append(_Atom(match.start(), match.end(), reads_day(match.groupdict(), now)))
            except ValueError:  # 31 February
                continue
    for match in _clock_matches(text):
        clock, precision = _clock(match.groupdict())
        found.append(_Atom(match.start(), match.end(), None, clock, precision))
    for match in _NAMED_CLOCK.finditer(text):
        found.append(_Atom(match.start(), match.end(), None, CLOCKS[match[1]], timedelta(minutes=1)))
    kept: list[_Atom] = []
    for atom in sorted(found, key=lambda one: (one.begin, -one.end)):
        if not kept or atom.begin >= kept[-1].end:
            kept.append(atom)
    return kept


def _span(atom: _Atom, now: datetime) -> tuple[datetime, datetime]:
    """Return from when to when a part lies; a clock without a day is the last one until now."""
    if atom.span is not None:
        return atom.span
    start = datetime.combine(atom.day or now.date(), atom.clock or time(), now.tzinfo)
    if atom.day is None and start > now:
        start -= DAY
    return start, start + atom.precision
