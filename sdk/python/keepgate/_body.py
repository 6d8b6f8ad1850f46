"""Bodies: bytes that the host holds. Passing one on costs nothing; reading it copies it into the plugin."""

from __future__ import annotations

from collections.abc import Iterator

from wit_world.imports import types

from ._failure import TooLarge, asking

_CHUNK = 64 * 1024


class Body:
    """Bytes held by the host: of a request, a blob, a pipe. They can be used once: to read them, or
    to hand them on to `Store.put`, a pipe or a `Reply`."""

    def __init__(self, handle: types.Body) -> None:
        self._handle: types.Body | None = handle

    @classmethod
    def of(cls, data: bytes | str) -> Body:
        """A body with bytes that the plugin holds. Text is encoded as UTF-8."""
        return cls(types.Body.from_bytes(_to_bytes(data)))

    @property
    def length(self) -> int | None:
        """In bytes, if it is known before reading."""
        return self._present().length()

    def read(self, most: int = _CHUNK) -> bytes | None:
        """The next chunk, of at most so many bytes and never empty; None at the end."""
        with asking():
            return self._present().read(most)

    def __iter__(self) -> Iterator[bytes]:
        while (chunk := self.read()) is not None:
            yield chunk

    def bytes(self, limit: int = 1 << 20) -> bytes:
        """All of it. Raises `TooLarge` over the limit, so that no client can fill the memory."""
        if (self.length or 0) > limit:
            raise TooLarge(limit)
        read = bytearray()
        for chunk in self:
            read += chunk
            if len(read) > limit:
                raise TooLarge(limit)
        return _bytes(read)

    def _present(self) -> types.Body:
        if self._handle is None:
            raise ValueError("this body has been handed on, and cannot be used again")
        return self._handle

    def _take(self) -> types.Body:
        handle, self._handle = self._present(), None
        return handle


# Inside the class the name means the method.
_bytes = bytes


def _to_bytes(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data


def take(data: Body | bytes | str) -> types.Body:
    """The host's handle; from now on it belongs to the host again."""
    return (data if isinstance(data, Body) else Body.of(data))._take()
