"""The queue of mails as whoever sends them, or an admin, sees it.

A mail is claimed for a while before it is sent, so that of several nodes one sends it; a node that
dies leaves it to the others. Which address it goes to is looked up then.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from radius_mfa.policy.mail import REMINDER_SECONDS, Fate, Kind
from radius_mfa.policy.requirement import Requirement
from radius_mfa.stores.enrolments import requirement_of
from radius_mfa.stores.mail_queue import queue
from radius_mfa.stores.records import (
    MAX_NOTE_CHARACTERS,
    Database,
    DeviceRecord,
    MailRecord,
    MfaUser,
    RecoveryCodeRecord,
    begin_writing,
)

CLAIM_SECONDS = 300
"""For this long nobody else sends a mail that was claimed."""

KEPT_DAYS = 30
"""How long it is kept what became of a mail."""

AT_ONCE = 500
"""Reminders of one transaction."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that was claimed, with what is known of its user now.

    *address* is None for a user without one. *until* is the end of the claim.
    """

    mail_id: str
    kind: Kind
    user: str
    name: str
    address: str | None
    detail: dict[str, Any]
    queued_at: datetime
    tries: int
    until: datetime
    requirement: Requirement
    confirmed: bool
    recovery_codes: int


@dataclass(frozen=True, slots=True)
class Listed:
    """What a list shows of a mail."""

    mail_id: str
    kind: str
    user: str
    address: str | None
    fate: str
    queued_at: datetime
    due_at: datetime | None
    ended_at: datetime | None
    tries: int
    note: str


class Outbox:
    """The queue as its sender, and an admin, sees it. *now* is Unix time in seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lock(self, user: str, locked_until: int, now: float) -> None:
        """Queue a mail about a lock (Unix milliseconds, or -1), at most one an hour to a user.

        Locks can be closed from outside, one from each source: nobody's mailbox is to be filled.
        """
        async with self._database.session() as session, session.begin():
            once = f"locked {int(now // 3600)} {user}"
            await queue(session, Kind.LOCKED, [user], once=once, locked_until=locked_until)

    async def remind(self, now: float) -> int:
        """Queue the reminders that are due, each once for an end of a period; return how many."""
        due = _reminders_due(_moment(now))
        queued = 0
        async with self._database.session() as session:
            while (await session.execute(select(MfaUser.name).where(due).limit(1))).first():
                await session.rollback()  # so that SQLite's lock can be had
                async with session.begin():
                    await begin_writing(session)
                    query = select(MfaUser).where(due).order_by(MfaUser.name).limit(AT_ONCE)
                    locked = await session.scalars(query.with_for_update(skip_locked=True))
                    users = locked.all()
                    for user in users:
                        user.reminded_of = user.enrol_by
                    names = [user.name for user in users]
                    await session.flush()
                    await queue(session, Kind.REMINDER, names)
                queued += len(names)
                if not names:  # another node is at it
                    break
        return queued

    async def claim(self, now: float) -> Mail | None:
        """Return the mail that has been due for longest, for the caller alone; None for none."""
        moment = _moment(now)
        due = MailRecord.due_at <= moment
        async with self._database.session() as session:
            if (await session.execute(select(MailRecord.mail_id).where(due).limit(1))).first():
                await session.rollback()
                async with session.begin():
                    await begin_writing(session)
                    query = select(MailRecord).where(due).order_by(MailRecord.due_at).limit(1)
                    record = await session.scalar(query.with_for_update(skip_locked=True))
                    if record is not None:
                        record.due_at = moment + timedelta(seconds=CLAIM_SECONDS)
                        record.tries += 1
                        return await _claimed(session, record)
        return None

    async def ended(self, mail: Mail, fate: Fate, now: float, note: str = "") -> None:
        """Note what became of a mail that was claimed."""
        await self._settle(mail, fate=fate.value, due_at=None, ended_at=_moment(now), note=note)

    async def put_back(self, mail: Mail, due: float, note: str = "") -> None:
        """Let a mail that was claimed wait until *due*."""
        await self._settle(mail, due_at=_moment(due), note=note)

    async def _settle(self, mail: Mail, **values: Any) -> None:  # noqa: ANN401 - columns
        """Change a mail, unless the claim ran out and it is another node's by now."""
        values["note"] = values["note"][:MAX_NOTE_CHARACTERS]
        ours = and_(MailRecord.mail_id == mail.mail_id, MailRecord.due_at == mail.until)
        async with self._database.session() as session, session.begin():
            await session.execute(update(MailRecord).where(ours).values(**values))

    async def forget(self, now: float) -> None:
        """Forget mails whose fate was sealed long ago."""
        old = MailRecord.ended_at < _moment(now) - timedelta(days=KEPT_DAYS)
        async with self._database.session() as session:
            if (await session.execute(select(MailRecord.mail_id).where(old).limit(1))).first():
                await session.rollback()
                async with session.begin():
                    await session.execute(delete(MailRecord).where(old))

    async def waiting(self) -> int:
        """Return how many mails wait."""
        query = select(func.count()).select_from(MailRecord).where(MailRecord.due_at.is_not(None))
        async with self._database.session() as session:
            return await session.scalar(query) or 0

    async def listed(self, *, everything: bool = False, limit: int = 1000) -> list[Listed]:
        """Return the newest mails, oldest first: those that wait or came to nothing, or all."""
        query = select(MailRecord, MfaUser).join(MfaUser, MfaUser.name == MailRecord.user)
        if not everything:
            shown = (Fate.WAITING.value, Fate.REFUSED.value, Fate.GIVEN_UP.value)
            query = query.where(MailRecord.fate.in_(shown))
        query = query.order_by(MailRecord.queued_at.desc(), MailRecord.mail_id).limit(limit)
        async with self._database.session() as session:
            found = (await session.execute(query)).all()
        return [
            Listed(
                mail.mail_id,
                mail.kind,
                user.user_name or user.name,
                user.mail,
                mail.fate,
                mail.queued_at,
                mail.due_at,
                mail.ended_at,
                mail.tries,
                mail.note,
            )
            for mail, user in reversed(found)
        ]

    async def retry(self, mail_ids: Iterable[str] | None, now: float) -> int:
        """Make mails due now that wait or came to nothing: those named, or all; return how many.

        Each has its whole time again.
        """
        unsent = MailRecord.fate.in_((Fate.WAITING, Fate.REFUSED, Fate.GIVEN_UP))
        query = update(MailRecord).where(unsent)
        if mail_ids is not None:
            query = query.where(MailRecord.mail_id.in_(list(mail_ids)))
        values = {"due_at": _moment(now), "queued_at": _moment(now), "ended_at": None}
        query = query.values(**values, fate=Fate.WAITING.value, tries=0, note="")
        async with self._database.session() as session, session.begin():
            return len((await session.execute(query.returning(MailRecord.mail_id))).all())


