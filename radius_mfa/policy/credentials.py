"""Where the password ends and the code begins.

A split is a guess until its code matches; the guess is settled before the directory is asked,
so that a login costs one bind at most. Checklist A03, A05, A06.
"""

import base64
import binascii
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from radius_mfa.values import value

_ASCII_DIGITS = frozenset(b"0123456789")


class CodePosition(StrEnum):
    """On which side of the password users type the code."""

    END = "end"
    START = "start"


@dataclass(frozen=True, slots=True)
class SplitPolicy:
    """How a NAS's users type password and code into one field.

    *separator* stands between the two where it is not empty. *password_charsets* are tried in
    order on the octets of the password; the first that decodes them is right. *static_challenge*:
    OpenVPN asks for the code in a field of its own and sends ``SCRV1:<password>:<code>``.
    *code_alone*: the field answers a challenge, so there is no password in it.
    """

    code_position: CodePosition = CodePosition.END
    separator: str = ""
    password_charsets: Sequence[str] = ("utf-8",)
    static_challenge: bool = False
    code_alone: bool = False


@value
class Candidate:
    """One reading of the field: password octets, and a code of ASCII digits."""

    password: bytes = field(repr=False)
    code: str = field(repr=False)


def candidates(octets: bytes, digits: Collection[int], policy: SplitPolicy) -> list[Candidate]:
    """Return the readings of *octets*, one for each length of code in *digits* that fits.

    Longer codes come first: where an eight-digit and a six-digit device both match, the longer
    match is the less likely accident.
    """
    found = []
    for length in sorted(digits, reverse=True):
        candidate = _split(octets, length, policy)
        if candidate is not None:
            found.append(candidate)
    return found


def _split(octets: bytes, length: int, policy: SplitPolicy) -> Candidate | None:
    parts = parted(octets, length, policy)
    if parts is None or not _ASCII_DIGITS.issuperset(parts[0]):
        return None
    return Candidate(parts[1], parts[0].decode("ascii"))


def parted(octets: bytes, length: int, policy: SplitPolicy) -> tuple[bytes, bytes] | None:
    """Return *length* octets from where a code is typed, and the rest without the separator.

    None where the field is too short, or where the separator is missing.
    """
    whole = (octets, b"") if policy.code_alone else None
    whole = unpacked(octets) if policy.static_challenge else whole
    if whole is not None:
        return whole if len(whole[0]) == length else None
    at_end = policy.code_position is CodePosition.END
    code, rest = (
        (octets[-length:], octets[:-length]) if at_end else (octets[:length], octets[length:])
    )
    if len(code) != length:
        return None
    separator = policy.separator.encode()
    if not (rest.endswith(separator) if at_end else rest.startswith(separator)):
        return None
    size = len(separator)
    return code, rest[: len(rest) - size] if at_end else rest[size:]


def unpacked(octets: bytes) -> tuple[bytes, bytes] | None:
    """Return code and password of OpenVPN's static challenge; None for a field that is none."""
    words = octets.split(b":")
    if len(words) != _SCRV1_WORDS or words[0] != b"SCRV1":
        return None
    try:
        password, code = (base64.b64decode(word, validate=True) for word in words[1:])
    except binascii.Error:
        return None
    return code, password


_SCRV1_WORDS = 3

_JUNK = b"\x08\n\r\x7fINCORRECT"


def of_refused_user(octets: bytes) -> bool:
    """Return whether a field is what sshd sends for a user whom it lets in by no password."""
    return octets.startswith(_JUNK[:1]) and octets == (_JUNK * len(octets))[: len(octets)]


def decoded(octets: bytes, charsets: Sequence[str]) -> str | None:
    """Return *octets* as text by the first of *charsets* that decodes them, or None.

    Nothing is ever dropped or replaced: two different fields never become one password.
    """
    for charset in charsets:
        try:
            return octets.decode(charset)
        except UnicodeDecodeError:
            continue
    return None
