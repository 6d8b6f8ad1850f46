"""Requests and replies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from wit_world.imports import http, types

from ._body import Body, _to_bytes, take
from ._environment import Pairs, to_pairs
from ._failure import Invalid, OutOfRange, asking

if TYPE_CHECKING:
    from ._store import Info, Store


class Fields:
    """Pairs of name and value, in order; a name may occur more than once."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def get(self, name: str) -> str | None:
        """The first value of this name."""
        return next((value for found, value in self._pairs if found == name), None)

    def all(self, name: str) -> list[str]:
        """All values of this name."""
        return [value for found, value in self._pairs if found == name]

    def __contains__(self, name: object) -> bool:
        return any(found == name for found, _ in self._pairs)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)


@dataclass(frozen=True)
class Principal:
    """A user, as authenticated by the host."""

    name: str
    #: How the user was authenticated: `htpasswd`, `proxy` or `certificate`.
    method: str
    claims: Fields


@dataclass(frozen=True)
class Request:
    """A request below the plugin's mount."""

    method: str
    #: The URL of the mount for this client, without a slash at its end; empty if it is not known.
    #: Unless the operator set it, the host in it is what the client claims.
    base: str
    #: Path and query as the client sent them, from the root of the server.
    target: str
    #: IP address of the client, or of the proxy in front; None over a Unix socket.
    address: str | None
    #: The identifier of the request in logs.
    id: str
    #: Percent-decoded segments; they may be empty, dots, or hold a slash. Stores refuse such keys.
    path: list[str]
    #: Whether the path ended with `/`.
    trailing_slash: bool
    query: Fields
    #: Headers, with names in lower case and without the credentials that the host has checked.
    headers: Fields
    #: None if the mount lets anybody in.
    principal: Principal | None
    #: The body. Pass it on instead of reading it, if possible.
    body: Body

    @property
    def user(self) -> str:
        """The name of the authenticated user; empty if the mount admits everybody."""
        return self.principal.name if self.principal else ""

    def url(self, *segments: str) -> str:
        """Where a path below the mount is for this client: for `Location`, `Link` and bodies. An empty
        last segment makes a slash at the end. Where `base` is empty it is relative to this request's
        path."""
        below = "/".join(quote(segment, safe="") for segment in segments)
        if self.base:
            return f"{self.base}/{below}"
        # A relative reference starts at the last slash of the request's path.
        up = len(self.path) - (0 if self.trailing_slash else 1)
        if up < 0:
            # The mount's own path without a slash at its end: the reference repeats its name.
            own = self.target.partition("?")[0].rpartition("/")[2]
            return f"./{own}/{below}"
        return ("../" * up or "./") + below

    def json(self, limit: int = 1 << 20) -> Any:
        """The body as JSON. Raises `Invalid` if it is not JSON, and `TooLarge` over the limit."""
        try:
            return json.loads(self.body.bytes(limit))
        except (ValueError, RecursionError) as error:
            raise Invalid(f"the body is not JSON: {error}") from None


