"""Where a change queues the mail that tells of it: in its own transaction.

There is neither without the other, and no mail server stands in the way of a change.
"""

import secrets
from collections.abc import Sequence
from datetime import timedelta

import orjson
from sqlalchemy import and_, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from radius_mfa.policy.mail import Fate, Kind
from radius_mfa.stores.records import QUEUES_MAILS, MailRecord, MfaUser, chunks, insert_of, utc_now

AT_ONCE = 500
"""Rows of one statement."""


async def queue(
    session: AsyncSession,
    kind: Kind,
    users: Sequence[str],
    *,
    once: str | None = None,
    wait_seconds: float = 0,
    **detail: object,
) -> None:
    """Queue a mail to each of *users* who has an address, in the transaction of *session*.

    Nothing is queued where no mail server is configured. *detail* holds what the text needs and
    no secret. Of several mails with the same *once* the first counts.
    """
    if not session.info.get(QUEUES_MAILS):
        return
    now = utc_now()
    text = orjson.dumps({"at": now.timestamp(), **detail}).decode()
    insert = await insert_of(session, MailRecord)
    for some in chunks(users, AT_ONCE):
        reachable = select(MfaUser.name).where(MfaUser.name.in_(some), MfaUser.mail.is_not(None))
        rows = [
            {
                "mail_id": secrets.token_hex(8),
                "user": user,
                "kind": kind.value,
                "once": once,
                "detail": text,
                "queued_at": now,
                "due_at": now + timedelta(seconds=wait_seconds),
                "tries": 0,
                "fate": Fate.WAITING.value,
                "note": "",
            }
            for user in await session.scalars(reachable)
        ]
        if rows:
            await session.execute(insert.values(rows).on_conflict_do_nothing())


async def withdraw(session: AsyncSession, once: str) -> None:
    """Take back a mail that waits, for what it tells of was undone."""
    waiting = and_(MailRecord.once == once, MailRecord.fate == Fate.WAITING.value)
    await session.execute(delete(MailRecord).where(waiting))
