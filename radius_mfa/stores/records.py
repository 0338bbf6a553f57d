"""The durable records: tables, engine, sessions.

Every user of this server has a ``mfa_user`` row, whatever directory their password lives in;
``local_user`` holds the passwords of the local directory alone.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from time import time
from typing import Any, TypeVar, cast

import aiosqlite
from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.types import TypeDecorator

from radius_mfa.errors import BackendUnavailable
from radius_mfa.policy.groups import MAX_GROUP_CHARACTERS
from radius_mfa.policy.mail_address import MAX_OCTETS as MAX_MAIL_CHARACTERS
from radius_mfa.policy.requirement import MAX_REASON_CHARACTERS

T = TypeVar("T")

QUEUES_MAILS = "queues mails"
"""In the info of a session: whether what is done in it is told by mail."""

NAME_CHARACTERS = 253

LOGGED_CHARACTERS = 259
"""The longest text of a field of the log, with the dots where it was cut off."""

MAX_NOTE_CHARACTERS = 255
"""Of what a mail server said of a mail."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite keeps no time zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ANN401, ARG002 - SQLAlchemy's signature
        """Return *value* as an aware datetime."""
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


class Record(DeclarativeBase):
    """Base of all tables."""


class MfaUser(Record):
    """A user as the second factor knows them.

    *name* is the one key: a local user's name, or what a directory never changes of its user.
    Those have a *directory*, and in *user_name* what people called them when last looked at.
    *reminded_of* is the end of the enrolment period that a mail has reminded them of.
    *version* grows with every change. It starts from the clock in milliseconds, so that a user
    who was deleted and made anew never has a version that something cached already bears.
    """

    __tablename__ = "mfa_user"

    name: Mapped[str] = mapped_column(String(NAME_CHARACTERS), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, default=lambda: int(time() * 1000))
    suspended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    directory: Mapped[str | None] = mapped_column(String(32))
    user_name: Mapped[str | None] = mapped_column(String(NAME_CHARACTERS), index=True)
    required_from: Mapped[datetime | None] = mapped_column(UtcDateTime)
    enrol_by: Mapped[datetime | None] = mapped_column(UtcDateTime)
    exempt_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    exempt_reason: Mapped[str | None] = mapped_column(String(MAX_REASON_CHARACTERS))
    factor_suspended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    mail: Mapped[str | None] = mapped_column(String(MAX_MAIL_CHARACTERS))
    reminded_of: Mapped[datetime | None] = mapped_column(UtcDateTime)


class LocalUser(Record):
    """A password of the local directory."""

    __tablename__ = "local_user"

    name: Mapped[str] = mapped_column(
        ForeignKey("mfa_user.name", ondelete="CASCADE"), primary_key=True
    )
    password_hash: Mapped[str] = mapped_column(String(255))
    password_changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class UserGroup(Record):
    """A group that a user is in by an admin's word, beside those of a directory."""

    __tablename__ = "user_group"

    user: Mapped[str] = mapped_column(
        ForeignKey("mfa_user.name", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(MAX_GROUP_CHARACTERS), primary_key=True)


class AdminRecord(Record):
    """A role that a user has in the admin portal; see ``stores/admins.py``."""

    __tablename__ = "admin"

    user: Mapped[str] = mapped_column(
        ForeignKey("mfa_user.name", ondelete="CASCADE"), primary_key=True
    )
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    one_time_until: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DeviceRecord(Record):
    """An authenticator of a user; it counts from *confirmed_at* on."""

    __tablename__ = "device"
    __table_args__ = (UniqueConstraint("user", "name"),)

    device_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey("mfa_user.name", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    algorithm: Mapped[str] = mapped_column(String(8))
    digits: Mapped[int]
    time_step_seconds: Mapped[int]
    key_version: Mapped[int]
    seed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    confirmed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    confirmed_step: Mapped[int | None] = mapped_column(BigInteger)
    drift_steps: Mapped[int] = mapped_column(default=0, server_default="0")


class RecoveryCodeRecord(Record):
    """A recovery code of a user, hashed and then encrypted; *used_by* is the login that used it."""

    __tablename__ = "recovery_code"

    code_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey("mfa_user.name", ondelete="CASCADE"), index=True)
    key_version: Mapped[int]
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    used_by: Mapped[str | None] = mapped_column(String(64))


class MailRecord(Record):
    """A mail to a user; see ``stores/outbox.py``. It is due until its *fate* is sealed.

    *once*, where it is set, keeps a second mail about the same thing out.
    """

    __tablename__ = "mail"

    mail_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    user: Mapped[str] = mapped_column(ForeignKey("mfa_user.name", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    once: Mapped[str | None] = mapped_column(String(320), unique=True)
    detail: Mapped[str] = mapped_column(Text)
    queued_at: Mapped[datetime] = mapped_column(UtcDateTime)
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    tries: Mapped[int]
    fate: Mapped[str] = mapped_column(String(16))
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    note: Mapped[str] = mapped_column(String(MAX_NOTE_CHARACTERS))


class AuditRecord(Record):
    """A row of the audit trail; see ``stores/audit.py``. Triggers refuse to change it."""

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    who: Mapped[str] = mapped_column(String(255))
    origin: Mapped[str] = mapped_column(String(255))
    act: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(NAME_CHARACTERS))
    called: Mapped[str] = mapped_column(String(NAME_CHARACTERS))
    detail: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))


