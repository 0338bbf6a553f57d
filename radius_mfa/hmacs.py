"""HMAC (RFC 2104) over hashlib, with a key that is prepared once for several messages.

``hmac.digest`` asks OpenSSL for its own HMAC, which takes longer to be set up than to hash a
packet: half the time of a login's cryptography. The tests hold the two together.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

_HASHES: dict[str, tuple[Callable[[bytes], Any], int]] = {
    "MD5": (partial(hashlib.md5, usedforsecurity=False), 64),
    "SHA1": (partial(hashlib.sha1, usedforsecurity=False), 64),
    "SHA256": (hashlib.sha256, 64),
    "SHA512": (hashlib.sha512, 128),
}
"""By name: the hash, and the octets of its block."""

_INNER, _OUTER = (bytes(octet ^ pad for octet in range(256)) for pad in (0x36, 0x5C))


class Hmac:
    """An HMAC under one key. Its ``repr`` shows none of it."""

    __slots__ = ("_hash", "_inner", "_outer")

    def __init__(self, key: bytes, algorithm: str) -> None:
        self._hash, block_octets = _HASHES[algorithm]
        if len(key) > block_octets:
            key = self._hash(key).digest()
        padded = key.ljust(block_octets, b"\0")
        self._inner, self._outer = padded.translate(_INNER), padded.translate(_OUTER)

    def digest(self, message: bytes) -> bytes:
        """Return the HMAC of *message*."""
        inner = self._hash(self._inner + message).digest()
        octets: bytes = self._hash(self._outer + inner).digest()
        return octets


@lru_cache(4096)  # a secret is a client's, and comes again with its every packet
def of_shared_secret(shared_secret: bytes) -> Hmac:
    """Return the HMAC-MD5 that signs RADIUS packets under *shared_secret*."""
    return Hmac(shared_secret, "MD5")
