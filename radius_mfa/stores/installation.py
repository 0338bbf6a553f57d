"""Facts that tell a new installation from one that has lost something."""

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from radius_mfa.errors import ConfigurationError
from radius_mfa.stores.attempts import RedisAttempts
from radius_mfa.stores.keyring import KeyRing, WrongKeyError
from radius_mfa.stores.records import Database, DeviceRecord, Fact

_KEY_CHECK = b"this key opens this database"
_REDIS_FILLED = "redis_filled"


async def check_keys(database: Database, key_ring: KeyRing) -> None:
    """Raise ConfigurationError unless the key ring opens what is stored; note new keys."""
    async with database.session() as session, session.begin():
        for version in sorted(key_ring.versions):
            await _check_key(session, key_ring, version)
        used = set(await session.scalars(select(DeviceRecord.key_version).distinct()))
        missing = ", ".join(map(str, sorted(used - key_ring.versions)))
        if missing:
            raise ConfigurationError(
                f"devices are encrypted under key version {missing}, which the key ring lacks",
                "restore the key ring from your backup",
            )


async def _check_key(session: AsyncSession, key_ring: KeyRing, version: int) -> None:
    name = f"key_check_{version}"
    fact = await session.get(Fact, name)
    if fact is None:
        await _noted(session, name, key_ring.sealed(version, _KEY_CHECK, name).hex())
        fact = await session.get_one(Fact, name)  # another node's, where it was faster
    try:
        key_ring.decrypt(version, bytes.fromhex(fact.value), name)
    except WrongKeyError:
        raise ConfigurationError(
            f"key version {version} in the key ring is not the one this database was made with",
            "restore the key ring that belongs to this database",
        ) from None


async def open_epoch(database: Database, attempts: RedisAttempts, now: float) -> None:
    """Make sure that Redis has memory, and tell a new Redis from one that has lost it (rule 10).

    Only the database knows that Redis was filled before; an empty one is then a lost one.
    """
    async with database.session() as session, session.begin():
        known = await session.get(Fact, _REDIS_FILLED) is not None
        if not known and await _noted(session, _REDIS_FILLED, "yes"):
            await attempts.open_epoch(forgotten_until=0)
        else:
            await attempts.notice_lost_memory(now)


async def _noted(session: AsyncSession, name: str, value: str) -> bool:
    """Put a fact on record; return False where another node did so first.

    Until this transaction ends no other one gets past the same fact.
    """
    noted = await session.execute(
        text(
            "INSERT INTO fact (name, value) VALUES (:name, :value)"
            " ON CONFLICT DO NOTHING RETURNING name"
        ),
        {"name": name, "value": value},
    )
    return noted.one_or_none() is not None