def _reminders_due(now: datetime) -> ColumnElement[bool]:
    """Return who is to be reminded: the period ends within a day, and lasts longer than that.

    Those who have enrolled meanwhile are not, nor the exempt.
    """
    day = timedelta(seconds=REMINDER_SECONDS)
    enrolled = exists().where(
        DeviceRecord.user == MfaUser.name, DeviceRecord.confirmed_at.is_not(None)
    )
    return and_(
        MfaUser.enrol_by > now,
        MfaUser.enrol_by <= now + day,
        MfaUser.required_from <= now,
        or_(MfaUser.reminded_of.is_(None), MfaUser.reminded_of != MfaUser.enrol_by),
        or_(MfaUser.exempt_until.is_(None), MfaUser.exempt_until <= now),
        MfaUser.factor_suspended_at.is_(None),
        MfaUser.suspended_at.is_(None),
        MfaUser.mail.is_not(None),
        ~enrolled,
    )


async def _claimed(session: AsyncSession, record: MailRecord) -> Mail:
    user = await session.get_one(MfaUser, record.user)
    confirmed = select(DeviceRecord.device_id).where(
        DeviceRecord.user == user.name, DeviceRecord.confirmed_at.is_not(None)
    )
    codes = select(func.count()).where(
        RecoveryCodeRecord.user == user.name, RecoveryCodeRecord.used_at.is_(None)
    )
    assert record.due_at is not None  # noqa: S101 - set by the caller
    return Mail(
        record.mail_id,
        Kind(record.kind),
        user.name,
        user.user_name or user.name,
        user.mail,
        orjson.loads(record.detail),
        record.queued_at,
        record.tries,
        record.due_at,
        requirement_of(user),
        (await session.execute(confirmed.limit(1))).first() is not None,
        await session.scalar(codes) or 0,
    )


def _moment(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)
