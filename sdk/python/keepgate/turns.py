"""Turns: what must not be done twice at the same time waits for its turn. They are named locks of the mount
within one gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from wit_world.imports import turns

from ._failure import asking


@contextmanager
def turn(name: str, wait: timedelta = timedelta(minutes=1)) -> Iterator[None]:
    """Waits for the turn of this name, of 1 to 256 bytes, and has it inside the `with`. Raises `Busy` if it is
    not free in time; a call that waits for what it has taken itself waits in vain."""
    with asking():
        taken = turns.Turn.take(name, wait // timedelta(milliseconds=1))
    with taken:
        yield
