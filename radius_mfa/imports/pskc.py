"""Tokens in a Portable Symmetric Key Container (RFC 6030), plain or encrypted.

Encryption: AES-CBC under a pre-shared key or one derived from a passphrase by PBKDF2. The MAC is
checked before anything is decrypted (RFC 6030 section 6.1.1), and is never optional.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from radius_mfa.errors import Refused
from radius_mfa.imports import xml
from radius_mfa.imports.devices import NOT_ENROLLED, Entry
from radius_mfa.imports.xml import Element
from radius_mfa.policy.new_device import Finding

NAMESPACE = "urn:ietf:params:xml:ns:keyprov:pskc"
KEY_OCTETS = {"aes128-cbc": 16, "aes192-cbc": 24, "aes256-cbc": 32}
MACS = {name: name.removeprefix("hmac-") for name in ("hmac-sha1", "hmac-sha256", "hmac-sha512")}
BLOCK_OCTETS = 16

MAX_ITERATIONS = 10_000_000
"""Some seconds of one core; a file that asks for more is meant to do harm."""

_KINDS = {f"{NAMESPACE}:totp": "totp", f"{NAMESPACE}:hotp": "hotp", f"{NAMESPACE}:pin": "pin"}


class KeyNeededError(Exception):
    """The file is encrypted under a *kind* of secret, ``key`` or ``passphrase``, not given yet."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class _UnusableError(Exception):
    """A value can't be had; *finding* says why, and the cure."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(what)
        self.finding: Finding = (what, cure)


@dataclass(frozen=True, slots=True)
class _Keys:
    """What decrypts and what authenticates values; *mac* makes the MAC of octets."""

    encryption: bytes = field(default=b"", repr=False)
    mac: Callable[[bytes], bytes] | None = field(default=None, repr=False)


def entries(
    octets: bytes, *, key: bytes | None = None, passphrase: str | None = None, now: float
) -> list[Entry]:
    """Return the tokens in *octets*; *key* or *passphrase* is what they are encrypted with.

    *now* is Unix time, for keys that have expired. Raises KeyNeededError, and Refused where the
    file can't be read at all.
    """
    root = xml.parse(octets)
    if root.name != "KeyContainer" or root.namespace != NAMESPACE:
        raise Refused(
            "the XML is no PSKC container of RFC 6030",
            "drafts and other token files can't be read: convert it, or ask the seller for PSKC",
        )
    keys = _keys(root, key, passphrase)
    packages = list(root.all("KeyPackage"))
    return [
        _entry(f"key {number}", package, one, keys, now)
        for number, (package, one) in enumerate(
            ((package, one) for package in packages for one in package.all("Key")), start=1
        )
    ]


def _keys(root: Element, key: bytes | None, passphrase: str | None) -> _Keys:
    wanted = root.first("EncryptionKey")
    if wanted is None:
        return _Keys()
    derivation = wanted.first("DerivedKey", "KeyDerivationMethod")
    if derivation is not None:
        if passphrase is None:
            raise KeyNeededError("passphrase")
        key = _derived(derivation, passphrase)
    elif wanted.first("KeyName") is None:
        raise Refused(
            "the file is encrypted for a certificate, which is not supported",
            "ask for it under a pre-shared key or a passphrase",
        )
    elif key is None:
        raise KeyNeededError("key")
    if len(key) not in KEY_OCTETS.values():
        raise Refused(f"an AES key has 16, 24 or 32 octets, this one has {len(key)}")
    return _Keys(key, _mac(root.first("MACMethod"), key))


def _derived(method: Element, passphrase: str) -> bytes:
    parameters = method.first("PBKDF2-params")
    if not method.attributes.get("Algorithm", "").endswith("#pbkdf2") or parameters is None:
        raise Refused("its key derivation is not supported: PBKDF2 is", "ask for one with PBKDF2")
    prf = parameters.first("PRF")
    named = prf.attributes.get("Algorithm", "") if prf else ""
    digest = MACS.get(_short(named).replace("hmacwith", "hmac-") or "hmac-sha1")
    iterations = parameters.text_at("IterationCount")
    length = parameters.text_at("KeyLength") or "16"
    salt = _base64(parameters.text_at("Salt", "Specified"))
    numbers = all(re.fullmatch(r"[1-9]\d{0,8}", number) for number in (iterations, length))
    if digest is None or not salt or not numbers or int(length) not in KEY_OCTETS.values():
        raise Refused("the parameters of its PBKDF2 can't be used", "is the file whole?")
    if int(iterations) > MAX_ITERATIONS:
        raise Refused(
            f"its PBKDF2 asks for {int(iterations):,} rounds, {MAX_ITERATIONS:,} at most",
            "where does the file come from?",
        )
    return hashlib.pbkdf2_hmac(digest, passphrase.encode(), salt, int(iterations), int(length))


def _mac(method: Element | None, encryption_key: bytes) -> Callable[[bytes], bytes] | None:
    if method is None:
        return None
    digest = MACS.get(_short(method.attributes.get("Algorithm", "")))
    if digest is None:
        raise Refused("its MAC is not supported: HMAC with SHA-1, SHA-256 or SHA-512 is")
    wrapped = method.first("MACKey")
    # Without one, the key of the encryption also authenticates (RFC 6030 section 6.1.1).
    key = encryption_key
    if wrapped is not None:
        try:
            key = _decrypted(wrapped, encryption_key, _cipher_octets(wrapped))
        except _UnusableError:
            raise _wrong_key() from None
    return lambda octets: hmac.digest(key, octets, digest)


def _wrong_key() -> Refused:
    return Refused(
        "the key or passphrase does not fit, or the file was changed", "give the right one"
    )


def _entry(place: str, package: Element, key: Element, keys: _Keys, now: float) -> Entry:
    faults, losses = _policy(key.first("Policy"), now)
    seed, secret = b"", key.first("Data", "Secret")
    algorithm = key.attributes.get("Algorithm", "")
    kind = _KINDS.get(algorithm, _short(algorithm))
    response = key.first("AlgorithmParameters", "ResponseFormat")
    if kind == "totp":
        if response is not None and response.attributes.get("Encoding", "DECIMAL") != "DECIMAL":
            faults.append(("its codes are not decimal", NOT_ENROLLED))
        try:
            seed = _seed(secret, keys)
        except _UnusableError as error:
            faults.append(error.finding)
    return Entry(
        place,
        user=_user(key.text_at("UserId") or package.text_at("DeviceInfo", "UserId")),
        serial=package.text_at("DeviceInfo", "SerialNo") or key.attributes.get("Id", ""),
        name=key.text_at("FriendlyName"),
        kind=kind,
        seed=seed,
        algorithm=key.text_at("AlgorithmParameters", "Suite"),
        digits=response.attributes.get("Length", "6") if response else "6",
        time_step_seconds=key.text_at("Data", "TimeInterval", "PlainValue") or "30",
        faults=tuple(faults),
        losses=tuple(losses),
    )


def _seed(secret: Element | None, keys: _Keys) -> bytes:
    if secret is None:
        raise _UnusableError("it has no seed", "ask for a file with seeds")
    encrypted = secret.first("EncryptedValue")
    if encrypted is None:
        seed = _base64(secret.text_at("PlainValue"))
        if not seed:
            raise _UnusableError("its seed is no base64", "is the file whole?")
        return seed
    if not keys.encryption:
        raise _UnusableError("its seed is encrypted, but the file names no key", "ask for another")
    octets, told = _cipher_octets(encrypted), _base64(secret.text_at("ValueMAC"))
    if keys.mac is None or not told:
        raise _UnusableError(
            "its seed is encrypted without a MAC, so anyone may have changed it",
            "ask for a file with MACs (RFC 6030 section 6.1.1)",
        )
    if not hmac.compare_digest(keys.mac(octets), told):
        raise _UnusableError(
            "its MAC does not fit: a wrong key or passphrase, or a changed file",
            "give the right one, or get the file anew",
        )
    return _decrypted(encrypted, keys.encryption, octets)


def _cipher_octets(encrypted: Element) -> bytes:
    return _base64(encrypted.text_at("CipherData", "CipherValue")) or b""


def _decrypted(encrypted: Element, key: bytes, octets: bytes) -> bytes:
    method = encrypted.first("EncryptionMethod")
    named = _short(method.attributes.get("Algorithm", "")) if method else ""
    if named not in KEY_OCTETS:
        raise _UnusableError(
            "its cipher is not supported: AES in CBC mode is", "ask for AES-128-CBC"
        )
    whole = len(octets) >= 2 * BLOCK_OCTETS and len(octets) % BLOCK_OCTETS == 0
    if KEY_OCTETS[named] != len(key) or not whole:
        raise _UnusableError("its cipher text does not fit the key", "is the key the right one?")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(octets[:BLOCK_OCTETS])).decryptor()
    padded = decryptor.update(octets[BLOCK_OCTETS:]) + decryptor.finalize()
    if not 1 <= padded[-1] <= BLOCK_OCTETS:  # XML Encryption: the last octet counts the padding
        raise _UnusableError("its padding is wrong", "is the key the right one?")
    return padded[: -padded[-1]]


def _policy(policy: Element | None, now: float) -> tuple[list[Finding], list[str]]:
    faults: list[Finding] = []
    losses: list[str] = []
    if policy is None:
        return faults, losses
    uses = [use.text for use in policy.all("KeyUsage")]
    if uses and "OTP" not in uses:
        faults.append(("its policy forbids one-time codes", NOT_ENROLLED))
    if policy.first("PINPolicy"):
        losses.append("its PIN: logins take the password of the directory")
    for name, passed in (("ExpiryDate", True), ("StartDate", False)):
        written = policy.text_at(name)
        if not written:
            continue
        moment = _moment(written)
        if moment is None or (moment <= now) is passed:
            past = "has expired" if passed else "is not valid yet"
            faults.append((f"it {past} by its policy ({name})", NOT_ENROLLED))
        else:
            losses.append(f"its {name}")
    return faults, losses


def _moment(written: str) -> float | None:
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _user(user_id: str) -> str:
    """Return the name in a UserId, which RFC 6030 has as a distinguished name."""
    match = re.match(r"(?:uid|cn)=([^,+]+)", user_id, re.IGNORECASE)
    return match[1].strip() if match else user_id


def _short(identifier: str) -> str:
    return re.split(r"[#:]", identifier)[-1].lower()


def _base64(written: str) -> bytes | None:
    try:
        return base64.b64decode("".join(written.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def is_pskc(octets: bytes) -> bool:
    """Return whether *octets* look like PSKC, to choose the reader."""
    return b"KeyContainer" in octets[:4096]
