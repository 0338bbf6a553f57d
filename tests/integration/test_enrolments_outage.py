"""A database that is down, hangs or is not ours: no answer in time, no value told, and recovery.

Rule 9: none of it is a failure of the user.
"""

import asyncio
import re
import sqlite3
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from radius_mfa import tasks
from radius_mfa.errors import BackendUnavailable
from radius_mfa.stores import schema
from radius_mfa.stores.enrolments import EnrolmentStore, NewDevice
from radius_mfa.stores.keyring import KeyRing
from radius_mfa.stores.records import Database
from tests.integration.conftest import Told, everything, opened, sqlite_url
from tests.support.postgres import REFUSED_ROLE, RealPostgres
from tests.support.server import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_SECONDS = 1.0

PASSWORD_HASH = "canary-hash-of-alice"

on_sqlite = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)


@contextmanager
def unavailable(cause: str, seconds: float = 0.0) -> "Iterator[None]":
    """Expect BackendUnavailable for *cause* after about *seconds*, and no value in its text."""
    began = time.monotonic()
    with pytest.raises(BackendUnavailable) as raised:
        yield
    took = time.monotonic() - began
    assert seconds * 0.9 <= took < max(1.8 * seconds, 1.5), f"after {took:.2f} s"
    assert re.fullmatch(f"database: ({cause})", str(raised.value))
    assert "canary" not in "".join(traceback.format_exception(raised.value))
    fault: BaseException | None = raised.value
    while fault is not None:
        assert "canary" not in f"{fault} {fault!r}"
        fault = fault.__context__


@pytest.fixture
async def impatient(url: URL) -> AsyncIterator[Database]:
    made = opened(url, TIMEOUT_SECONDS)
    yield made
    await made.close()


@pytest.fixture
async def alice(impatient: Database, key_ring: KeyRing, told: Told) -> EnrolmentStore:
    """A store with a user and a device, its connections warm."""
    store = EnrolmentStore(impatient, key_ring, told)
    await store.add_user("alice", PASSWORD_HASH)
    await store.add_device("alice", NewDevice("phone"), confirmed=True)
    return store


def checked_out(database: Database) -> int:
    count: int = database.engine.pool.checkedout()  # type: ignore[attr-defined]
    return count


# PostgreSQL


@on_postgresql
async def test_a_stopped_server_is_no_answer_at_once_and_found_again_by_itself(
    alice: EnrolmentStore, postgres: RealPostgres
) -> None:
    await asyncio.to_thread(postgres.stop)
    try:
        for _ in range(3):
            with unavailable("FileNotFoundError|ConnectionRefusedError"):
                await alice.fetch("alice")
        with unavailable("FileNotFoundError|ConnectionRefusedError"):
            await alice.add_user("bob", PASSWORD_HASH)
    finally:
        await asyncio.to_thread(postgres.start)
    assert (await alice.fetch("alice")).known
    assert not (await alice.fetch("bob")).known


@on_postgresql
async def test_a_hanging_server_is_no_answer_in_time_and_found_again_by_itself(
    alice: EnrolmentStore, impatient: Database, postgres: RealPostgres
) -> None:
    """Also where more logins ask than the pool has connections for."""
    with postgres.hanging():
        with unavailable("TimeoutError", TIMEOUT_SECONDS):
            await alice.fetch("alice")

        async def one() -> None:
            with unavailable("TimeoutError", TIMEOUT_SECONDS):
                await alice.fetch("alice")

        await asyncio.gather(*(one() for _ in range(30)))
    assert (await alice.fetch("alice")).known
    assert checked_out(impatient) == 0


@on_postgresql
async def test_a_server_that_hangs_in_the_middle_of_a_change_undoes_it(
    alice: EnrolmentStore, database: Database, told: Told, postgres: RealPostgres
) -> None:
    before = await everything(database)
    hanging = postgres.hanging()

    async def hang() -> None:
        hanging.__enter__()

    told.also = hang
    try:
        with unavailable("TimeoutError", TIMEOUT_SECONDS):
            await alice.remove_device("alice", "phone")
    finally:
        hanging.__exit__(None, None, None)
    told.also = None
    assert await everything(database) == before
    await alice.remove_device("alice", "phone")


@on_postgresql
async def test_connections_that_a_restart_cut_cost_no_login(
    alice: EnrolmentStore, postgres: RealPostgres
) -> None:
    await asyncio.gather(*(alice.fetch("alice") for _ in range(5)))
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND client_port = -1"
    )
    for _ in range(5):
        assert (await alice.fetch("alice")).known


