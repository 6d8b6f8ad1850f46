"""Work on bodies that the host does while they pass: no byte enters the plugin. What is wrong with
the bytes is raised when the result is read: by `Store.put`, for example."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from wit_world.imports import pipes

from ._body import Body, take
from ._environment import now, to_nanoseconds
from ._failure import asking


def gzip(data: Body | bytes | str, level: int = 6) -> Body:
    """Compresses; levels are 0 (stored) to 9 (smallest)."""
    handle = take(data)
    with asking():
        return Body(pipes.gzip(handle, level))


def gunzip(data: Body | bytes | str) -> Body:
    """Decompresses gzip, with all its members if there are several."""
    return Body(pipes.gunzip(take(data)))


@dataclass
class TarEntry:
    """A regular file in a tar archive."""

    #: Relative, without `..`.
    path: str
    #: Bytes; the data must have exactly so many.
    size: int
    data: Body | bytes | str
    mode: int = 0o644
    modified: datetime = field(default_factory=now)


def tar(entries: Iterable[TarEntry]) -> Body:
    """An archive of files, in order. Its length is known."""
    given = [
        pipes.Entry(e.path, e.size, e.mode, to_nanoseconds(e.modified), take(e.data))
        for e in entries
    ]
    with asking():
        return Body(pipes.tar(given))


@dataclass(frozen=True)
class Spooled:
    """A body whose length and hash are known before it goes on."""

    #: Bytes.
    size: int
    #: Lower-case hex.
    sha256: str
    body: Body


def spool(data: Body | bytes | str) -> Spooled:
    """Reads a body to its end into a temporary file of the host."""
    handle = take(data)
    with asking():
        spooled = pipes.spool(handle)
    return Spooled(spooled.size, spooled.sha256, Body(spooled.data))


def verified(data: Body | bytes | str, sha256: str) -> Body:
    """The same bytes, which must have this SHA-256 in lower-case hex: otherwise reading fails with
    `ChecksumMismatch` before the end, so that a client sees that its download is not whole."""
    handle = take(data)
    with asking():
        return Body(pipes.verified(handle, sha256))


def checked(data: Body | bytes | str, xxh3: str) -> Body:
    """As `verified`, with what a `Checksum` has computed."""
    handle = take(data)
    with asking():
        return Body(pipes.checked(handle, xxh3))


def limit(data: Body | bytes | str, max: int) -> Body:
    """The same bytes. Reading fails with `TooLarge` as soon as there are more than `max`."""
    return Body(pipes.limit(take(data), max))


def exactly(data: Body | bytes | str, length: int) -> Body:
    """The same bytes, with a known length. Reading fails with `TooLarge` as soon as there are more,
    and with `Truncated` at the end if there are fewer."""
    return Body(pipes.exactly(take(data), length))


def join(bodies: Iterable[Body | bytes | str]) -> Body:
    """The bytes of at most 1000 bodies, one after another."""
    handles = [take(data) for data in bodies]
    with asking():
        return Body(pipes.join(handles))


class Checksum:
    """Computes the XXH3 of a body while it is read, with 128 bits. Pass on `body` instead of the other one.
    It takes a twentieth of the time of a SHA-256 and finds damage as well, but not what somebody changed on
    purpose."""

    def __init__(self, data: Body | bytes | str) -> None:
        self._handle, passing = pipes.Checksum.attach(take(data))
        self.body = Body(passing)

    def xxh3(self) -> str | None:
        """Lower-case hex; None until the body has been read to its end."""
        return self._handle.xxh3()


class Meter:
    """Counts and hashes a body while it is read. Pass on `body` instead of the other one."""

    def __init__(self, data: Body | bytes | str) -> None:
        self._handle, metered = pipes.Meter.attach(take(data))
        self.body = Body(metered)

    def sum(self) -> tuple[int, str] | None:
        """Bytes that have passed and their SHA-256; None until the body has been read to its end."""
        found = self._handle.sum()
        return None if found is None else (found.size, found.sha256)