@dataclass
class Reply:
    """A plugin's reply. `content` is nothing, bytes, text, a body of the host's, or an iterable
    of bytes that is sent while it is made."""

    status: int = 200
    headers: Pairs = field(default_factory=dict)
    content: Body | bytes | str | Iterable[bytes] | None = None

    def send_interim(self) -> None:
        """Sends status and headers as an interim response, before the reply itself. The status is 102
        to 199. Clients of HTTP/1.0 and HTTP/2 are sent none."""
        with asking():
            http.inform(http.Head(self.status, to_pairs(self.headers)))

    @classmethod
    def text(cls, text: str, status: int = 200, headers: Pairs | None = None) -> Reply:
        """Plain text."""
        kind = ("content-type", "text/plain; charset=utf-8")
        return cls(status, [kind, *to_pairs(headers)], text)

    @classmethod
    def json(cls, value: object, status: int = 200, headers: Pairs | None = None) -> Reply:
        """JSON."""
        kind = ("content-type", "application/json")
        return cls(status, [kind, *to_pairs(headers)], json.dumps(value))

    @classmethod
    def method_not_allowed(cls, *allowed: str) -> Reply:
        """A 405 that lists the allowed methods."""
        allow = ", ".join(allowed)
        return cls.text(f"only {allow}\n", 405, {"allow": allow})

    @classmethod
    def blob(cls, store: Store, key: str, request: Request, headers: Pairs | None = None) -> Reply:
        """The answer to GET or HEAD of a blob, with one range and `If-None-Match`. The host sends the
        bytes."""
        return _blob(store, key, request, to_pairs(headers))

    def _to_host(self) -> http.Reply:
        head = http.Head(self.status, to_pairs(self.headers))
        content = self.content
        if content is None:
            return http.Reply_Full((head, http.Content_Empty()))
        if isinstance(content, Body):
            return http.Reply_Full((head, http.Content_Body(take(content))))
        if isinstance(content, (bytes, bytearray, str)):
            return http.Reply_Full((head, http.Content_Bytes(_to_bytes(content))))
        with asking():
            writer = http.Writer.start(head)
        with writer:
            for chunk in content:
                with asking():
                    writer.write(_to_bytes(chunk))
        return http.Reply_Streamed()


def to_principal(who: types.Principal | None) -> Principal | None:
    """The host's principal as ours."""
    return Principal(who.name, who.method, Fields(who.claims)) if who else None


def from_host(request: http.Request) -> Request:
    """The host's request as ours."""
    return Request(
        method=request.method,
        base=request.base,
        target=request.target,
        address=request.address,
        id=request.id,
        path=request.path,
        trailing_slash=request.trailing_slash,
        query=Fields(request.query),
        headers=Fields(request.headers),
        principal=to_principal(request.principal),
        body=Body(request.body),
    )


def _blob(store: Store, key: str, request: Request, further: list[tuple[str, str]]) -> Reply:
    """Headers and content belong to the same blob, even if it is replaced in the meantime."""
    whole = store.get(key)
    info = whole.info
    known = request.headers.get("if-none-match")
    if known is not None:
        etags = [etag.strip().removeprefix("W/") for etag in known.split(",")]
        if "*" in etags or f'"{info.etag}"' in etags:
            return Reply(304, {"etag": f'"{info.etag}"'})
    if request.method == "HEAD":
        return Reply(200, [*_headers(info, info.size), *further])
    part = _range(None if "if-range" in request.headers else request.headers.get("range"))
    # An empty blob has no byte that a range could name: clients that ask for all of it get it.
    if part and info.size > 0:
        try:
            found = store.get(key, **part)
        except OutOfRange as failure:
            if failure.detail == info.size:
                raise
            found = store.get(key)
        if found.info.etag == info.etag:
            last = found.offset + found.length - 1
            place = ("content-range", f"bytes {found.offset}-{last}/{info.size}")
            return Reply(206, [*_headers(info, found.length), *further, place], found.body)
        # Another blob by now: a server may send all of it.
        whole = store.get(key)
    return Reply(200, [*_headers(whole.info, whole.length), *further], whole.body)


def _headers(info: Info, length: int) -> list[tuple[str, str]]:
    return [
        ("content-type", info.content_type or "application/octet-stream"),
        ("content-length", str(length)),
        ("etag", f'"{info.etag}"'),
        ("last-modified", format_datetime(info.modified, usegmt=True)),
        ("accept-ranges", "bytes"),
    ]


_RANGE = re.compile(r"bytes=\s*([0-9]*)\s*-\s*([0-9]*)\s*")
_LARGEST = (1 << 64) - 2


def _range(value: str | None) -> dict[str, int]:
    """One range of bytes; nothing for anything else, which a server may ignore (RFC 9110, 14.2)."""
    found = _RANGE.fullmatch(value or "")
    if found is None:
        return {}
    first, last = (min(int(digits), _LARGEST) if digits else None for digits in found.groups())
    if first is None:
        return {} if last is None else {"suffix": last}
    if last is None:
        return {"offset": first}
    return {"offset": first, "length": last - first + 1} if last >= first else {}
