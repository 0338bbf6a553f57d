"""The key ring: secrets at rest under AES-256-GCM, with versions of the key.

The file holds one key a line, ``version base64``. Every line decrypts; which one encrypts stands
in the database (``keys.py``), so that all nodes change at once. Keep the file out of the database
and out of the database's backups (RFC 6238 section 5.1).
"""

import base64
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from radius_mfa.errors import ConfigurationError, Refused

KEY_OCTETS = 32
MAX_VERSION = 2**31 - 1  # what its column in the database holds
_NONCE_OCTETS = 12

HEADER = """\
# radius-mfa key ring. Without it no enrolled device works any more, and whoever has it together
# with the database has every seed: back it up, and apart from the database.
# One key a line, "version base64". To change the key: radius-mfa key rotate.
"""


class WrongKeyError(Exception):
    """What is stored was encrypted under another key, or for another user or device."""


class KeyRing:
    """Encrypts and decrypts secrets at rest. Its ``repr`` shows no key.

    A ring with a *file* reads it again when it meets a version that it does not know: a key may
    have been added since, and no login waits for a restart.
    """

    def __init__(self, keys: Mapping[int, bytes], file: Path | None = None) -> None:
        """Take *keys* by version, in the order of the file; the last one encrypts at first."""
        self.file = file
        self._keys = dict(keys)
        self._ciphers = {version: AESGCM(key) for version, key in keys.items()}
        self.newest = self.primary = list(keys)[-1]

    @property
    def versions(self) -> frozenset[int]:
        """The versions of the keys in the ring."""
        return frozenset(self._ciphers)

    def knows(self, version: int) -> bool:
        """Return whether the ring, or its file by now, has the key of *version*."""
        if version not in self._ciphers:
            with suppress(ConfigurationError):  # whoever watches the file says so
                self.read_again()
        return version in self._ciphers

    def read_again(self) -> None:
        """Take up keys that were added to the file; none is dropped, for it may be in use.

        Raises ConfigurationError, and changes nothing, for a file that is faulty or another's.
        """
        if self.file is None:
            return
        keys = _keys_in(self.file)
        for version in sorted(keys.keys() & self._keys.keys()):
            if keys[version] != self._keys[version]:
                raise ConfigurationError(
                    f"key version {version} in {self.file} is not the one that was there before",
                    "restore the key ring that belongs to this database",
                )
        self._keys |= keys
        self._ciphers |= {version: AESGCM(key) for version, key in keys.items()}
        self.newest = list(keys)[-1]

    def encrypt_with(self, version: int) -> None:
        """Encrypt under the key of *version* from now on."""
        self.primary = version

    def drop(self, version: int) -> None:
        """Forget a key that was retired."""
        del self._keys[version], self._ciphers[version]
        if self.newest == version and self._keys:
            self.newest = list(self._keys)[-1]

    def encrypt(self, plain: bytes, associated: str) -> tuple[int, bytes]:
        """Return the key's version and the ciphertext of *plain*, bound to *associated*."""
        return self.primary, self.sealed(self.primary, plain, associated)

    def sealed(self, version: int, plain: bytes, associated: str) -> bytes:
        """Return the ciphertext of *plain* under the key of *version*, bound to *associated*."""
        nonce = secrets.token_bytes(_NONCE_OCTETS)
        return nonce + self._ciphers[version].encrypt(nonce, plain, associated.encode())

    def decrypt(self, version: int, stored: bytes, associated: str) -> bytes:
        """Return what was encrypted, or raise WrongKeyError."""
        if not self.knows(version):
            raise WrongKeyError(f"the key ring has no key of version {version}")
        nonce, ciphertext = stored[:_NONCE_OCTETS], stored[_NONCE_OCTETS:]
        try:
            return self._ciphers[version].decrypt(nonce, ciphertext, associated.encode())
        except (InvalidTag, ValueError):  # ValueError: what is left is shorter than a nonce
            raise WrongKeyError(f"key version {version} does not decrypt it") from None


def new_key_line(version: int) -> str:
    """Return a line with a fresh key for a key ring file."""
    return f"{version} {base64.b64encode(secrets.token_bytes(KEY_OCTETS)).decode()}\n"


def create(path: Path) -> None:
    """Write a new key ring, readable by its owner alone; raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(HEADER + new_key_line(1))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep the key ring in *path* to ourselves, or raise Refused where somebody else has it.

    The lock ends with the process, however that ends.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise keys_busy() from None
    else:
        yield
    finally:
        os.close(descriptor)


def keys_busy() -> Refused:
    """Return the refusal of whoever comes second."""
    return Refused(
        "another radius-mfa key rotate or key retire is at work",
        "wait until it has ended; see: radius-mfa key list",
    )


def append(path: Path, line: str) -> None:
    """Put a key's *line* at the end of the file, durably; raises ConfigurationError.

    In place: owner, mode and a bind mount of the file stay as they are.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            ended = file.read().endswith(b"\n")
            file.write(("" if ended else "\n").encode() + line.encode())
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigurationError(
            f"the key ring {path} can't be written: {error.strerror}",
            "add a line by hand, as docs/operations.md shows, and run this again",
        ) from None


def remove(path: Path, version: int) -> None:
    """Take the line of *version* out of the file, wholly or not at all."""
    lines = _text(path).splitlines(keepends=True)
    kept = "".join(line for line in lines if not _is_of(line, version))
    fresh = path.with_name(f".{path.name}.new")
    try:
        status = path.stat()
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(kept)
            os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, status.st_mode & 0o777)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise ConfigurationError(
            f"the line of key version {version} can't be taken out of {path}: {error.strerror}",
            "the key is retired all the same: remove its line by hand",
        ) from None


def _is_of(line: str, version: int) -> bool:
    words = line.split()
    return bool(words) and words[0].isdecimal() and int(words[0]) == version


def load(path: Path) -> KeyRing:
    """Return the key ring in *path*, or raise ConfigurationError with the cure."""
    return KeyRing(_keys_in(path), path)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
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


def _keys_in(path: Path) -> dict[int, bytes]:
    keys: dict[int, bytes] = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            version, key = _parsed(line, f"{path}, line {number}")
            if version in keys:
                raise _unfit(f"{path}, line {number}: version {version} stands twice")
            keys[version] = key
    if not keys:
        raise _unfit(f"the key ring {path} holds no key")
    return keys


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
