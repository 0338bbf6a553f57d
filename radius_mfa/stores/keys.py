"""Which keys there are and which one encrypts: what the database knows of the key ring.

The database holds no key. It tells each by something that only this key opens, so that a wrong
key ring is noticed at start; it names the one that encrypts, so that all nodes change at once;
and it remembers which ones are retired, so that no late writer uses one again.
"""

from dataclasses import dataclass
from datetime import datetime
from secrets import token_bytes

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from radius_mfa.errors import ConfigurationError, Refused
from radius_mfa.stores.keyring import KEY_OCTETS, KeyRing, WrongKeyError
from radius_mfa.stores.records import (
    Database,
    DeviceRecord,
    Fact,
    RecoveryCodeRecord,
    note,
    utc_now,
)

_CHECK = "key_check_"
_PRIMARY = "key_primary"
DIGEST_KEY = "digest_key"

_NEVER = "-"
_KEY_CHECK = b"this key opens this database"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key that this database has seen; *sealed* is what only this key opens."""

    version: int
    sealed: bytes
    created_at: datetime | None
    retired_at: datetime | None = None

    @property
    def name(self) -> str:
        """The name of its fact, to which *sealed* is bound."""
        return _check_name(self.version)

    @property
    def text(self) -> str:
        """The value of its fact."""
        moments = (self.created_at, self.retired_at)
        shown = [moment.isoformat() if moment else _NEVER for moment in moments]
        return " ".join([self.sealed.hex(), *shown])


def _check_name(version: int) -> str:
    return f"{_CHECK}{version}"


def _known_key(fact: Fact) -> KnownKey:
    sealed, created, retired = (*fact.value.split(), _NEVER, _NEVER)[:3]
    moments = (
        None if text == _NEVER else datetime.fromisoformat(text) for text in (created, retired)
    )
    return KnownKey(int(fact.name.removeprefix(_CHECK)), bytes.fromhex(sealed), *moments)


async def check(database: Database, key_ring: KeyRing) -> None:
    """Raise ConfigurationError unless the key ring opens what is stored; note new keys."""
    async with database.session() as session, session.begin():
        primary = await _follow(session, key_ring)
        used = set(await session.scalars(select(DeviceRecord.key_version).distinct()))
        used |= set(await session.scalars(select(RecoveryCodeRecord.key_version).distinct()))
        _refuse_missing({primary, *used}, key_ring)
    key_ring.encrypt_with(primary)


async def follow(database: Database, key_ring: KeyRing) -> None:
    """Take up what has changed: a key that was added, the one that encrypts, one retired.

    Raises ConfigurationError for a key ring that does not go with the database; then the node
    goes on with the keys that it has.
    """
    key_ring.read_again()
    async with database.session() as session, session.begin():
        primary = await _follow(session, key_ring)
        _refuse_missing({primary}, key_ring)
    key_ring.encrypt_with(primary)


async def _follow(session: AsyncSession, key_ring: KeyRing) -> int:
    """Check the ring's keys, drop those retired, and return the version that encrypts."""
    known = {key.version: key for key in await known_keys(session)}
    for version in sorted(key_ring.versions):
        key = known.get(version) or await _noted(session, key_ring, version)
        if key.retired_at is None:
            _check_key(key, key_ring)
        else:
            key_ring.drop(version)
    fact = await session.get(Fact, _PRIMARY)
    if fact is None and key_ring.versions:
        await note(session, _PRIMARY, str(key_ring.newest))
        fact = await session.get_one(Fact, _PRIMARY)  # another node's, where it was faster
    return int(fact.value) if fact else 0


async def known_keys(session: AsyncSession) -> list[KnownKey]:
    """Return every key that was ever used with this database, the oldest version first."""
    facts = await session.scalars(select(Fact).where(Fact.name.startswith(_CHECK, autoescape=True)))
    return sorted(map(_known_key, facts), key=lambda key: key.version)


async def _noted(session: AsyncSession, key_ring: KeyRing, version: int) -> KnownKey:
    name = _check_name(version)
    sealed = key_ring.sealed(version, _KEY_CHECK, name)
    await note(session, name, KnownKey(version, sealed, utc_now()).text)
    return _known_key(await session.get_one(Fact, name))  # another node's, where it was faster


def _check_key(key: KnownKey, key_ring: KeyRing) -> None:
    try:
        key_ring.decrypt(key.version, key.sealed, key.name)
    except WrongKeyError:
        raise ConfigurationError(
            f"key version {key.version} in the key ring is not the one this database was made with",
            "restore the key ring that belongs to this database",
        ) from None


def _refuse_missing(needed: set[int], key_ring: KeyRing) -> None:
    missing = sorted(needed - key_ring.versions)
    if missing:
        raise ConfigurationError(
            f"the key ring lacks key version {', '.join(map(str, missing))}, which is in use",
            "copy the key ring from the node where it was rotated, or restore it from your backup",
        )


async def make_primary(session: AsyncSession, version: int) -> None:
    """Let the key of *version* encrypt, on every node."""
    await session.execute(update(Fact).where(Fact.name == _PRIMARY).values(value=str(version)))


async def retire(session: AsyncSession, key: KnownKey) -> None:
    """Let nobody encrypt under *key* any more; who holds it by ``hold`` is waited for."""
    retired = KnownKey(key.version, key.sealed, key.created_at, utc_now())
    await session.execute(update(Fact).where(Fact.name == key.name).values(value=retired.text))


async def hold(session: AsyncSession, version: int) -> None:
    """Keep the key of *version* from being retired until the transaction ends.

    Whoever stores something new under a key calls it first. Raises Refused where it came too
    late: this process read the key ring before the key was retired.
    """
    fact = await session.scalar(
        select(Fact).where(Fact.name == _check_name(version)).with_for_update(read=True)
    )
    if fact is not None and _known_key(fact).retired_at is not None:
        raise Refused(f"key version {version} was retired a moment ago", "try again")


async def digest_key(database: Database, key_ring: KeyRing) -> bytes:
    """Return the secret of the digests in Redis, the same on every node and under every key.

    A node that digested under another key would not find the verdicts of the others.
    """
    async with database.session() as session, session.begin():
        fact = await session.get(Fact, DIGEST_KEY)
        if fact is None:
            await note(session, DIGEST_KEY, sealed_digest_key(key_ring, token_bytes(KEY_OCTETS)))
            fact = await session.get_one(Fact, DIGEST_KEY)
        return opened_digest_key(key_ring, fact.value)


def sealed_digest_key(key_ring: KeyRing, plain: bytes) -> str:
    """Return the fact that holds the secret of the digests."""
    version, sealed = key_ring.encrypt(plain, DIGEST_KEY)
    return f"{version} {sealed.hex()}"


def opened_digest_key(key_ring: KeyRing, text: str) -> bytes:
    """Return the secret of the digests, or raise ConfigurationError."""
    version, sealed = text.split()
    try:
        return key_ring.decrypt(int(version), bytes.fromhex(sealed), DIGEST_KEY)
    except WrongKeyError as error:
        raise ConfigurationError(
            f"the secret of the digests can't be read: {error}",
            "restore the key ring that belongs to this database",
        ) from None
