"""Topics: news for whoever waits for it, within a mount and within one gateway. A message is handed to the
subscriptions that are open when it is published, and is kept nowhere else."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType
from typing import Literal

from wit_world.imports import topics

from ._body import _to_bytes
from ._failure import asking

__all__ = ["Subscription", "publish"]


def publish(topic: str, message: bytes | str) -> int:
    """Hands a message of at most 64 KiB to every subscription to this topic, of 1 to 256 bytes, that is open in this
    gateway, and returns how many there are. It waits for none of them."""
    with asking():
        return topics.publish(topic, _to_bytes(message))


class Subscription:
    """Receives what is published to a topic from now on, until the end of the `with`, and at the latest until the call
    ends. Open it first, then read what exists, then wait. Raises `Busy` if half as many subscriptions of the mount are
    open as it allows calls at the same time."""

    def __init__(self, topic: str) -> None:
        with asking():
            self._handle = topics.Subscription.open(topic)

    def next(
        self, wait: timedelta = timedelta(seconds=20)
    ) -> bytes | Literal["missed", "nothing", "closed"]:
        """The next message. `missed` if older messages were dropped, because more than 64, or more than 1 MiB in all,
        were waiting: read again what exists. `nothing` if none came in time. `closed` if none will come any more,
        because the gateway shuts down or a reload has replaced the mount: end the reply."""
        news = self._handle.next(wait // timedelta(milliseconds=1))
        if isinstance(news, topics.News_Message):
            return news.value
        if isinstance(news, topics.News_Missed):
            return "missed"
        return "nothing" if isinstance(news, topics.News_Nothing) else "closed"

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handle.__exit__(kind, raised, trace)
