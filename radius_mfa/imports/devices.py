"""Devices of whatever file they came in: which of them can be taken over, and why others can't."""

import base64
import binascii
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from radius_mfa.errors import Refused
from radius_mfa.imports import columns, text
from radius_mfa.imports.rows import DeviceRow, Fault, Parsed, subject
from radius_mfa.policy.identity import InvalidUserNameError, canonical_user
from radius_mfa.policy.new_device import Finding, unfit
from radius_mfa.policy.totp import Algorithm

K = TypeVar("K")

DEFAULT_NAME = "token"

NOT_ENROLLED = "enrol another device: radius-mfa device add"

ALGORITHMS = {
    **dict.fromkeys(("", "SHA1", "HMACSHA1"), Algorithm.SHA1),
    **dict.fromkeys(("SHA256", "HMACSHA256"), Algorithm.SHA256),
    **dict.fromkeys(("SHA512", "HMACSHA512"), Algorithm.SHA512),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A token as a file describes it, not judged yet; numbers are text as they stood there."""

    place: str
    user: str = ""
    serial: str = ""
    name: str = ""
    kind: str = "totp"
    seed: bytes = field(default=b"", repr=False)
    algorithm: str = ""
    digits: str = "6"
    time_step_seconds: str = "30"
    faults: tuple[Finding, ...] = ()
    losses: tuple[str, ...] = ()


def judged(
    entries: Iterable[Entry],
    *,
    realms: Collection[str] = (),
    owners: Mapping[str, str] | None = None,
    keys: Mapping[str, str | Finding] | None = None,
) -> Parsed[DeviceRow]:
    """Return the devices that can be taken over, and the faults of all others.

    *owners* gives the user of a serial number, for tokens whose file names nobody. *keys* gives
    the key of a user by canonical name, or why they can't be told; others are their own key.
    """
    parsed = Parsed[DeviceRow]()
    names: dict[tuple[str, str], str] = {}
    seeds: dict[tuple[str, bytes], str] = {}
    for entry in entries:
        called, found = _owner(entry, realms, owners or {})
        key = (keys or {}).get(called, called)
        user = key if isinstance(key, str) else ""
        if not isinstance(key, str):
            found = [key]
        name = (entry.name or entry.serial or DEFAULT_NAME).strip()
        digits, step = _number(entry.digits), _number(entry.time_step_seconds)
        algorithm = ALGORITHMS.get(re.sub(r"[^A-Z0-9]", "", entry.algorithm.upper()))
        found += [*entry.faults, *_faults(entry, name, algorithm, digits, step)]
        if user:
            found += _repeated(names, (user, name), entry.place, f"a second device named {name}")
            if entry.seed:
                found += _repeated(seeds, (user, entry.seed), entry.place, "the same seed again")
        shown = subject(entry.user or called or entry.serial)
        parsed.faults += [Fault(entry.place, shown, what, cure) for what, cure in found]
        if not found and algorithm is not None:
            parsed.losses += [Fault(entry.place, shown, what) for what in entry.losses]
            parsed.rows.append(
                DeviceRow(entry.place, user, name, entry.seed, algorithm, digits, step)
            )
    return parsed


def names(
    entries: Iterable[Entry], *, realms: Collection[str], owners: Mapping[str, str]
) -> list[str]:
    """Return the canonical names of those whose devices *entries* are, each of them once."""
    found = (_owner(entry, realms, owners)[0] for entry in entries)
    return list(dict.fromkeys(filter(None, found)))


def _owner(
    entry: Entry, realms: Collection[str], owners: Mapping[str, str]
) -> tuple[str, list[Finding]]:
    name = entry.user or owners.get(entry.serial, "")
    if not name:
        return "", [
            ("no user is named", "add a column user, or give a file of serial,user by --owners")
        ]
    try:
        return canonical_user(name, realms), []
    except InvalidUserNameError as error:
        return "", [(str(error), "correct the name")]


def _faults(
    entry: Entry, name: str, algorithm: Algorithm | None, digits: int, step: int
) -> Iterator[Finding]:
    if entry.kind.lower() != "totp":
        kind = entry.kind.upper() if entry.kind.isalnum() else "an unknown kind"
        counted = ", which counts presses" if kind == "HOTP" else ""
        yield f"it is {kind}{counted}: TOTP alone is possible", NOT_ENROLLED
        return
    if algorithm is None:
        yield "its digest is not supported: SHA-1, SHA-256 and SHA-512 are", NOT_ENROLLED
    if digits < 0 or step < 0:
        yield "digits or time step is no number", "correct it"
        return
    if entry.seed or not entry.faults:
        yield from unfit(name, entry.seed, digits, step)


def _repeated(known: dict[K, str], key: K, place: str, what: str) -> list[Finding]:
    first = known.setdefault(key, place)
    return [] if first == place else [(f"{what}: see {first}", "leave one, or name them apart")]


def _number(digits: str) -> int:
    return int(digits) if re.fullmatch(r"[0-9]{1,6}", digits.strip()) else -1


def owners_of_serials(octets: bytes) -> dict[str, str]:
    """Return the user of each serial number in a CSV file of two columns, serial and user.

    Raises Refused for a row of another form, and for a serial number that two users have.
    """
    aliases = {"serial": SERIAL_HEADINGS, "user": USER_HEADINGS}
    owners: dict[str, str] = {}
    where = {"serial": 0, "user": 1}
    for at, (number, cells) in enumerate(text.records(text.decoded(octets).text)):
        heading = columns.named(cells, aliases) if at == 0 else {}
        if len(heading) == len(aliases):
            where = heading
            continue
        serial, user = (columns.cell(cells, where, name).strip() for name in ("serial", "user"))
        if not serial or not user or owners.setdefault(serial, user) != user:
            raise Refused(
                f"row {number} of the owners is not a serial number and its one user",
                "write a line for each token: serial,user",
            )
    return owners


SERIAL_HEADINGS = ("serial", "serial number", "serial no", "token serial")
USER_HEADINGS = ("user", "user name", "upn", "login", "owner", "user principal name")


def seed_from_base32(written: str) -> bytes | None:
    """Return the octets of a base32 seed as people write it, or None."""
    compact = compacted(written).upper()
    if not compact or not re.fullmatch(r"[A-Z2-7]+", compact):
        return None
    try:
        return base64.b32decode(compact + "=" * (-len(compact) % 8))
    except binascii.Error:
        return None


def seed_from_hex(written: str) -> bytes | None:
    """Return the octets of a hexadecimal seed as people write it, or None."""
    compact = compacted(written).removeprefix("0x")
    if not compact or len(compact) % 2 or not re.fullmatch(r"[0-9A-Fa-f]+", compact):
        return None
    return bytes.fromhex(compact)


def compacted(written: str) -> str:
    """Return a seed without the spaces, dashes and padding that people put in."""
    return re.sub(r"[\s-]", "", written).rstrip("=")
