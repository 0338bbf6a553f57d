"""What a State says of itself, and what it never says to anybody else's key."""

import base64
import secrets

import pytest

from radius_mfa.policy.challenge import DEFAULT_LANGUAGE, NONCE_OCTETS, TEXTS, expiry, new_state

KEY = b"k" * 32
ENDS = 1_700_000_120
STATE = new_state(b"n" * NONCE_OCTETS, ENDS, KEY).encode()


def test_c02_a_state_is_printable_and_never_the_same_twice() -> None:
    """C02: base64url of 144 random bits and more; ocserv would cut it at a NUL."""
    states = {new_state(secrets.token_bytes(NONCE_OCTETS), ENDS, KEY) for _ in range(10_000)}
    assert len(states) == 10_000
    alphabet = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert alphabet.issuperset("".join(states))
    assert {len(state) for state in states} == {52}
    assert NONCE_OCTETS * 8 >= 128


def test_a_state_tells_its_end_to_the_key_that_sealed_it() -> None:
    """C04: and is nothing to another cluster's."""
    assert expiry(STATE, KEY) == ENDS
    assert expiry(STATE, b"K" * 32) is None


@pytest.mark.parametrize("bit", range(39 * 8))
def test_a_state_with_any_bit_changed_is_forged(bit: int) -> None:
    """C04: its end can't be put off."""
    octets = bytearray(base64.urlsafe_b64decode(STATE))
    octets[bit // 8] ^= 1 << bit % 8
    assert expiry(base64.urlsafe_b64encode(octets), KEY) is None


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        STATE[:-1],
        STATE + b"A",
        STATE[:-4],
        b"\0" * 52,
        b"=" * 52,
        b"\xff" * 52,
        STATE[:51] + b" ",
    ],
)
def test_what_is_no_state_is_forged(octets: bytes) -> None:
    """C04: nothing that a NAS may send raises."""
    assert expiry(octets, KEY) is None


def test_every_text_fits_one_reply_message() -> None:
    """C09."""
    assert DEFAULT_LANGUAGE in TEXTS
    assert all(0 < len(text.encode()) <= 253 for text in TEXTS.values())
