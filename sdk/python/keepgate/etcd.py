"""etcd clusters that the operator has configured and granted to the mount."""

from __future__ import annotations

from collections.abc import Iterable

from wit_world.imports import etcd
from wit_world.imports.etcd import Facts

from ._body import Body
from ._failure import asking

__all__ = ["Facts", "Snapshot", "clusters"]


def clusters() -> list[str]:
    """The names of the clusters that the mount grants, in order."""
    return etcd.clusters()


class Snapshot:
    """A snapshot in progress: the file that `etcdctl snapshot save` writes. Raises `Unavailable`, naming
    each endpoint with what is wrong, and `Denied` if the mount grants no such cluster."""

    def __init__(self, cluster: str, *, exclude: Iterable[str] = ()) -> None:
        with asking():
            self._handle = etcd.Snapshot.take(cluster, [*exclude])

    @property
    def facts(self) -> Facts:
        """What is known before its bytes come: endpoint, version, revision, size and so on."""
        return self._handle.facts()

    @property
    def stale(self) -> bool:
        """Whether the member could not confirm with a majority of its cluster that its data is current. The host takes
        such snapshots only where the operator has set `allow_stale`; mark what you make of them."""
        return self.facts.version.endswith("+stale")

    def body(self) -> Body:
        """The bytes. They can be taken once. Length and checksum are verified before the body ends."""
        with asking():
            return Body(self._handle.data())

    def sha256(self) -> str | None:
        """Of the database, lower-case hex; None until the bytes have been read and verified."""
        return self._handle.sha256()