class LoginEventRecord(Record):
    """A login that was, by its place in the event stream; see ``stores/login_history.py``."""

    __tablename__ = "login_event"
    __table_args__ = (
        Index("ix_login_event_user", "user", "event_id"),
        Index("ix_login_event_request_id", "request_id"),
    )

    event_id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False
    )
    at: Mapped[int] = mapped_column(BigInteger)  # Unix milliseconds
    result: Mapped[str] = mapped_column(String(16))
    user: Mapped[str] = mapped_column(String(LOGGED_CHARACTERS))
    called: Mapped[str] = mapped_column(String(LOGGED_CHARACTERS))
    typed: Mapped[str] = mapped_column(String(LOGGED_CHARACTERS))
    directory: Mapped[str] = mapped_column(String(32))
    client: Mapped[str] = mapped_column(String(63))
    nas_identifier: Mapped[str] = mapped_column(String(LOGGED_CHARACTERS))
    source: Mapped[str] = mapped_column(String(64))
    station: Mapped[str] = mapped_column(String(LOGGED_CHARACTERS))
    method: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(String(64))
    hint: Mapped[str] = mapped_column(String(LOGGED_CHARACTERS))
    request_id: Mapped[str] = mapped_column(String(32))
    node: Mapped[str] = mapped_column(String(LOGGED_CHARACTERS))
    left_out: Mapped[int]


class LoginCountRecord(Record):
    """How many logins of an hour came to the same at a client."""

    __tablename__ = "login_count"

    hour: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    client: Mapped[str] = mapped_column(String(63), primary_key=True)
    result: Mapped[str] = mapped_column(String(16), primary_key=True)
    reason: Mapped[str] = mapped_column(String(64), primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)


class LastLoginRecord(Record):
    """The last accepted login of a user; the user need not be on record."""

    __tablename__ = "last_login"

    user: Mapped[str] = mapped_column(String(LOGGED_CHARACTERS), primary_key=True)
    event_id: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[int] = mapped_column(BigInteger)  # Unix milliseconds
    client: Mapped[str] = mapped_column(String(63))
    nas_identifier: Mapped[str] = mapped_column(String(LOGGED_CHARACTERS))
    source: Mapped[str] = mapped_column(String(64))
    station: Mapped[str] = mapped_column(String(LOGGED_CHARACTERS))
    method: Mapped[str] = mapped_column(String(32))


class ClientSeenRecord(Record):
    """What a client's NAS was seen to send, by method; see ``stores/clients_seen.py``."""

    __tablename__ = "client_seen"

    client: Mapped[str] = mapped_column(String(63), primary_key=True)
    nas_identifier: Mapped[str] = mapped_column(String(NAME_CHARACTERS), primary_key=True)
    method: Mapped[str] = mapped_column(String(16), primary_key=True)
    first_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime)
    last_unsigned: Mapped[datetime | None] = mapped_column(UtcDateTime)
    requests: Mapped[int] = mapped_column(BigInteger)
    signed: Mapped[int] = mapped_column(BigInteger)
    proxied: Mapped[int] = mapped_column(BigInteger)
    resent: Mapped[int] = mapped_column(BigInteger)


