"""The environment of a call: the clock, random numbers, the operator's log and metrics."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone

from wit_world.imports import environment

Pairs = Mapping[str, object] | Iterable[tuple[str, object]]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LEVELS = [
    (logging.ERROR, environment.Level.ERROR),
    (logging.WARNING, environment.Level.WARN),
    (logging.INFO, environment.Level.INFO),
    (logging.DEBUG, environment.Level.DEBUG),
]


def now() -> datetime:
    """The time, in UTC. `datetime.now` works too, but a test cannot set it."""
    return to_datetime(environment.now())


def random(length: int) -> bytes:
    """Unpredictable bytes, at most 65536. Prefer them to the module `random`, because tests can set them."""
    return environment.random(length)


def count(metric: str, labels: Iterable[object] = (), by: int = 1) -> None:
    """Adds to a counter that the description declares. `labels` has the values of its labels, in that order."""
    environment.count(metric, [str(label) for label in labels], by)


def set_gauge(metric: str, labels: Iterable[object], value: float) -> None:
    """Sets a gauge that the description declares. The value stays until it is set again or the gateway ends."""
    environment.set(metric, [str(label) for label in labels], value)


def to_datetime(nanoseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def to_nanoseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000


def to_pairs(fields: Pairs | None) -> list[tuple[str, str]]:
    if fields is None:
        return []
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    return [(str(name), str(value)) for name, value in pairs]


class _OperatorsLog(logging.Handler):
    """`logging` goes to the operator's log; `extra={"fields": {...}}` becomes its fields."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next((ours for least, ours in _LEVELS if record.levelno >= least), None)
        fields = to_pairs(getattr(record, "fields", None))
        environment.log(level or environment.Level.TRACE, record.getMessage(), fields)


class _Printed:
    """`print` goes there too: a plugin has no terminal."""

    def __init__(self) -> None:
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            environment.log(environment.Level.INFO, line, [])
        return len(text)

    def flush(self) -> None:
        pass


_installed = False


def install() -> None:
    """Redirects both at the first call of an instance. Not earlier: while the component is built there is no host, and
    output is for the author."""
    global _installed
    if _installed:
        return
    _installed = True
    logging.basicConfig(handlers=[_OperatorsLog()], level=logging.DEBUG, force=True)
    sys.stdout = sys.stderr = _Printed()  # type: ignore[assignment]
