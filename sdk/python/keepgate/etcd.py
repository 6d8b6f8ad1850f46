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

    def body(self) -> Body:
        """The bytes. They can be taken once. Length and checksum are verified before the body ends."""
        with asking():
            return Body(self._handle.data())

    def sha256(self) -> str | None:
        """Of the database, lower-case hex; None until the bytes have been read and verified."""
        return self._handle.sha256()
