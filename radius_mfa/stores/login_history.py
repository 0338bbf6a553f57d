"""The history of logins in SQL, a function of the event stream: what it was, and what to read.

Beside its rows the database holds the place in the stream that they go up to, changed in the same
transaction: so each event is in it once, whichever node writes it and whatever is interrupted.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import CursorResult, Delete, delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from radius_mfa.stores.events import ADMIN_PORTAL, PORTAL, Event, EventFilter, Result, id_at
from radius_mfa.stores.records import (
    Database,
    LastLoginRecord,
    LoginCountRecord,
    LoginEventRecord,
    MfaUser,
    chunks,
    insert_of,
    note,
)

POSITION = "login_history"
"""The fact that says up to which event the history goes."""

PRUNED_AT_ONCE = 5_000

ASKED_AT_ONCE = 500
"""Users in one statement."""


@dataclass(frozen=True, slots=True)
class PastLogin:
    """A login of the history. *user* is the key, *called* the name for people, *typed* as typed.

    *reason* says why not: of a reject its reason, of an unanswered login the backend. *left_out*
    logins of the same client and reason came before this one and have no row of their own.
    """

    event_id: int
    at: datetime
    result: Result
    user: str
    called: str
    typed: str
    directory: str
    client: str
    nas_identifier: str
    source: str
    station: str
    method: str
    reason: str
    hint: str
    request_id: str
    node: str
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class LastLogin:
    """Where and when a user was last let in."""

    user: str
    event_id: int
    at: datetime
    client: str
    nas_identifier: str
    source: str
    station: str
    method: str


@dataclass(frozen=True, slots=True)
class LoginCount:
    """How many logins came to the same at a client."""

    client: str
    result: Result
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What the history counts of an event: what a login came to, where and when."""

    at: datetime
    client: str
    result: Result
    reason: str


Row = tuple[int | str, ...]
"""A row of ``login_event``, in the order of its columns."""


def finding(event: Event) -> Finding | None:
    """Return what the history counts of *event*, or None for what is no login."""
    result = event.result
    if result is None or result is Result.DISCARDED:
        return None
    try:
        at = datetime.fromisoformat(event.text("timestamp")).astimezone(UTC)
    except ValueError:
        return None
    return Finding(at, _fit("client", event.client), result, _fit("reason", event.reason))


def row(event: Event, found: Finding, left_out: int) -> Row:
    """Return *event* as the history holds it; *left_out* like it came before, without a row."""
    milliseconds = int(found.at.timestamp() * 1000)
    texts = {
        "user": event.user,
        "called": event.text("canonical_user"),
        "typed": event.text("user"),
        "client": found.client,
        "reason": found.reason,
        "node": event.node,
    }
    return (
        event.event_id,
        milliseconds,
        found.result.value,
        *[_fit(name, texts[name] if name in texts else event.text(name)) for name in _TEXT_COLUMNS],
        left_out,
    )


def _fit(column: str, text: str) -> str:
    """Return *text* as its column takes it: PostgreSQL refuses what is longer, and a NUL."""
    if "\0" in text:
        text = text.replace("\0", "")
    return text[: _LENGTHS[column]]


_COLUMNS = LoginEventRecord.__table__.columns
_TEXT_COLUMNS = tuple(column.name for column in _COLUMNS)[3:-1]
_LENGTHS = {column.name: getattr(column.type, "length", None) for column in _COLUMNS}


