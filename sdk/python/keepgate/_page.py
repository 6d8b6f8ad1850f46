"""Lists in pages: a client says how many items it wants and after which, and gets a `Link` to the rest (RFC 8288)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

from ._failure import Invalid
from ._http import Request

Item = TypeVar("Item")


@dataclass(frozen=True)
class Page:
    """The page of a list that a request asks for: `?limit=100&after=KEY`."""

    limit: int
    #: Behind what the page begins; None for the first.
    after: str | None

    @classmethod
    def of(cls, request: Request, default: int, most: int) -> Page:
        """Raises `Invalid` if `limit` is not a number from 1 to `most`."""
        asked = request.query.get("limit")
        limit = default if asked is None else int(asked) if asked.isascii() and asked.isdigit() else 0
        if not 1 <= limit <= most:
            raise Invalid(f"limit: {asked!r} is not a number from 1 to {most}")
        return cls(limit, request.query.get("after"))

    def fill(
        self, items: Iterable[Item], place: Callable[[Item], str]
    ) -> tuple[list[Item], str | None]:
        """As many items as the page has, and behind what the next page begins; None if this one is the last."""
        filled: list[Item] = []
        for item in items:
            if len(filled) == self.limit:
                return filled, place(filled[-1])
            filled.append(item)
        return filled, None


def link(request: Request, next: str | None) -> dict[str, str]:
    """The header `Link` to the next page; nothing for the last."""
    if next is None:
        return {}
    query = [pair for pair in request.query if pair[0] != "after"] + [("after", next)]
    slash = [""] if request.trailing_slash and request.path else []
    return {"link": f'<{request.url(*request.path, *slash)}?{urlencode(query)}>; rel="next"'}
