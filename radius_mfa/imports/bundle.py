"""The export of an installation: one file, encrypted and authenticated.

Two lines of text, then octets: what the file is, how its key is made (JSON), and the users in
JSON under AES-256-GCM, with both lines as associated data.
"""

import base64
import binascii
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from radius_mfa.errors import Refused
from radius_mfa.imports.rows import DeviceRow
from radius_mfa.policy.requirement import NOTHING_REQUIRED, Requirement
from radius_mfa.policy.totp import Algorithm

MAGIC = b"radius-mfa export 1"
KEY_OCTETS = 32
SALT_OCTETS = 16
NONCE_OCTETS = 12
MAX_HEADER_OCTETS = 1024

MIN_PASSPHRASE_CHARACTERS = 12
"""A file that is carried about may be guessed at for years."""

ARGON2 = {"memory_kib": 65_536, "passes": 3, "lanes": 4}
"""The choice of RFC 9106 section 4 for machines that have other things to do."""

MAX_ARGON2 = {"memory_kib": 2_097_152, "passes": 16, "lanes": 16}
"""What reading a file may cost, whoever wrote it."""

_DAMAGED = "the file is damaged: it is no export of radius-mfa"


@dataclass(frozen=True, slots=True)
class ExportedDevice:
    """A device with what is known of its life."""

    row: DeviceRow
    created_at: datetime
    confirmed_at: datetime | None
    confirmed_step: int | None
    drift_steps: int = 0


@dataclass(frozen=True, slots=True)
class ExportedUser:
    """A user with everything that can be moved.

    *name* is the key; a user of another directory than the local one has a *directory*, and in
    *user_name* what people call them.
    """

    name: str
    created_at: datetime
    suspended_at: datetime | None
    password_hash: str | None = field(repr=False)
    password_changed_at: datetime | None
    devices: tuple[ExportedDevice, ...]
    directory: str | None = None
    user_name: str | None = None
    requirement: Requirement = NOTHING_REQUIRED
    groups: tuple[str, ...] = ()
    mail: str | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    """What opens a bundle: the octets of a passphrase, or of a key file."""

    kind: str
    octets: bytes = field(repr=False)


def passphrase(text: str) -> Lock:
    """Return the lock of a passphrase, or raise Refused for one that is too short."""
    if len(text) < MIN_PASSPHRASE_CHARACTERS:
        raise Refused(
            f"a passphrase has {MIN_PASSPHRASE_CHARACTERS} characters at least",
            "the file holds every seed: take several random words, or --key-file",
        )
    return Lock("argon2id", text.encode())


