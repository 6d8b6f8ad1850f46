"""Stores that the operator granted to the mount."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from wit_world.imports import blobs

from ._body import Body, take
from ._environment import Pairs, to_datetime, to_pairs
from ._failure import NotFound, asking
from ._http import Fields

_PAGE = 1000


@dataclass(frozen=True)
class Info:
    """What a store knows of a blob."""

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
class Entry:
    """One line of a listing."""

    key: str
    #: Bytes.
    size: int
    modified: datetime
    #: True for a folder, which only listings that are not recursive name.
    folder: bool


@dataclass(frozen=True)
class Download:
    """A blob, or a part of one, that can be read or handed on."""

    info: Info
    #: Where the body starts within the blob.
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
        """What the store knows of a blob. Raises `NotFound`."""
        with asking():
            return _info(self._handle.head(key))

    def get(
        self,
        key: str,
        *,
        offset: int | None = None,
        length: int | None = None,
        suffix: int | None = None,
    ) -> Download:
        """The blob; or so many bytes from an offset on; or its last so many. Raises `NotFound`, and
        `OutOfRange` where no asked byte is inside."""
        part: blobs.Part = blobs.Part_Whole()
        if suffix is not None:
            part = blobs.Part_Suffix(suffix)
        elif offset is not None or length is not None:
            part = blobs.Part_Slice((offset or 0, length))
        with asking():
            found = self._handle.get(key, part)
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
    ) -> Info:
        """Stores a blob: durable when it returns, all of it or nothing. `matches` is the etag that
        the blob there must have. Raises `AlreadyExists`, `PreconditionFailed`, `ChecksumMismatch`,
        `Truncated`, `QuotaExceeded`, `NoSpace`, `Denied`."""
        options = _options(condition, matches, sha256, content_type, metadata, tags)
        handle = take(data)
        with asking():
            return _info(self._handle.put(key, handle, options))

    def concat(
        self,
        key: str,
        parts: list[str],
        *,
        condition: Literal["always", "absent", "absent-or-identical"] = "always",
        matches: str | None = None,
        sha256: str | None = None,
        content_type: str | None = None,
        metadata: Pairs | None = None,
        tags: Pairs | None = None,
    ) -> Info:
        """Joins blobs into one, in order, with the same guarantees as `put`; the parts stay."""
        options = _options(condition, matches, sha256, content_type, metadata, tags)
        with asking():
            return _info(self._handle.concat(key, parts, options))

    def delete(self, key: str) -> int | None:
        """The size in bytes of the blob that this very call removed; None where there was none."""
        with asking():
            return self._handle.delete(key)

    def list(self, folder: str = "", *, recursive: bool = True) -> Iterator[Entry]:
        """Blobs below a folder, ascending by key. Raises `NotFound` where there is no such folder;
        the top is always there, also before anything was stored."""
        try:
            with asking():
                listing = self._handle.list(folder, recursive)
        except NotFound:
            if folder:
                raise
            return
        with listing:
            while True:
                with asking():
                    page = listing.next(_PAGE)
                if not page:
                    return
                for found in page:
                    modified = to_datetime(found.modified)
                    yield Entry(found.key, found.size, modified, found.folder)

    def prepare(self, *folders: str) -> None:
        """Makes folders that may stay empty; `put` needs no such thing."""
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


def _options(
    condition: str,
    matches: str | None,
    sha256: str | None,
    content_type: str | None,
    metadata: Pairs | None,
    tags: Pairs | None,
) -> blobs.PutOptions:
    conditions: dict[str, blobs.Condition] = {
        "always": blobs.Condition_Always(),
        "absent": blobs.Condition_Absent(),
        "absent-or-identical": blobs.Condition_AbsentOrIdentical(),
    }
    must = conditions[condition] if matches is None else blobs.Condition_Matches(matches)
    return blobs.PutOptions(must, sha256, content_type, to_pairs(metadata), to_pairs(tags))
