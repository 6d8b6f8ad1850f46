"""Stores that the operator has granted to the mount."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from wit_world.imports import blobs

from ._body import Body, take
from ._environment import Pairs, to_datetime, to_nanoseconds, to_pairs
from ._failure import asking
from ._http import Fields

_PAGE = 1000


@dataclass(frozen=True)
class Info:
    """What a store knows about a blob."""

    key: str
    #: Bytes.
    size: int
    modified: datetime
    #: Changes whenever the blob does; without quotes.
    etag: str
    #: What `put` was given.
    content_type: str | None
    metadata: Fields
    tags: Fields


@dataclass(frozen=True)
class Stored(Info):
    """A blob that `put`, `concat` or `rename` stored, in its current state."""

    #: What this call changed: `unchanged` if the same bytes were there, so that nothing was
    #: written.
    change: Literal["created", "replaced", "unchanged"]
    #: Bytes of the blob that was replaced.
    replaced: int | None


@dataclass(frozen=True)
class Piece:
    """Some bytes of a blob, to be joined with others: so many from an offset on, or the last so many."""

    key: str
    offset: int | None = None
    length: int | None = None
    suffix: int | None = None


@dataclass(frozen=True)
class Entry:
    """An entry of a list."""

    key: str
    #: Bytes.
    size: int
    modified: datetime
    #: As in `Info`; empty for a folder.
    etag: str
    #: Whether it is a folder, which only lists that are not recursive contain.
    folder: bool


@dataclass(frozen=True)
class Download:
    """A blob, or a part of one, that can be read or handed on."""

    info: Info
    #: The offset of the body in the blob.
    offset: int
    #: How many bytes it has.
    length: int
    body: Body


class Store:
    """A store, opened by the name that the mount's configuration has for it. Keys are paths without
    empty or dotted segments, 1024 bytes at most; others raise `Invalid`."""

    def __init__(self, name: str = "main") -> None:
        with asking():
            self._handle = blobs.Store.open(name)

    def head(self, key: str) -> Info:
        """What the store knows about a blob. Raises `NotFound`."""
        with asking():
            return _info(self._handle.head(key))

    def heads(self, keys: Iterable[str]) -> list[Info | None]:
        """The same for many blobs, at most 1000, in the order of their keys; `None` for a blob that is not there."""
        with asking():
            found = self._handle.heads([*keys])
        return [None if info is None else _info(info) for info in found]

    def get(
        self,
        key: str,
        *,
        offset: int | None = None,
        length: int | None = None,
        suffix: int | None = None,
    ) -> Download:
        """The blob; or so many bytes from an offset on; or its last so many. Raises `NotFound`, and
        `OutOfRange` if no byte of the part is inside."""
        with asking():
            found = self._handle.get(key, _part(offset, length, suffix))
        return Download(_info(found.info), found.offset, found.length, Body(found.data))

    def put(
        self,
        key: str,
        data: Body | bytes | str,
        *,
        condition: Literal["always", "absent", "absent-or-identical"] = "always",
        matches: str | None = None,
        sha256: str | None = None,
        content_type: str | None = None,
        metadata: Pairs | None = None,
        tags: Pairs | None = None,
        expires: datetime | None = None,
    ) -> Stored:
        """Stores a blob: durable when it returns, all of it or nothing. `matches` is the etag that
        the blob there must have. A blob that `expires` is not there from then on, and no condition
        minds it; the host removes it within an hour or so, and lists may name it until then. Another
        blob under the key revokes that. Raises `AlreadyExists`, `PreconditionFailed`, `ChecksumMismatch`,
        `Truncated`, `QuotaExceeded`, `NoSpace`, `Denied`."""
        options = _options(condition, matches, sha256, content_type, metadata, tags)
        handle = take(data)
        with asking():
            if expires is None:
                return _stored(self._handle.put(key, handle, options))
            until = to_nanoseconds(expires)
            return _stored(self._handle.put_until(key, handle, options, until))

    def receive(
        self,
        key: str,
        data: Body | bytes | str,
        *,
        condition: Literal["always", "absent", "absent-or-identical"] = "always",
        matches: str | None = None,
        sha256: str | None = None,
        content_type: str | None = None,
        metadata: Pairs | None = None,
        tags: Pairs | None = None,
    ) -> tuple[Stored, bool]:
        """Stores as `put` does, except that what came of a body that broke off, or whose sender fell
        silent, is kept, without a look at its SHA-256; says whether the body is complete. The host goes
        on with it when the client is gone, and with it this call."""
        options = _options(condition, matches, sha256, content_type, metadata, tags)
        handle = take(data)
        with asking():
            received = self._handle.receive(key, handle, options)
        return _stored(received.stored), received.complete

    def concat(
        self,
        key: str,
        pieces: list[str | Piece],
        *,
        condition: Literal["always", "absent", "absent-or-identical"] = "always",
        matches: str | None = None,
        sha256: str | None = None,
        content_type: str | None = None,
        metadata: Pairs | None = None,
        tags: Pairs | None = None,
    ) -> Stored:
        """Joins blobs, or pieces of them, into one, in order, with the same guarantees as `put`; they
        stay."""
        options = _options(condition, matches, sha256, content_type, metadata, tags)
        with asking():
            return _stored(self._handle.concat(key, [_piece(piece) for piece in pieces], options))

    def rename(
        self,
        key: str,
        to: str,
        *,
        condition: Literal["always", "absent"] = "always",
        matches: str | None = None,
    ) -> Stored:
        """Moves a blob to another key, with everything that is kept with it: on a disk in one step,
        without copying. The condition is about the new key. Raises `NotFound` if there is no blob,
        `AlreadyExists`, `PreconditionFailed`, `QuotaExceeded`, `Denied`."""
        must = _condition(condition, matches)
        with asking():
            return _stored(self._handle.rename(key, to, must))

    def delete(self, key: str, *, matches: str | None = None) -> int | None:
        """The size in bytes of the blob that this call removed; None if there was none. With
        `matches` it removes only the blob with that etag, and raises `PreconditionFailed` if another
        is there, or none."""
        must = blobs.Condition_Always() if matches is None else blobs.Condition_Matches(matches)
        with asking():
            return self._handle.delete(key, must)

    def list(
        self, folder: str = "", *, recursive: bool = True, after: str | None = None
    ) -> Iterator[Entry]:
        """Blobs below a folder, ascending by key. With `after`, those behind that key, which is a
        folder's with `/` at its end. Raises `NotFound` if there is no such folder; the top is always
        there, even before anything was stored."""
        with asking():
            listing = self._handle.list(folder, recursive, after)
        with listing:
            while True:
                with asking():
                    page = listing.next(_PAGE)
                if not page:
                    return
                for found in page:
                    modified = to_datetime(found.modified)
                    yield Entry(found.key, found.size, modified, found.etag, found.folder)

    def prepare(self, *folders: str) -> None:
        """Creates folders that may stay empty; `put` does not need them."""
        with asking():
            self._handle.prepare([*folders])


def _info(info: blobs.Info) -> Info:
    return Info(
        key=info.key,
        size=info.size,
        modified=to_datetime(info.modified),
        etag=info.etag,
        content_type=info.content_type,
        metadata=Fields(info.metadata),
        tags=Fields(info.tags),
    )


def _stored(stored: blobs.Stored) -> Stored:
    change = stored.change
    if isinstance(change, blobs.Change_Replaced):
        return Stored(**vars(_info(stored.info)), change="replaced", replaced=change.value)
    word = "created" if isinstance(change, blobs.Change_Created) else "unchanged"
    return Stored(**vars(_info(stored.info)), change=word, replaced=None)


def _part(offset: int | None, length: int | None, suffix: int | None) -> blobs.Part:
    if suffix is not None:
        return blobs.Part_Suffix(suffix)
    if offset is not None or length is not None:
        return blobs.Part_Slice((offset or 0, length))
    return blobs.Part_Whole()


def _piece(piece: str | Piece) -> blobs.Piece:
    if isinstance(piece, str):
        return blobs.Piece(piece, blobs.Part_Whole())
    return blobs.Piece(piece.key, _part(piece.offset, piece.length, piece.suffix))


def _options(
    condition: str,
    matches: str | None,
    sha256: str | None,
    content_type: str | None,
    metadata: Pairs | None,
    tags: Pairs | None,
) -> blobs.PutOptions:
    must = _condition(condition, matches)
    return blobs.PutOptions(must, sha256, content_type, to_pairs(metadata), to_pairs(tags))


def _condition(condition: str, matches: str | None) -> blobs.Condition:
    conditions: dict[str, blobs.Condition] = {
        "always": blobs.Condition_Always(),
        "absent": blobs.Condition_Absent(),
        "absent-or-identical": blobs.Condition_AbsentOrIdentical(),
    }
    return conditions[condition] if matches is None else blobs.Condition_Matches(matches)
