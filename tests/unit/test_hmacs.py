"""Our HMAC is the standard library's, octet for octet."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radius_mfa.hmacs import Hmac, of_shared_secret


@pytest.mark.parametrize("algorithm", ["MD5", "SHA1", "SHA256", "SHA512"])
@given(key=st.binary(max_size=300), message=st.binary(max_size=300))
def test_every_digest_is_that_of_the_standard_library(
    algorithm: str, key: bytes, message: bytes
) -> None:
    """Keys shorter, as long and longer than a block of the hash; one object, many messages."""
    prepared = Hmac(key, algorithm)

    assert prepared.digest(message) == hmac.digest(key, message, algorithm)
    assert prepared.digest(message + b"\0") == hmac.digest(key, message + b"\0", algorithm)


@pytest.mark.parametrize("octets", [63, 64, 65, 127, 128, 129])
@pytest.mark.parametrize("algorithm", ["MD5", "SHA1", "SHA256", "SHA512"])
def test_the_length_of_a_block_is_no_edge(algorithm: str, octets: int) -> None:
    """A key is hashed first where it is longer than a block, and no sooner."""
    key = bytes(range(octets))

    assert Hmac(key, algorithm).digest(b"login") == hmac.digest(key, b"login", algorithm)


def test_a_repr_shows_no_key() -> None:
    """What signs for a client can stand in a traceback."""
    assert "secret" not in repr(of_shared_secret(b"secret" * 5))
