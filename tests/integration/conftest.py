"""Stores over real databases: each of their tests runs on SQLite and again on PostgreSQL."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.engine import URL

from radius_mfa.errors import BackendUnavailable
from radius_mfa.stores import schema
from radius_mfa.stores.enrolments import EnrolmentStore
from radius_mfa.stores.keyring import KEY_OCTETS, KeyRing
from radius_mfa.stores.records import Database, Record, open_engine
from tests.support.postgres import RealPostgres

TIMEOUT_SECONDS = 10.0
"""So long that a busy machine is not taken for a dead database."""

_KEPT = "kept"


@dataclass
class Told:
    """Stands where Redis is told of a change; the call of number *fail_on* finds Redis down."""

    users: list[str] = field(default_factory=list)
    fail_on: int = 0
    also: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, user: str) -> None:
        self.users.append(user)
        if self.also is not None:
            await self.also()
        if len(self.users) == self.fail_on:
            raise BackendUnavailable("redis", "ConnectionError")


async def everything(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    async with database.session() as session:
        return {
            table.name: [
                tuple(row)
                for row in await session.execute(select(table).order_by(*table.primary_key))
            ]
            for table in Record.metadata.sorted_tables
        }


@dataclass
class Statements:
    """The SQL statements that an engine has sent."""

    sent: list[str] = field(default_factory=list)

    def watch(self, database: Database) -> None:
        def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            self.sent.append(statement)

        event.listen(database.engine.sync_engine, "before_cursor_execute", note)


def sqlite_url(path: Path) -> URL:
    return URL.create("sqlite+aiosqlite", database=str(path))


def opened(url: URL, timeout_seconds: float = TIMEOUT_SECONDS, *, mails: bool = False) -> Database:
    """Return the database as a node opens it; close it."""
    engine = open_engine(url, pool_size=5, timeout_seconds=timeout_seconds)
    return Database(engine, mails=mails)


def _migrate(url: URL) -> None:
    async def run() -> None:
        database = opened(url)
        await schema.upgrade(database)
        await database.close()

    asyncio.run(run())


@pytest.fixture(scope="session")
def postgres() -> Iterator[RealPostgres]:
    """A PostgreSQL server; whoever stops it starts it again."""
    with RealPostgres() as server:
        server.execute(f"CREATE DATABASE {_KEPT}")
        _migrate(server.url(_KEPT))
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    _migrate(sqlite_url(path))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """A database without tables."""
    if backend == "sqlite":
        return sqlite_url(tmp_path / "radius-mfa.db")
    server: RealPostgres = request.getfixturevalue("postgres")
    return server.url(server.new_database())


@pytest.fixture
def url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """A database of this release without rows; leave its schema alone."""
    if backend == "sqlite":
        path = tmp_path / "radius-mfa.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        return sqlite_url(path)
    server: RealPostgres = request.getfixturevalue("postgres")
    tables = ", ".join(Record.metadata.tables)
    server.execute(f"TRUNCATE {tables}", _KEPT)  # ten times faster than a new database
    return server.url(_KEPT)


@pytest.fixture
async def database(url: URL) -> AsyncIterator[Database]:
    made = opened(url)
    yield made
    await made.close()


@pytest.fixture
async def other_database(url: URL) -> AsyncIterator[Database]:
    """The same database as another node sees it."""
    made = opened(url)
    yield made
    await made.close()


@pytest.fixture
async def sending(url: URL) -> AsyncIterator[Database]:
    """The database as a node opens it that has a mail server."""
    made = opened(url, mails=True)
    yield made
    await made.close()


@pytest.fixture
async def other_sending(url: URL) -> AsyncIterator[Database]:
    """The same as another node sees it."""
    made = opened(url, mails=True)
    yield made
    await made.close()


@pytest.fixture
def key_ring() -> KeyRing:
    return KeyRing({1: bytes(range(KEY_OCTETS))})


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def store(database: Database, key_ring: KeyRing, told: Told) -> EnrolmentStore:
    return EnrolmentStore(database, key_ring, told)


@pytest.fixture
def other_store(other_database: Database, key_ring: KeyRing) -> EnrolmentStore:
    """The store of another node."""
    return EnrolmentStore(other_database, key_ring, Told())
