"""Codes as a phone makes them (RFC 6238), apart from the code under test."""

import base64
import hmac
import time

SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
"""A seed in base32, 160 bits, for users of tests."""


def code(
    seed: str = SEED,
    *,
    offset: int = 0,
    at: float | None = None,
    digits: int = 6,
    step: int = 30,
    algorithm: str = "sha1",
) -> str:
    """Return the code of *seed*, *offset* steps away from now (or from *at*)."""
    counter = int(time.time() if at is None else at) // step + offset
    key = base64.b32decode(seed)
    digest = hmac.digest(key, counter.to_bytes(8, "big"), algorithm)
    start = digest[-1] & 15
    number = int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


def wrong_code(seed: str = SEED, at: float | None = None) -> str:
    """Return six digits that no step near now (or near *at*) shows."""
    near = {code(seed, offset=offset, at=at) for offset in range(-25, 26)}
    return next(c for c in (f"{n:06}" for n in range(100)) if c not in near)
