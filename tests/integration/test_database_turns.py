"""Who waits for the database gets it in the order of asking: nobody starves."""

import asyncio
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import make_url

from radius_mfa.stores.records import Database, open_engine


async def test_sessions_are_given_in_the_order_of_asking(tmp_path: Path) -> None:
    """With the pool's own queue, whoever asks at the right moment overtakes all who wait."""
    url = make_url(f"sqlite+aiosqlite:///{tmp_path}/records.sqlite")
    database = Database(open_engine(url, pool_size=2, timeout_seconds=10))
    hungry = 4
    served: list[int] = []
    in_full_swing = asyncio.Event()

    async def ask(number: int) -> None:
        async with database.session() as session:
            await session.execute(text("SELECT 1"))
            served.append(number)
        if len(served) > hungry:
            in_full_swing.set()

    async def keep_asking(number: int) -> None:
        for _ in range(20):
            await ask(number)

    async def come_late() -> int:
        await in_full_swing.wait()
        asked_after = len(served)
        await ask(1)
        return served.index(1) - asked_after

    crowd = asyncio.gather(*(keep_asking(-1) for _ in range(hungry)))
    overtaken = await come_late()
    await crowd
    await database.close()
    assert overtaken <= hungry + 2, "those who asked before, and who had a session just then"
