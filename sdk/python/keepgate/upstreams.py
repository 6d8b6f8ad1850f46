"""HTTP systems that the operator has configured and granted to the mount."""

from __future__ import annotations

import json as _json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from wit_world.imports import upstreams

from ._body import Body, take
from ._failure import asking

__all__ = ["Exchange", "check", "names", "send"]


def names() -> list[str]:
    """The names of the upstreams that the mount grants, in order."""
    return upstreams.names()


def check(upstream: str, target: str, *, method: str = "GET") -> None:
    """Raises `Denied` or `Invalid` if the operator does not allow a request, without sending it. What a host's name
    leads to is not known yet, so `send` can still raise `Denied`."""
    with asking():
        upstreams.check(upstream, method, target)


class Exchange:
    """A request that was sent, with its response. Any status is a success."""

    def __init__(self, handle: upstreams.Exchange) -> None:
        self._handle = handle
        self.status: int = handle.status()
        #: Pairs of name, in lower case, and value.
        self.headers: list[tuple[str, str]] = [(name, value) for name, value in handle.headers()]

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        found = (value for known, value in self.headers if known == name.lower())
        return next(found, None)

    def body(self) -> Body:
        """The bytes. They can be taken once. Reading them raises `Unavailable` if the upstream breaks off."""
        with asking():
            return Body(self._handle.body())


def send(
    upstream: str,
    target: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    body: Body | bytes | str | None = None,
    json: Any = None,
    answer_within: timedelta | None = None,
    silent_for: timedelta | None = None,
    max_body: int | None = None,
    resume: bool = False,
) -> Exchange:
    """Sends a request and waits for the head of the response. `target` is path and query, percent-encoded; for an
    upstream that is a list of addresses, the whole URL. `resume` says that the resource does not change, so that the
    host can read on if the response breaks off. Raises `Denied` if the mount does not grant the upstream or the operator
    does not allow the request, `Unavailable` if the upstream does not answer, and `Busy` if too many requests are under
    way."""
    pairs = [*(headers.items() if isinstance(headers, Mapping) else headers)]
    if json is not None:
        pairs.append(("content-type", "application/json"))
        body = _json.dumps(json)
    request = upstreams.Request(method, target, pairs)
    options = upstreams.Options(
        _milliseconds(answer_within), _milliseconds(silent_for), max_body, resume
    )
    handle = None if body is None else take(body)
    with asking():
        return Exchange(upstreams.Exchange.send(upstream, request, handle, options))


def _milliseconds(limit: timedelta | None) -> int | None:
    return None if limit is None else max(0, round(limit.total_seconds() * 1000))
