"""A user's file of multiOTP (``users/NAME.db``, database format v3).

Values after ``:=`` are XORed with the name of the field and the installation's encryption key,
which guards against glances alone. ``encryption_hash`` tells whether the key is the right one.
"""

import base64
import binascii
import hashlib
import hmac
from itertools import cycle

from radius_mfa.errors import Refused
from radius_mfa.imports import text
from radius_mfa.imports.devices import Entry, seed_from_hex
from radius_mfa.policy.new_device import Finding

HEADER = "multiotp-database-format-v3"
DEVICE_NAME = "multiotp"

DEFAULT_KEY = "MuLtIoTpEnCrYpTiOn"
"""What multiOTP encrypts with where nobody chose a key."""

_PUBLISHED_SEED = "3132333435363738393031323334353637383930"


def entry(octets: bytes, user: str, place: str, key: str = DEFAULT_KEY) -> Entry:
    """Return the token in a user's file; *user* is the file's name without ``.db``.

    Raises Refused for another kind of file, and for a key that is not the installation's.
    """
    header, *lines = text.decoded(octets).text.splitlines() or [""]
    if header.strip() != HEADER:
        raise Refused(f"{place} is no user's file of multiOTP", f"its first line would be {HEADER}")
    stored = dict(line.split("=", 1) for line in lines if "=" in line)
    check = stored.get("encryption_hash", "")
    if check and not hmac.compare_digest(check.upper().encode(), control_hash(key).encode()):
        raise Refused(
            f"{place} is encrypted with another key",
            "give multiOTP's encryption key by --key-file",
        )
    fields = {name: value for name, value in stored.items() if not name.endswith(":")}
    for name, value in stored.items():
        if name.endswith(":"):
            fields[name[:-1]] = plain(name[:-1], value, key)
    seed = seed_from_hex(fields.get("token_seed", ""))
    faults: list[Finding] = []
    if seed is None:
        faults.append(("its seed can't be read", "give multiOTP's encryption key by --key-file"))
    elif fields["token_seed"] == _PUBLISHED_SEED:
        faults.append(
            ("its seed is the one that multiOTP publishes in its source", "enrol another device")
        )
    return Entry(
        place,
        user=fields.get("user", "") or user,
        serial=fields.get("token_serial", ""),
        name=fields.get("token_serial", "") or DEVICE_NAME,
        kind=fields.get("algorithm", "") or "totp",
        seed=seed or b"",
        algorithm=fields.get("token_algo_suite", ""),
        digits=fields.get("number_of_digits", "6"),
        time_step_seconds=fields.get("time_interval", "30"),
        faults=tuple(faults),
        losses=tuple(_losses(fields)),
    )


def _losses(fields: dict[str, str]) -> list[str]:
    told = {
        "user_pin": "the PIN: logins take the password of the directory",
        "scratch_passwords": "scratch passwords: there are no recovery codes yet",
        "desactivated": "that the user is switched off: radius-mfa user suspend",
        "locked": "the lock",
    }
    return [what for name, what in told.items() if fields.get(name, "") not in ("", "0")]


def plain(name: str, value: str, key: str) -> str:
    """Return the value of field *name*, which was written after ``:=``; empty where it is none."""
    try:
        octets = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return ""
    pads = zip(octets, cycle(key.encode()), cycle(name.encode()), strict=False)
    return bytes(octet ^ a ^ b for octet, a, b in pads).decode("latin-1")


def control_hash(key: str) -> str:
    """Return what multiOTP notes to recognise its encryption key."""
    marked = f"CaLcUlAtE{key}cOnTrOlHaSh".encode()
    return hashlib.md5(marked, usedforsecurity=False).hexdigest().upper()
