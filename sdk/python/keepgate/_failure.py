"""The contract's failures as exceptions. One that leaves `handle` becomes the status that its class
names; any other exception is a bug: the client gets a 500, and the operator's log the traceback."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from componentize_py_types import Err
from wit_world.imports import types

from ._late import advice


class Failure(Exception):
    """Why a call failed, in the contract's terms. Raise one of the classes below."""

    status = 500
    message = "internal error"
    #: The contract's case.
    case: type = types.Failure_Internal
    #: Whether the case has a value: words for the client, or a number of bytes.
    _has_value = True

    def __init__(self, detail: str | int | None = None) -> None:
        super().__init__(self.message if detail is None else detail)
        self.detail = detail

    def headers(self) -> list[tuple[str, str]]:
        """The headers that HTTP has for this failure, whatever form a surface gives it."""
        return []

    def _to_host(self) -> Err:
        if not self._has_value:
            return Err(self.case())
        return Err(self.case(self.message if self.detail is None else self.detail))


class NotFound(Failure):
    """404."""

    status, message, case, _has_value = 404, "not found", types.Failure_NotFound, False


class AlreadyExists(Failure):
    """409: another blob is stored under this name."""

    status, message = 409, "another blob is stored under this name"
    case, _has_value = types.Failure_AlreadyExists, False


class PreconditionFailed(Failure):
    """412: the blob has been replaced."""

    status, message = 412, "the blob has been replaced"
    case, _has_value = types.Failure_PreconditionFailed, False


class ChecksumMismatch(Failure):
    """400: the bytes do not have the expected SHA-256; `detail` is the one that they have,
    if it is known."""

    status, message = 400, "the bytes do not have the expected SHA-256"
    case = types.Failure_ChecksumMismatch

    def __str__(self) -> str:
        return self.message if self.detail is None else f"{self.message}, but {self.detail}"

    def _to_host(self) -> Err:
        return Err(types.Failure_ChecksumMismatch(self.detail))


class Truncated(Failure):
    """400: the sender stopped before the announced length."""

    status, message = 400, "the body ended before its announced length"
    case, _has_value = types.Failure_Truncated, False


class TooLarge(Failure):
    """413; `detail` is the limit in bytes, and must be given."""

    status, message, case = 413, "too large", types.Failure_TooLarge


class OutOfRange(Failure):
    """416; `detail` is the size of the blob in bytes, and must be given."""

    status, message, case = 416, "the requested range is outside of the blob", types.Failure_OutOfRange

    def headers(self) -> list[tuple[str, str]]:
        return [("content-range", f"bytes */{self.detail}")]


class QuotaExceeded(Failure):
    """507; `detail` says which quota."""

    status, message, case = 507, "a quota would be exceeded", types.Failure_QuotaExceeded


class NoSpace(Failure):
    """507: the store is full."""

    status, message, case, _has_value = 507, "no space left in the store", types.Failure_NoSpace, False


class Denied(Failure):
    """403; `detail` says what forbids it."""

    status, message, case = 403, "denied", types.Failure_Denied


class Invalid(Failure):
    """400; `detail` says what is invalid."""

    status, message, case = 400, "invalid", types.Failure_Invalid


class Unsupported(Failure):
    """501; `detail` says what cannot be done at all."""

    status, message, case = 501, "unsupported", types.Failure_Unsupported


class Unavailable(Failure):
    """503; `detail` says what does not answer. Clients are asked to try again in 5 seconds."""

    status, message, case = 503, "unavailable", types.Failure_Unavailable

    def headers(self) -> list[tuple[str, str]]:
        return [("retry-after", "5")]


class Busy(Failure):
    """503; `detail` says what there is too much of."""

    status, message, case = 503, "busy", types.Failure_Busy


class TimedOut(Failure):
    """504, or 408 if the client did not send."""

    status, message, case, _has_value = 504, "timed out", types.Failure_TimedOut, False


class Internal(Failure):
    """500; `detail` goes to the operator's log, never to a client."""


class Refused(Failure):
    """A refusal that no other class is: a status from 400 to 599, a code for programs (empty if the
    surface has none), a text for whoever made the request, and the seconds until it is worth trying
    again. A job that raises it is not tried again if the status is below 500."""

    case = types.Failure_Refused

    def __init__(
        self, status: int, code: str, message: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.retry_after = retry_after

    def headers(self) -> list[tuple[str, str]]:
        return [] if self.retry_after is None else [("retry-after", str(self.retry_after))]

    def _to_host(self) -> Err:
        refusal = types.Refusal(self.status, self.code, self.message, self.retry_after)
        return Err(types.Failure_Refused(refusal))


_BY_CASE = {failure.case: failure for failure in [*Failure.__subclasses__()]}


@contextmanager
def asking() -> Iterator[None]:
    """Surrounds each call of the host that can fail, and turns its failures into exceptions."""
    try:
        yield
    except Err as error:
        failure = _BY_CASE.get(type(error.value))
        if failure is None:
            raise
        raise failure(getattr(error.value, "value", None)) from None


def to_host(error: Exception) -> Err:
    """What the host gets: a failure as it is, any other exception as a bug, with its traceback."""
    if isinstance(error, Failure):
        return error._to_host()
    return Err(types.Failure_Internal(in_one_line(error)))


#: A recursion without an end has a thousand.
_PLACES = 12


def in_one_line(error: Exception) -> str:
    """An exception with its traceback, the innermost place first, as one line of the operator's log."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"in {frame.name} ({frame.filename}:{frame.lineno})" for frame in reversed(frames)]
    if len(places) > _PLACES:
        places[_PLACES:] = [f"and {len(places) - _PLACES} more"]
    return " / ".join([f"{type(error).__name__}: {error}{advice(error)}", *places])