@pytest.mark.parametrize(
    ("database_name", "user", "cause"),
    [
        ("missing", "postgres", "InvalidCatalogNameError"),
        ("postgres", "nobody", "InvalidAuthorizationSpecificationError"),
        ("postgres", REFUSED_ROLE, "InvalidAuthorizationSpecificationError"),
        ("postgres", "postgres", "UndefinedTableError"),
    ],
)
async def test_a_server_that_refuses_us_is_named_by_its_fault(
    postgres: RealPostgres, key_ring: KeyRing, database_name: str, user: str, cause: str
) -> None:
    database = opened(postgres.url(database_name, user))
    with unavailable(cause):
        await EnrolmentStore(database, key_ring, Told()).fetch("alice")
    await database.close()


# SQLite


@on_sqlite
async def test_a_file_that_another_program_writes_to_is_no_answer_in_time_for_writers_only(
    alice: EnrolmentStore, url: URL, impatient: Database
) -> None:
    """Logins go on meanwhile: in WAL mode readers do not wait."""
    with closing(sqlite3.connect(str(url.database), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with unavailable("SQLITE_BUSY", TIMEOUT_SECONDS):
            await alice.suspend(["alice"], suspended=True)
        with unavailable("SQLITE_BUSY", TIMEOUT_SECONDS):
            await alice.add_user("bob", PASSWORD_HASH)
        enrolment = await alice.fetch("alice")
        assert (enrolment.known, enrolment.suspended) == (True, False)
        other.execute("ROLLBACK")
    await alice.suspend(["alice"], suspended=True)
    assert (await alice.fetch("alice")).suspended
    assert checked_out(impatient) == 0


@on_sqlite
@pytest.mark.parametrize(
    ("content", "cause"),
    [("folder", "SQLITE_CANTOPEN"), ("rubbish", "SQLITE_NOTADB"), ("empty", "SQLITE_ERROR")],
)
async def test_a_file_that_is_no_database_of_ours_is_named_by_its_fault(
    backend: str, tmp_path: Path, key_ring: KeyRing, content: str, cause: str
) -> None:
    assert backend == "sqlite"
    path = tmp_path / "canary.db"
    if content == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"rubbish" * 1000 if content == "rubbish" else b"")
    database = opened(sqlite_url(path))
    with unavailable(cause):
        await EnrolmentStore(database, key_ring, Told()).fetch("alice")
    await database.close()


async def test_a_file_that_does_not_open_leaves_no_thread_behind(
    tmp_path: Path, key_ring: KeyRing
) -> None:
    """One that outlives the loop would print a traceback over the error of a command line."""
    database = opened(sqlite_url(tmp_path))
    store = EnrolmentStore(database, key_ring, Told())
    before = set(threading.enumerate())
    for _ in range(100):
        with unavailable("SQLITE_CANTOPEN"):
            await store.fetch("alice")
        new = [thread.name for thread in set(threading.enumerate()) - before]
        assert [name for name in new if not name.startswith("asyncio_")] == []
    await database.close()


@on_sqlite
async def test_a_new_file_that_another_program_holds_is_waited_for(empty_url: URL) -> None:
    """Switching a file to WAL mode is the one thing for which SQLite itself does not wait."""
    database = opened(empty_url)
    with closing(sqlite3.connect(str(empty_url.database), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        upgrade = tasks.spawn(schema.upgrade(database))
        done, _ = await asyncio.wait([upgrade], timeout=0.2)
        assert not done
        other.execute("COMMIT")
    await upgrade
    await database.close()


# Either


async def test_a_login_that_is_given_up_leaves_no_connection_behind(
    alice: EnrolmentStore, url: URL, impatient: Database, database: Database
) -> None:
    """The login's deadline cancels what waits for a lock; the pool is whole afterwards."""
    async with database.session() as session, session.begin():
        await session.execute(text("UPDATE mfa_user SET version = version + 1"))
        waiting = [tasks.spawn(alice.suspend(["alice"], suspended=True)) for _ in range(4)]
        await asyncio.to_thread(eventually, lambda: checked_out(impatient) == 4, "four to wait")
        for task in waiting:
            task.cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}
    assert checked_out(impatient) == 0, url
    await asyncio.gather(*(alice.suspend(["alice"], suspended=True) for _ in range(4)))


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda s: s.add_user("canary", PASSWORD_HASH), id="add_user"),
        pytest.param(lambda s: s.fetch("canary"), id="fetch"),
        pytest.param(lambda s: s.suspend(["canary"], suspended=True), id="suspend"),
    ],
)
async def test_a_fault_in_the_database_tells_no_value(
    empty_url: URL, key_ring: KeyRing, work: Callable[[EnrolmentStore], Coroutine[Any, Any, object]]
) -> None:
    """L02: SQLAlchemy would quote the parameters, and PostgreSQL the row."""
    database = opened(empty_url)
    await schema.upgrade(database)
    async with database.session() as session, session.begin():
        await session.execute(text("ALTER TABLE mfa_user RENAME COLUMN name TO n"))
    with unavailable("SQLITE_ERROR|UndefinedColumnError"):
        await work(EnrolmentStore(database, key_ring, Told()))
    await database.close()
