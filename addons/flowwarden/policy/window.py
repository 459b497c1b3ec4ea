"""`time`: weekly windows in a time zone, which may cross midnight."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import time, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..yamlfile import Section
from .facts import UNKNOWN, Facts, Hit

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60
_HOURS = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")


def _minutes(hour: str, minute: str) -> int:
    found = int(hour) * 60 + int(minute)
    if int(minute) > 59 or found > _DAY_MINUTES:
        raise ValueError(f"{hour}:{minute} is not a time of day")
    return found


def parse_hours(text: str) -> tuple[int, int]:
    """`22:00-06:00` as minutes of the day; the end is exclusive, 24:00 is the day's end. ValueError otherwise."""
    match = _HOURS.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a span such as 08:00-18:00")
    start, end = _minutes(match[1], match[2]), _minutes(match[3], match[4])
    if start in (end, _DAY_MINUTES):
        raise ValueError(f"{text!r} is empty; a whole day is 00:00-24:00")
    return start, end


def parse_days(texts: Iterable[str]) -> frozenset[int]:
    """`mon-fri`, `sat`, `fri-mon` as weekdays from 0. ValueError otherwise."""
    found: set[int] = set()
    for text in texts:
        first, dash, last = text.lower().replace(" ", "").partition("-")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{text!r} is not a day or a span of days such as mon-fri")
        start, end = DAYS.index(first), DAYS.index(last or first)
        found.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return frozenset(found)


@dataclass(frozen=True)
class Window:
    """Days and hours. Hours that cross midnight belong to the day on which they start."""

    days: frozenset[int]
    hours: tuple[tuple[int, int], ...]
    zone: tzinfo
    key: str = "time"

    @classmethod
    def of(cls, section: Section) -> Window:
        """RuleError for an unknown zone, day or span."""
        if "days" not in section and "hours" not in section:
            raise section.error("'time' needs days or hours")
        try:
            days = parse_days(section.texts("days", ("mon-sun",)))
        except ValueError as error:
            raise section.error(str(error), "days") from None
        try:
            hours = tuple(parse_hours(text) for text in section.texts("hours", ("00:00-24:00",)))
        except ValueError as error:
            raise section.error(str(error), "hours") from None
        if not days or not hours:
            raise section.error("an empty list would never match")
        name = section.text("zone", "UTC")
        section.finish()
        try:
            zone = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise section.error(f"{name!r} is not a time zone such as Europe/Berlin", "zone") from None
        return cls(days, hours, zone)

    def covers(self, weekday: int, clock: time) -> bool:
        """Whether a local weekday (0: Monday) and time of day lie inside."""
        at = clock.hour * 60 + clock.minute
        for start, end in self.hours:
            if start < end:
                if weekday in self.days and start <= at < end:
                    return True
            elif (weekday in self.days and at >= start) or ((weekday - 1) % 7 in self.days and at < end):
                return True
        return False

    def hits(self, facts: Facts) -> Iterable[Hit]:
        if facts.now is None or facts.now.tzinfo is None:
            return UNKNOWN
        local = facts.now.astimezone(self.zone)
        return (self.covers(local.weekday(), local.time()),)
