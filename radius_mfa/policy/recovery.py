"""Recovery codes: what they look like, and how they are hashed.

Ten characters out of 32, 50 bits, none of them easily taken for another one. They are random and
tries are bounded by the lockout, so they need no slow hash; ``stores/recovery_codes.py`` encrypts
the digest besides.
"""

import hashlib
from collections.abc import Sequence

from radius_mfa.policy.credentials import Candidate, SplitPolicy, parted

ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without l and 1, o and 0."""

CODE_CHARACTERS = 10
CODES = 10
"""How many a user gets at a time."""

_HALF = CODE_CHARACTERS // 2
_OCTETS = frozenset(ALPHABET.encode())


def shown(code: str) -> str:
    """Return *code* as people read it, in two groups."""
    return f"{code[:_HALF]}-{code[_HALF:]}"


def digest(code: str, code_id: str) -> bytes:
    """Return the hash of *code*; *code_id* is its salt."""
    return hashlib.blake2b(code.encode(), digest_size=32, key=code_id.encode()).digest()


def candidates(octets: bytes, policy: SplitPolicy) -> Sequence[Candidate]:
    """Return the readings of a field whose end (or start) has the shape of a recovery code.

    The code may be typed in capitals, and with the hyphen or without.
    """
    found = []
    for length in (CODE_CHARACTERS + 1, CODE_CHARACTERS):
        parts = parted(octets, length, policy)
        if parts is None:
            continue
        code, rest = parts[0].lower(), parts[1]
        if length > CODE_CHARACTERS:
            hyphen, code = code[_HALF : _HALF + 1], code[:_HALF] + code[_HALF + 1 :]
            if hyphen != b"-":
                continue
        if _OCTETS.issuperset(code):
            found.append(Candidate(rest, code.decode("ascii")))
    return found
