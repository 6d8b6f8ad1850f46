"""A small ordered table of the mount: records that change together or not at all, and only if what the plugin knows of
them still holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from wit_world.imports import records

from ._failure import asking

__all__ = ["Record", "commit", "get", "get_all", "page", "scan"]


@dataclass(frozen=True)
class Record:
    """A value under a key. `version` is the revision of the commit that wrote it."""

    key: str
    value: bytes
    version: int


def get(key: str) -> Record | None:
    """The record under a key, if there is one."""
    return get_all([key])[0]


def get_all(keys: Iterable[str]) -> list[Record | None]:
    """The records under these keys, at most 1000, in their order and as of one moment; `None` for those that are not
    there."""
    with asking():
        found = records.get([*keys])
    return [None if record is None else _record(record) for record in found]


def page(
    prefix: str, *, after: str | None = None, descending: bool = False, max: int = 1000
) -> tuple[list[Record], bool]:
    """The first records whose keys begin with this, at most `max`, and whether there are more."""
    with asking():
        found = records.scan(records.Range(prefix, after, descending), max)
    return [_record(record) for record in found.records], found.more


def scan(prefix: str, *, after: str | None = None, descending: bool = False) -> Iterator[Record]:
    """The records whose keys begin with this, behind `after`; before it, in descending order. They are read page by page,
    so they need not be as of one moment."""
    more = True
    while more:
        found, more = page(prefix, after=after, descending=descending)
        yield from found
        if not found:
            return
        after = found[-1].key


def commit(
    *,
    absent: Iterable[str] = (),
    present: Iterable[str] = (),
    unchanged: Iterable[Record] = (),
    put: Mapping[str, bytes | str] | None = None,
    delete: Iterable[str] = (),
) -> int:
    """Makes all changes if all comparisons hold, durably, and returns the revision. Raises `PreconditionFailed` if one
    does not hold, `Invalid` for more than 128 comparisons or changes or a MiB, and `QuotaExceeded` or `NoSpace` if there
    is no room: nothing was changed then. After `Unavailable` it may have been made."""
    comparisons = [
        *(records.Comparison(key, records.Expected_Absent()) for key in absent),
        *(records.Comparison(key, records.Expected_Present()) for key in present),
        *(records.Comparison(it.key, records.Expected_Version(it.version)) for it in unchanged),
    ]
    changes = [
        *(records.Change_Put((key, _bytes(value))) for key, value in (put or {}).items()),
        *(records.Change_Delete(key) for key in delete),
    ]
    with asking():
        return records.commit(comparisons, changes)


def _record(record: records.Record) -> Record:
    return Record(record.key, bytes(record.value), record.version)


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
