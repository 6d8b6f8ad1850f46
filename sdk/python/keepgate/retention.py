"""Which backups are kept: rules by count, age and calendar, for anything that has a time. The same rules as in
the SDKs for Rust and JavaScript; `sdk/tests/retention.json` compares all three."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

Item = TypeVar("Item")

#: How far ahead of the clock a time may be without being from the future.
SKEW = timedelta(minutes=5)


def from_the_future(
    items: Sequence[Item], now: datetime, *, time: Callable[[Item], datetime]
) -> list[Item]:
    """The items that are further ahead of `now` than `SKEW`: a clock was wrong when they were made. No rule removes
    them before their time has come, so tell people how many there are."""
    return [item for item in items if time(item) - now > SKEW]


def newest_last(
    items: Sequence[Item], now: datetime, *, time: Callable[[Item], datetime]
) -> list[Item]:
    """The items in the order of a list whose last entry is taken for the newest: oldest first, those from the future
    (see `from_the_future`) before all others, because nobody knows how old they are. Items of one time keep their
    order."""
    return sorted(items, key=lambda item: (time(item) - now <= SKEW, time(item)))


@dataclass(frozen=True)
class Policy:
    """A retention policy: an item is kept if one of these rules keeps it."""

    #: Keeps this many of the newest.
    last: int = 0
    #: Keeps all that are not older than this.
    within: timedelta | None = None
    #: Keeps the newest of each day (UTC), for this many of the last days that have one.
    daily: int = 0
    #: The same for ISO weeks, Monday to Sunday.
    weekly: int = 0
    #: The same for months.
    monthly: int = 0
    #: The same for years.
    yearly: int = 0

    def expired(
        self,
        items: Sequence[Item],
        now: datetime,
        *,
        time: Callable[[Item], datetime],
        is_spared: Callable[[Item], bool] = lambda item: False,
    ) -> list[Item]:
        """The items that no rule keeps, oldest first. `items` are ordered by time, the oldest first. Those from the
        future (see `from_the_future`) stay, and no rule counts them. Of the others the newest one always stays, and so
        does each for which `is_spared` is true."""
        last = self.last
        left = [self.daily, self.weekly, self.monthly, self.yearly]
        current: list[object] = [None] * 4
        gone = []
        up_to_now = [item for item in items if time(item) - now <= SKEW]
        for age, item in enumerate(reversed(up_to_now)):
            at = time(item)
            kept = age == 0 or is_spared(item) or last > 0
            last -= 1
            kept |= self.within is not None and now - at <= self.within
            iso = at.isocalendar()
            periods = [at.toordinal(), (iso.year, iso.week), (at.year, at.month), at.year]
            for rule, period in enumerate(periods):
                # Every rule sees every item, whatever the other rules make of it.
                if period != current[rule]:
                    kept |= left[rule] > 0
                    left[rule] -= 1
                current[rule] = period
            if not kept:
                gone.append(item)
        return gone[::-1]


_UNITS = {
    "ms": 0.001, "msec": 0.001, "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60,
    "h": 3600, "hr": 3600, "hour": 3600, "d": 86400, "day": 86400, "w": 604800, "week": 604800,
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]+)\s*")


def parse_duration(text: str) -> timedelta:
    """Reads a duration in settings, as in `7d` or `1m30s`. It is longer than zero; raises `ValueError`."""

    def wrong(why: str) -> ValueError:
        return ValueError(f"{text!r} is not a duration: {why}; write it as in `7d` or `1m30s`")

    seconds, rest = 0.0, text.strip()
    while rest:
        found = _PART.match(rest)
        if found is None:
            raise wrong("it is not numbers with units")
        number, name = found.groups()
        unit = _UNITS.get(name) or _UNITS.get(name.removesuffix("s"))
        if unit is None:
            raise wrong(f"unknown unit {name}")
        seconds += float(number) * unit
        rest = rest[found.end():]
    if seconds <= 0:
        raise wrong("it must be longer than zero")
    return timedelta(seconds=seconds)