class SignedClientRecord(Record):
    """A client that must sign its requests by an admin's word; see ``stores/signed_clients.py``."""

    __tablename__ = "signed_client"

    client: Mapped[str] = mapped_column(String(63), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class Fact(Record):
    """A fact about the installation: whether Redis was ever filled, which keys there are."""

    __tablename__ = "fact"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(String(255))


async def note(session: AsyncSession, name: str, value: str) -> bool:
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


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield *items* in order, *size* of them at a time: no statement shall be too long."""
    for at in range(0, len(items), size):
        yield items[at : at + size]


async def insert_of(session: AsyncSession, table: Any) -> Any:  # noqa: ANN401 - SQLAlchemy types each dialect's by itself
    """Return an INSERT into *table* that may say ON CONFLICT, as the session's database has it."""
    return _INSERT[(await session.connection()).dialect.name](table)


_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def utc_now() -> datetime:
    """Return the present moment, aware, in UTC."""
    return datetime.now(UTC)


async def begin_writing(session: AsyncSession) -> None:
    """Take SQLite's one write lock now, before anything is read that a write will depend on.

    Any write takes it, also one that meets no row. PostgreSQL locks rows instead.
    """
    if (await session.connection()).dialect.name == "sqlite":
        await session.execute(text("UPDATE fact SET value = value WHERE name = ''"))


def open_engine(url: URL, *, pool_size: int, timeout_seconds: float) -> AsyncEngine:
    """Return an engine whose errors and logs never show a parameter."""
    options: dict[str, Any] = {
        "hide_parameters": True,
        "pool_size": pool_size,
        "pool_timeout": timeout_seconds,
    }
    if url.get_backend_name() == "postgresql":
        options |= {
            "pool_pre_ping": True,
            "connect_args": {"timeout": timeout_seconds, "command_timeout": timeout_seconds},
        }
    else:
        options |= {
            "connect_args": {"timeout": timeout_seconds, "async_creator_fn": _connected_to_sqlite}
        }
    engine = create_async_engine(url, **options)
    if url.get_backend_name() == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    else:
        event.listen(engine.sync_engine, "invalidate", _hang_up)
    return engine


def _hang_up(connection: Any, _record: object, _error: object) -> None:  # noqa: ANN401 - DB-API connection
    """Cut a connection that is of no use any more.

    SQLAlchemy would say goodbye first: another wait for a server that hangs.
    """
    connection.driver_connection.terminate()


async def _connected_to_sqlite(*file: Any, **options: Any) -> aiosqlite.Connection:  # noqa: ANN401 - sqlite3's
    """Open a connection; where that fails, see its thread off before the loop may be closed.

    That thread's last word goes to the loop, and without one it would print a traceback.
    """
    connection = aiosqlite.connect(*file, **options)
    thread = connection._thread  # noqa: SLF001 - there is no other way to it; SQLAlchemy goes it too
    thread.daemon = True  # a command line ends whatever its connections wait for
    try:
        return await connection
    except sqlite3.Error:
        await asyncio.to_thread(thread.join)
        raise


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - DB-API connection
    cursor = connection.cursor()
    for pragma in ("foreign_keys=ON", "synchronous=FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    try:
        cursor.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        # This one does not wait for its turn. The mode is the file's: whoever is at it sets it.
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
    cursor.close()


class Database:
    """Sessions over the engine; a database that does not answer is BackendUnavailable."""

    def __init__(self, engine: AsyncEngine, *, mails: bool = False) -> None:
        """Open sessions over *engine*; with *mails* they queue mails (``stores/outbox.py``)."""
        self.engine = engine
        self._sessions = async_sessionmaker(expire_on_commit=False, info={QUEUES_MAILS: mails})
        pool = cast("AsyncAdaptedQueuePool", engine.pool)
        self._connect_seconds = pool.timeout()
        # The pool serves whoever asks at the right moment; a login must not starve in its queue.
        self._turns = asyncio.Semaphore(pool.size())

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """Open a session; the block commits by itself where it changes something.

        IntegrityError passes: it is an answer. Any other fault raises BackendUnavailable.
        """
        try:
            async with AsyncExitStack() as stack:
                # One wait for a place in the pool, for whether the connection in it still lives,
                # and for a new one where it does not.
                async with asyncio.timeout(self._connect_seconds):
                    await stack.enter_async_context(self._turns)
                    connection = await stack.enter_async_context(self.engine.connect())
                yield await stack.enter_async_context(self._sessions(bind=connection))
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise BackendUnavailable("database", _name(error)) from None

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def _name(error: Exception) -> str:
    """Return the driver's name of a fault; its text is left out, for it may quote values."""
    root: BaseException = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        root = error.orig.__cause__ or error.orig
    return getattr(root, "sqlite_errorname", type(root).__name__)