class LoginHistory:
    """The history over a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---- What the portal and the command line ask --------------------------------------------

    async def recent(self, user: str, limit: int = 20) -> list[PastLogin]:
        """Return the newest *limit* logins of a user's key, newest first."""
        return await self.page(EventFilter(user=user), limit=limit)

    async def page(
        self, wanted: EventFilter = EventFilter(), before: int = 0, limit: int = 50
    ) -> list[PastLogin]:
        """Return the newest *limit* logins that are *wanted*, newest first; *user* is a key.

        *before* is the id of the last one of the page before, 0 for the first page.
        """
        asked = {"user": wanted.user, "client": wanted.client, "reason": wanted.reason}
        asked |= {"result": wanted.result or ""}
        query = select(*_COLUMNS).order_by(LoginEventRecord.event_id.desc()).limit(limit)
        for name, word in asked.items():
            if word:
                query = query.where(getattr(LoginEventRecord, name) == word)
        if before:
            query = query.where(LoginEventRecord.event_id < before)
        async with self._database.session() as session:
            return [_past_login(row) for row in await session.execute(query)]

    async def login(self, request_id: str) -> list[PastLogin]:
        """Return what there is of the login with this id of the log, oldest first."""
        query = select(*_COLUMNS).where(LoginEventRecord.request_id == request_id)
        async with self._database.session() as session:
            rows = await session.execute(query.order_by(LoginEventRecord.event_id))
            return [_past_login(row) for row in rows]

    async def last_logins(self, users: Sequence[str]) -> dict[str, LastLogin]:
        """Return the last accepted login of each of *users* (keys) that ever had one."""
        found: dict[str, LastLogin] = {}
        async with self._database.session() as session:
            for some in chunks(users, ASKED_AT_ONCE):
                query = select(*LastLoginRecord.__table__.columns)
                rows = await session.execute(query.where(LastLoginRecord.user.in_(some)))
                found |= {row.user: _last_login(row) for row in rows}
        return found

    async def counts(self, since: datetime, until: datetime) -> list[LoginCount]:
        """Return how many logins came to what, from the hour of *since* up to *until*.

        Every login counts here, also those that are left out as rows.
        """
        count = LoginCountRecord
        query = (
            select(count.client, count.result, count.reason, func.sum(count.count))
            .where(count.hour >= _hour(since), count.hour < until.astimezone(UTC))
            .group_by(count.client, count.result, count.reason)
            .order_by(count.client, count.result, count.reason)
        )
        async with self._database.session() as session:
            return [
                LoginCount(client, Result(result), reason, int(total))
                for client, result, reason, total in await session.execute(query)
            ]

    # ---- What the writer does ----------------------------------------------------------------

    async def position(self) -> int:
        """Return the id of the event that the history goes up to, 0 before the first."""
        async with self._database.session() as session:
            await note(session, POSITION, "0")
            await session.commit()
            query = text("SELECT value FROM fact WHERE name = :name")
            return int(await session.scalar(query, {"name": POSITION}))

    async def record(
        self, after: int, until: int, findings: Sequence[Finding], rows: Sequence[Row]
    ) -> bool:
        """Write the events after *after* up to *until*: all *findings* count, *rows* are kept.

        Returns False, and writes nothing, where the history does not go up to *after*: another
        node has written, or an older database was restored.
        """
        counts = Counter((_hour(one.at), one.client, one.result, one.reason) for one in findings)
        async with self._database.session() as session:
            if not await _moved(session, after, until):
                return False
            if counts:
                await _add(session, counts)
            if rows:
                await _insert(session, rows)
                await _put_last(session, after, until)
            await session.commit()
            return True

    async def begin_anew(self, position: int) -> None:
        """Go back to the beginning: the stream at hand is another one, whose clock is behind."""
        async with self._database.session() as session:
            await _moved(session, position, 0)
            await session.commit()

    async def prune(self, before: datetime) -> int:
        """Forget some of what is older; return how many single logins were among it.

        The last login of somebody who is still on record stays, however long ago it was.
        """
        oldest = (
            select(LoginEventRecord.event_id)
            .where(LoginEventRecord.event_id < id_at(int(before.timestamp() * 1000)))
            .order_by(LoginEventRecord.event_id)
            .limit(PRUNED_AT_ONCE)
        )
        async with self._database.session() as session:
            pruned = await _pruned(
                session, delete(LoginEventRecord).where(LoginEventRecord.event_id.in_(oldest))
            )
            await _pruned(
                session, delete(LoginCountRecord).where(LoginCountRecord.hour < _hour(before))
            )
            on_record = select(MfaUser.name)
            await _pruned(
                session,
                delete(LastLoginRecord).where(
                    LastLoginRecord.at < int(before.timestamp() * 1000),
                    LastLoginRecord.user.not_in(on_record),
                ),
            )
            await session.commit()
            return pruned


def _past_login(row: Any) -> PastLogin:  # noqa: ANN401 - SQLAlchemy's row
    at = datetime.fromtimestamp(row.at / 1000, UTC)
    return PastLogin(**{**row._mapping, "at": at, "result": Result(row.result)})  # noqa: SLF001 - SQLAlchemy's public name


def _last_login(row: Any) -> LastLogin:  # noqa: ANN401 - SQLAlchemy's row
    at = datetime.fromtimestamp(row.at / 1000, UTC)
    return LastLogin(**{**row._mapping, "at": at})  # noqa: SLF001 - SQLAlchemy's public name


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


async def _moved(session: AsyncSession, after: int, until: int) -> bool:
    """Move the position; whoever else would waits until this transaction ends, and then can't."""
    done = await session.execute(
        text("UPDATE fact SET value = :until WHERE name = :name AND value = :after"),
        {"name": POSITION, "after": str(after), "until": str(until)},
    )
    return isinstance(done, CursorResult) and done.rowcount == 1


async def _add(session: AsyncSession, counts: Counter[tuple[datetime, str, Result, str]]) -> None:
    table = LoginCountRecord.__table__
    adding = await insert_of(session, table)
    adding = adding.on_conflict_do_update(
        index_elements=list(table.primary_key),
        set_={"count": table.c.count + adding.excluded.count},
    )
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, (*key, count), strict=True)) for key, count in sorted(counts.items())]
    await session.execute(adding, rows)


async def _insert(session: AsyncSession, rows: Sequence[Row]) -> None:
    """Insert many rows; in the driver's own form, which takes a third of the processor's time."""
    connection = await session.connection()
    insert = (await insert_of(session, LoginEventRecord.__table__)).on_conflict_do_nothing()
    statement = str(insert.compile(dialect=connection.dialect))
    await connection.exec_driver_sql(statement, list(rows))


async def _put_last(session: AsyncSession, after: int, until: int) -> None:
    """Note everybody's last accepted login among the rows after *after* up to *until*.

    A sign-in at a portal is none: what is wanted is when somebody last used the VPN.
    """
    event, table = LoginEventRecord.__table__.c, LastLoginRecord.__table__
    names = [column.name for column in table.columns]
    newest = (
        select(func.max(event.event_id))
        .where(event.event_id > after, event.event_id <= until)
        .where(event.result == Result.ACCEPTED.value)
        .where(event.client.not_in((PORTAL, ADMIN_PORTAL)))
        .group_by(event.user)
    )
    chosen = select(*[event[name] for name in names]).where(event.event_id.in_(newest))
    putting = (await insert_of(session, table)).from_select(names, chosen)
    await session.execute(
        putting.on_conflict_do_update(
            index_elements=[table.c.user],
            set_={name: putting.excluded[name] for name in names},
            where=table.c.event_id < putting.excluded.event_id,
        )
    )


async def _pruned(session: AsyncSession, statement: Delete) -> int:
    done = await session.execute(statement)
    return done.rowcount if isinstance(done, CursorResult) else 0
