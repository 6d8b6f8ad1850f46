"""Keys that the operator has granted to the mount, to work with and not to see: they stay in the host."""

from __future__ import annotations

from wit_world.imports import secrets

from ._failure import asking

__all__ = ["hmac_sha256", "keys", "open", "seal", "verify_hmac_sha256"]


def keys() -> list[str]:
    """The names of the keys for `hmac_sha256` that the mount grants, in order."""
    return secrets.keys()


def hmac_sha256(key: str, message: bytes) -> bytes:
    """The HMAC-SHA256 of a message of at most 1 MiB, under the key of this name. Raises `Denied` if the mount does not
    grant the key, and `TooLarge` for a longer message."""
    with asking():
        return secrets.hmac_sha256(key, message)


def verify_hmac_sha256(key: str, message: bytes, mac: bytes) -> bool:
    """Whether this is the HMAC-SHA256 of the message. Use it instead of comparing: it takes the same time however much of
    the MAC is right."""
    with asking():
        return secrets.verify_hmac_sha256(key, message, mac)


def seal(plaintext: bytes, context: bytes) -> bytes:
    """Encrypts and authenticates at most 1 MiB, for `open` to read with the same context of at most 1 KiB. The context
    says what the plaintext belongs to, for example the key of its blob. Raises `Denied` if the mount grants no key for
    sealing, and `TooLarge`."""
    with asking():
        return secrets.seal(plaintext, context)


def open(sealed: bytes, context: bytes) -> bytes:
    """The plaintext of what `seal` made. Raises `Invalid` if it was not sealed by this mount for this context, or was
    changed; which one it does not say."""
    with asking():
        return secrets.open(sealed, context)
