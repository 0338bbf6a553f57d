"""The audit trail: who did what to whom, when and from where, chained by hash.

A row is written in the transaction of the change itself: there is neither without the other. Each
row's digest covers the row before it, so that a row changed, removed or slipped in shows. Rows cut
off at the end show only against a digest that was noted elsewhere: ``audit verify`` prints it.
"""

import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import ColumnElement, false, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from radius_mfa.stores.records import AuditRecord, Database, begin_writing, utc_now

FIRST = "0" * 64
"""What stands for the digest of the row before the first one."""

PAGE_ROWS = 5_000

_LOCK = text("SELECT pg_advisory_xact_lock(7261646980)")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and from where; neither is a secret."""

    who: str
    origin: str = ""


SERVER = Actor("radius-mfa")
"""Who acts where nobody is named: the server itself."""

_actor: ContextVar[Actor] = ContextVar("actor", default=SERVER)


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """Let whatever is changed inside the block, and in tasks begun in it, be *actor*'s doing."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


@dataclass(frozen=True, slots=True)
class Act:
    """What is done to whom. *detail* holds what else matters, and never a secret.

    *subject* is a user's key, *called* what people call them where that is something else.
    """

    name: str
    subject: str
    detail: dict[str, Any] = field(default_factory=dict)
    called: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the trail."""

    number: int
    at: datetime
    who: str
    origin: str
    act: str
    subject: str
    detail: dict[str, Any]
    digest: str
    called: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """How far the chain holds: *rows* are intact, the last of them has *digest*.

    *broken* is the number of the first row that does not fit, and *why*; None where all do.
    """

    rows: int
    digest: str
    broken: int | None = None
    why: str = ""


async def append(session: AsyncSession, acts: Sequence[Act]) -> None:
    """Write *acts* at the end of the chain; commit soon, for other writers wait until then."""
    if not acts:
        return
    await _in_turn(session)
    last = (
        await session.execute(
            select(AuditRecord.number, AuditRecord.digest)
            .order_by(AuditRecord.number.desc())
            .limit(1)
        )
    ).one_or_none()
    number, digest = last or (0, FIRST)
    actor, now = _actor.get(), utc_now()
    for act in acts:
        number += 1
        record = AuditRecord(
            number=number,
            at=now,
            who=actor.who,
            origin=actor.origin,
            act=act.name,
            subject=act.subject,
            called=act.called,
            detail=orjson.dumps(act.detail, option=orjson.OPT_SORT_KEYS).decode(),
        )
        record.digest = digest = _digest(digest, record)
        session.add(record)
    await session.flush()


async def _in_turn(session: AsyncSession) -> None:
    """Wait for whoever writes to the trail; the next one waits until this transaction ends.

    Come here last: rows of users are locked before the trail, never after it.
    """
    await begin_writing(session)
    if (await session.connection()).dialect.name == "postgresql":
        await session.execute(_LOCK)


def _digest(previous: str, record: AuditRecord) -> str:
    covered = [
        previous,
        record.number,
        record.at.astimezone(UTC).isoformat(),
        record.who,
        record.origin,
        record.act,
        record.subject,
        record.called,
        record.detail,
    ]
    return hashlib.sha256(orjson.dumps(covered)).hexdigest()


async def entries(
    database: Database,
    *,
    subject: str | None = None,
    called: str | None = None,
    who: str | None = None,
    act: str | None = None,
    since: datetime | None = None,
    before: int = 0,
    limit: int = 0,
) -> list[Entry]:
    """Return the newest *limit* rows (0 for all), oldest first, of one subject or actor.

    With *called* also those of whoever bore that name then; of one *act*, from *since* on, with
    numbers less than *before*, where these are given.
    """
    query = select(AuditRecord).order_by(AuditRecord.number.desc())
    if subject is not None:
        named = false() if called is None else AuditRecord.called == called
        query = query.where(or_(AuditRecord.subject == subject, named))
    if who is not None:
        query = query.where(AuditRecord.who == who)
    if act is not None:
        query = query.where(AuditRecord.act == act)
    if since is not None:
        query = query.where(AuditRecord.at >= since)
    if before:
        query = query.where(AuditRecord.number < before)
    if limit:
        query = query.limit(limit)
    async with database.session() as session:
        records = (await session.scalars(query)).all()
    return [
        Entry(
            row.number,
            row.at,
            row.who,
            row.origin,
            row.act,
            row.subject,
            orjson.loads(row.detail),
            row.digest,
            row.called,
        )
        for row in reversed(records)
    ]


async def verified(database: Database, noted: str = "") -> Verified:
    """Return how far the chain holds; *noted* is a digest that must stand somewhere in it."""
    number, digest, met = 0, FIRST, not noted
    async for record in _rows(database):
        if record.number != number + 1:
            gone = _range(number + 1, record.number - 1)
            return Verified(number, digest, number + 1, f"{gone} missing")
        if record.digest != _digest(digest, record):
            return Verified(number, digest, record.number, "it was changed, or one was slipped in")
        number, digest = record.number, record.digest
        met = met or digest == noted
    if not met:
        return Verified(number, digest, number + 1, "the digest noted earlier is not in the chain")
    return Verified(number, digest)


async def _rows(database: Database) -> AsyncIterator[AuditRecord]:
    """Yield every row by number, a page at a time, whatever numbers they bear."""
    beyond: ColumnElement[bool] | None = None
    while True:
        query = select(AuditRecord).order_by(AuditRecord.number).limit(PAGE_ROWS)
        async with database.session() as session:
            page = (await session.scalars(query if beyond is None else query.where(beyond))).all()
        for record in page:
            yield record
        if len(page) < PAGE_ROWS:
            return
        beyond = AuditRecord.number > page[-1].number


def _range(first: int, last: int) -> str:
    return f"row {first} is" if first == last else f"rows {first} to {last} are"
