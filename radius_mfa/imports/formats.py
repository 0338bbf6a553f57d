"""Which reader a file of tokens is for, and what it needs to be told."""

import base64
import binascii
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath

from radius_mfa.errors import Refused
from radius_mfa.imports import bundle, google_authenticator, multiotp, oath_csv, pskc
from radius_mfa.imports.devices import Entry
from radius_mfa.imports.oath_csv import SeedEncoding


class Format(StrEnum):
    """The files that devices are read from."""

    AUTO = "auto"
    CSV = "csv"
    OATH_CSV = "oath-csv"
    PRIVACYIDEA = "privacyidea"
    PSKC = "pskc"
    GOOGLE_AUTHENTICATOR = "google-authenticator"
    MULTIOTP = "multiotp"


ORDERS = {
    Format.OATH_CSV: oath_csv.OATH_ORDER,
    Format.PRIVACYIDEA: oath_csv.PRIVACYIDEA_ORDER,
}


@dataclass(frozen=True, slots=True)
class Told:
    """What the file itself does not say."""

    now: float
    seed_encoding: SeedEncoding = SeedEncoding.AUTO
    algorithm: str = ""
    key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)


def recognised(octets: bytes) -> Format:
    """Return what *octets* seem to be; raises Refused for an export of our own."""
    if octets.startswith(bundle.MAGIC):
        raise Refused("it is an export of radius-mfa", "read it with: radius-mfa import")
    if pskc.is_pskc(octets):
        return Format.PSKC
    if octets.startswith(multiotp.HEADER.encode()):
        return Format.MULTIOTP
    if re.match(rb"\s*[A-Za-z2-7]{16,}=*\s*\n(?:\"|\d{8}\s)", octets):
        return Format.GOOGLE_AUTHENTICATOR
    return Format.CSV


def entries(octets: bytes, kind: Format, path: str, told: Told) -> list[Entry]:
    """Return the tokens in *octets*; *path* names the user where the file's kind does not.

    Raises Refused where the file can't be read at all, and ``pskc.KeyNeededError``.
    """
    match kind:
        case Format.PSKC:
            key = None if told.key is None else _key_octets(told.key)
            return pskc.entries(octets, key=key, passphrase=told.passphrase, now=told.now)
        case Format.GOOGLE_AUTHENTICATOR:
            return [google_authenticator.entry(octets, user_of(path), path)]
        case Format.MULTIOTP:
            key_text = multiotp.DEFAULT_KEY if told.key is None else told.key
            return [multiotp.entry(octets, user_of(path), path, key_text)]
        case _:
            return oath_csv.entries(
                octets, told.seed_encoding, order=ORDERS.get(kind), algorithm=told.algorithm
            )


def user_of(path: str) -> str:
    """Return whose file *path* is: of the home folder it lies in, or of its own name."""
    file = PurePath(path)
    if file.name.startswith("."):
        return file.parent.name
    return file.name.removesuffix(".db")


def _key_octets(written: str) -> bytes:
    compact = "".join(written.split())
    if re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", compact):
        return bytes.fromhex(compact)
    try:
        return base64.b64decode(compact, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("the key is neither hexadecimal nor base64") from None
