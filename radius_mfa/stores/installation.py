"""Whether Redis is new with this installation, or one that has lost its memory."""

from radius_mfa.stores.attempts import RedisAttempts
from radius_mfa.stores.records import Database, Fact, note

_REDIS_FILLED = "redis_filled"


async def open_epoch(database: Database, attempts: RedisAttempts, now: float) -> None:
    """Make sure that Redis has memory, and tell a new Redis from one that has lost it (rule 10).

    Only the database knows that Redis was filled before; an empty one is then a lost one.
    """
    async with database.session() as session, session.begin():
        known = await session.get(Fact, _REDIS_FILLED) is not None
        if not known and await note(session, _REDIS_FILLED, "yes"):
            await attempts.open_epoch(forgotten_until=0)
        else:
            await attempts.notice_lost_memory(now)
