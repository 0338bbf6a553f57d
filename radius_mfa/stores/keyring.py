"""The key ring: seeds at rest under AES-256-GCM, with versions of the key.

The file holds one key a line, ``version base64``; the last line encrypts, every line decrypts.
Keep it out of the database and out of the database's backups (RFC 6238 section 5.1).
"""

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from radius_mfa.errors import ConfigurationError

KEY_OCTETS = 32
MAX_VERSION = 2**31 - 1  # what its column in the database holds
_NONCE_OCTETS = 12

HEADER = """\
# radius-mfa key ring. Without it no enrolled device works any more, and whoever has it together
# with the database has every seed: back it up, and apart from the database.
# One key a line, "version base64"; the last one encrypts.
"""


class WrongKeyError(Exception):
    """What is stored was encrypted under another key, or for another user or device."""


class KeyRing:
    """Encrypts and decrypts secrets at rest. Its ``repr`` shows no key."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        """Take *keys* by version, in the order of the file."""
        self._ciphers = {version: AESGCM(key) for version, key in keys.items()}
        self.primary = list(keys)[-1]
        self._primary_key = keys[self.primary]

    @property
    def versions(self) -> frozenset[int]:
        """The versions of the keys in the ring."""
        return frozenset(self._ciphers)

    def encrypt(self, plain: bytes, associated: str) -> tuple[int, bytes]:
        """Return the key's version and the ciphertext of *plain*, bound to *associated*."""
        return self.primary, self.sealed(self.primary, plain, associated)

    def sealed(self, version: int, plain: bytes, associated: str) -> bytes:
        """Return the ciphertext of *plain* under the key of *version*, bound to *associated*."""
        nonce = secrets.token_bytes(_NONCE_OCTETS)
        return nonce + self._ciphers[version].encrypt(nonce, plain, associated.encode())

    def decrypt(self, version: int, stored: bytes, associated: str) -> bytes:
        """Return what was encrypted, or raise WrongKeyError."""
        cipher = self._ciphers.get(version)
        if cipher is None:
            raise WrongKeyError(f"the key ring has no key of version {version}")
        nonce, ciphertext = stored[:_NONCE_OCTETS], stored[_NONCE_OCTETS:]
        try:
            return cipher.decrypt(nonce, ciphertext, associated.encode())
        except (InvalidTag, ValueError):  # ValueError: what is left is shorter than a nonce
            raise WrongKeyError(f"key version {version} does not decrypt it") from None

    def derived(self, purpose: str) -> bytes:
        """Return 32 octets for *purpose*, the same on every node that has the ring."""
        kdf = HKDF(SHA256(), KEY_OCTETS, salt=None, info=f"radius-mfa {purpose}".encode())
        return kdf.derive(self._primary_key)


def new_key_line(version: int) -> str:
    """Return a line with a fresh key for a key ring file."""
    return f"{version} {base64.b64encode(secrets.token_bytes(KEY_OCTETS)).decode()}\n"


def create(path: Path) -> None:
    """Write a new key ring, readable by its owner alone; raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(HEADER + new_key_line(1))


def load(path: Path) -> KeyRing:
    """Return the key ring in *path*, or raise ConfigurationError with the cure."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise ConfigurationError(
            f"the key ring {path} is missing",
            "restore it from your backup; only on a new installation: radius-mfa init",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the key ring {path} can't be read: {_why(error)}",
            "let the server's user read it: chown radius-mfa, chmod 600",
        ) from None
    keys: dict[int, bytes] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            version, key = _parsed(line, f"{path}, line {number}")
            if version in keys:
                raise _unfit(f"{path}, line {number}: version {version} stands twice")
            keys[version] = key
    if not keys:
        raise _unfit(f"the key ring {path} holds no key")
    return KeyRing(keys)


def _parsed(line: str, place: str) -> tuple[int, bytes]:
    try:
        version, encoded = line.split()
        key = base64.b64decode(encoded, validate=True)
        number = int(version)
    except ValueError:
        raise _unfit(f'{place}: not of the form "version base64"') from None
    if not 0 < number <= MAX_VERSION:
        raise _unfit(f"{place}: the version is not between 1 and {MAX_VERSION}")
    if len(key) != KEY_OCTETS:
        raise _unfit(f"{place}: a key is {KEY_OCTETS} octets long, this one {len(key)}")
    return number, key


def _unfit(message: str) -> ConfigurationError:
    return ConfigurationError(message, "restore the file from your backup")


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or "unreadable" if isinstance(error, OSError) else "it is not text"