def key_file(octets: bytes) -> Lock:
    """Return the lock of a key file, 32 octets in base64, or raise Refused."""
    try:
        key = base64.b64decode(b"".join(octets.split()), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_OCTETS:
        raise Refused(
            f"the key file does not hold {KEY_OCTETS} octets in base64",
            f"make one: head -c {KEY_OCTETS} /dev/urandom | base64 > FILE",
        )
    return Lock("key-file", key)


def sealed(users: Iterable[ExportedUser], lock: Lock) -> bytes:
    """Return *users* as an encrypted file that *lock* opens."""
    header: dict[str, Any] = {
        "key": lock.kind,
        "salt": _text(secrets.token_bytes(SALT_OCTETS)),
        "nonce": _text(secrets.token_bytes(NONCE_OCTETS)),
        **(ARGON2 if lock.kind == "argon2id" else {}),
    }
    head = MAGIC + b"\n" + orjson.dumps(header) + b"\n"
    plain = b"[%b]" % b",".join(orjson.dumps(_user_values(user)) for user in users)
    return head + _cipher(header, lock).encrypt(_octets(header["nonce"]), plain, head)


def kind_of_lock(octets: bytes) -> str:
    """Return what *octets* ask for, ``argon2id`` (a passphrase) or ``key-file``."""
    return str(_header(octets)[0]["key"])


def opened(octets: bytes, lock: Lock) -> list[ExportedUser]:
    """Return the users in an encrypted file; Refused where *lock* does not open it."""
    header, length = _header(octets)
    if header["key"] != lock.kind:
        wanted = "a key file" if header["key"] == "key-file" else "a passphrase"
        raise Refused(f"the file is locked with {wanted}", "give the other one")
    cipher = _cipher(header, lock)
    try:
        plain = cipher.decrypt(_octets(header["nonce"]), octets[length:], octets[:length])
    except (InvalidTag, ValueError):
        raise Refused(
            "the passphrase or key is not the one of this file, or the file was changed",
            "nothing of it was used",
        ) from None
    return [_user(values) for values in orjson.loads(plain)]


def _header(octets: bytes) -> tuple[Mapping[str, Any], int]:
    head = octets[: len(MAGIC) + 2 + MAX_HEADER_OCTETS].split(b"\n", 2)
    if head[0] != MAGIC:
        raise Refused(
            "the file is no export of radius-mfa",
            "users in CSV: radius-mfa user import; tokens: radius-mfa device import",
        )
    try:
        header = orjson.loads(head[1])
        sizes = [len(_octets(header[name])) for name in ("salt", "nonce")]
        known = header["key"] in {"argon2id", "key-file"} and sizes == [SALT_OCTETS, NONCE_OCTETS]
        if header["key"] == "argon2id":
            known = known and all(
                type(header[name]) is int and 1 <= header[name] <= most
                for name, most in MAX_ARGON2.items()
            )
    except (IndexError, KeyError, TypeError, ValueError):
        known = False
    if not known:
        raise Refused(_DAMAGED, "copy it again")
    return header, len(head[0]) + len(head[1]) + 2


def _cipher(header: Mapping[str, Any], lock: Lock) -> AESGCM:
    salt = _octets(header["salt"])
    if lock.kind == "key-file":
        info = b"radius-mfa export"
        return AESGCM(HKDF(SHA256(), KEY_OCTETS, salt=salt, info=info).derive(lock.octets))
    return AESGCM(
        hash_secret_raw(
            lock.octets,
            salt,
            time_cost=header["passes"],
            memory_cost=max(header["memory_kib"], 8 * header["lanes"]),
            parallelism=header["lanes"],
            hash_len=KEY_OCTETS,
            type=Type.ID,
        )
    )


def _user_values(user: ExportedUser) -> dict[str, Any]:
    return {
        "name": user.name,
        "created_at": user.created_at,
        "suspended_at": user.suspended_at,
        "password_hash": user.password_hash,
        "password_changed_at": user.password_changed_at,
        "devices": [
            {
                "name": device.row.name,
                "seed": _text(device.row.seed),
                "algorithm": device.row.algorithm,
                "digits": device.row.digits,
                "time_step_seconds": device.row.time_step_seconds,
                "created_at": device.created_at,
                "confirmed_at": device.confirmed_at,
                "confirmed_step": device.confirmed_step,
                "drift_steps": device.drift_steps,
            }
            for device in user.devices
        ],
        "directory": user.directory,
        "user_name": user.user_name,
        "requirement": user.requirement,
        "groups": user.groups,
        "mail": user.mail,
    }


def _user(values: Mapping[str, Any]) -> ExportedUser:
    name = values["name"]
    return ExportedUser(
        name,
        datetime.fromisoformat(values["created_at"]),
        _moment(values["suspended_at"]),
        values["password_hash"],
        _moment(values["password_changed_at"]),
        tuple(_device(name, device) for device in values["devices"]),
        values["directory"],
        values["user_name"],
        Requirement(**values["requirement"]),
        tuple(values.get("groups", ())),
        values.get("mail"),
    )


def _device(user: str, values: Mapping[str, Any]) -> ExportedDevice:
    row = DeviceRow(
        "export",
        user,
        values["name"],
        _octets(values["seed"]),
        Algorithm(values["algorithm"]),
        values["digits"],
        values["time_step_seconds"],
    )
    return ExportedDevice(
        row,
        datetime.fromisoformat(values["created_at"]),
        _moment(values["confirmed_at"]),
        values["confirmed_step"],
        values.get("drift_steps", 0),
    )


def _moment(written: str | None) -> datetime | None:
    return None if written is None else datetime.fromisoformat(written)


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _octets(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
