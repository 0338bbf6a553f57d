"""The schema on real databases: brought up to date wholly or not at all, by one node at a time."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.engine import URL

from radius_mfa import tasks
from radius_mfa.errors import BackendUnavailable, ConfigurationError
from radius_mfa.stores import keyring, schema
from radius_mfa.stores.enrolments import EnrolmentStore, NewDevice
from radius_mfa.stores.keyring import KeyRing
from radius_mfa.stores.records import Database, Record
from tests.integration.conftest import Statements, Told, everything, opened

TABLES = {
    "admin",
    "alembic_version",
    "audit",
    "client_seen",
    "device",
    "fact",
    "last_login",
    "local_user",
    "login_count",
    "login_event",
    "mail",
    "mfa_user",
    "recovery_code",
    "signed_client",
    "user_group",
}
NEXT = f"{int(schema.HEAD) + 1:04}"
"""The migration that a newer release would bring."""

NODE = """
import asyncio, sys
from pathlib import Path
from sqlalchemy import make_url
from radius_mfa.stores import installation, keyring, keys, schema
from radius_mfa.stores.records import Database, open_engine

class Redis:
    async def open_epoch(self, forgotten_until):
        assert forgotten_until == 0
        print("new")

    async def notice_lost_memory(self, now):
        print("filled before")

async def main(url, key_ring):
    database = Database(open_engine(make_url(url), pool_size=2, timeout_seconds=30))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await schema.upgrade(database)
    await keys.check(database, keyring.load(Path(key_ring)))
    await installation.open_epoch(database, Redis(), 1.0)
    await database.close()

asyncio.run(main(*sys.argv[1:]))
"""
"""What every node does at its start, from the moment that it is told to."""


@pytest.fixture
async def empty(empty_url: URL) -> AsyncIterator[Database]:
    made = opened(empty_url)
    yield made
    await made.close()


async def tables(database: Database) -> set[str]:
    async with database.session() as session:
        connection = await session.connection()
        return set(await connection.run_sync(lambda c: inspect(c).get_table_names()))


async def revision(database: Database) -> str | None:
    async with database.session() as session:
        found: str | None = await session.scalar(text("SELECT version_num FROM alembic_version"))
        return found


async def set_revision(database: Database, number: str) -> None:
    async with database.session() as session, session.begin():
        await session.execute(text("UPDATE alembic_version SET version_num = :n"), {"n": number})


def with_migration(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str) -> None:
    """Let this release bring one more migration, whose upgrade is *body*."""
    lines = ["import sqlalchemy as sa", "from alembic import op", f'revision = "{NEXT}"']
    lines += [
        f'down_revision = "{schema.HEAD}"',
        "def upgrade():",
        *(f"    {line}" for line in body.split("\n")),
    ]
    (folder / "next.py").write_text("\n".join(lines))
    made = schema.alembic_config

    def config() -> Config:
        config = made()
        brought = Path(config.get_main_option("script_location") or "") / "versions"
        config.set_main_option("version_locations", f"{brought}:{folder}")
        return config

    monkeypatch.setattr(schema, "alembic_config", config)
    monkeypatch.setattr(schema, "HEAD", NEXT)


# Refusals


async def test_a_database_one_migration_ahead_is_refused_and_left_alone(
    empty: Database, key_ring: KeyRing
) -> None:
    """A newer release knows what it means; this one would only guess."""
    await schema.upgrade(empty)
    await EnrolmentStore(empty, key_ring, Told()).add_user("alice", "hash")
    await set_revision(empty, NEXT)
    before = await everything(empty)
    with pytest.raises(ConfigurationError, match=f"is at migration {NEXT}") as refused:
        await schema.upgrade(empty)
    assert "a newer release has migrated it" in refused.value.cure
    assert await everything(empty) == before
    assert await revision(empty) == NEXT
    assert await tables(empty) == TABLES


@pytest.mark.parametrize("found", ["empty", "first"])
async def test_a_migration_that_breaks_off_leaves_nothing_behind(
    empty: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: str
) -> None:
    """So the next start does not stumble over half of it; SQLite needs asking for that."""
    if found == "first":
        await schema.upgrade(empty)
    before = await tables(empty)
    with monkeypatch.context() as patch:
        body = 'op.create_table("half", sa.Column("x", sa.Integer))\nop.execute("rubbish")'
        with_migration(patch, tmp_path, body)
        with pytest.raises(BackendUnavailable, match="database"):
            await schema.upgrade(empty)
    assert await tables(empty) == before
    await schema.upgrade(empty)
    assert await tables(empty) == TABLES


# Upgrades


async def test_an_empty_database_gets_every_table(empty: Database) -> None:
    await schema.upgrade(empty)
    assert await tables(empty) == TABLES
    assert await revision(empty) == schema.HEAD


def test_head_is_the_newest_migration_that_the_package_brings() -> None:
    assert ScriptDirectory.from_config(schema.alembic_config()).get_heads() == [schema.HEAD]


async def test_the_models_are_what_the_migrations_make(empty: Database) -> None:
    """Types, keys, indexes and defaults too."""
    await schema.upgrade(empty)

    def differences(connection: Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(
            compare_metadata(MigrationContext.configure(connection, opts=options), Record.metadata)
        )

    async with empty.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_a_database_up_to_date_costs_no_alembic_and_no_lock(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its import takes a fifth of a second of every command line."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "alembic", None)
        with pytest.raises(ImportError):
            await schema.upgrade(empty)
    await schema.upgrade(empty)
    statements = Statements()
    statements.watch(empty)
    monkeypatch.setitem(sys.modules, "alembic", None)
    await schema.upgrade(empty)
    assert statements.sent
    assert all(sent.lstrip().upper().startswith(("SELECT", "PRAGMA")) for sent in statements.sent)
    assert not any("lock" in sent for sent in statements.sent)


async def test_rows_outlive_a_migration_that_rebuilds_their_table(
    empty: Database, key_ring: KeyRing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SQLite changes a table by making another one; dropping the old one must not cascade."""
    await schema.upgrade(empty)
    store = EnrolmentStore(empty, key_ring, Told())
    await store.add_user("alice", "hash")
    await store.add_device("alice", NewDevice("phone"), confirmed=True)
    before = await everything(empty)
    body = (
        'with op.batch_alter_table("mfa_user", recreate="auto") as batch:\n'
        '    batch.alter_column("created_at", nullable=True)'
    )
    with_migration(monkeypatch, tmp_path, body)
    await schema.upgrade(empty)
    assert await revision(empty) == NEXT
    assert await everything(empty) == before
    async with empty.engine.connect() as connection:
        columns = await connection.run_sync(lambda c: inspect(c).get_columns("mfa_user"))
    assert {column["name"]: column["nullable"] for column in columns}["created_at"]
    await store.delete_user("alice")
    assert (await everything(empty))["device"] == [], "foreign keys are watched again"


async def test_a_node_waits_for_another_ones_migration_longer_than_for_an_answer(
    empty_url: URL, empty: Database
) -> None:
    """And one long statement of its own does not count as a dead database either."""
    impatient = opened(empty_url, timeout_seconds=0.2)
    async with empty.session() as session:
        for statement in schema._ALONE[empty_url.get_backend_name()]:
            await session.execute(text(statement))
        upgrade = tasks.spawn(schema.upgrade(impatient))
        done, _ = await asyncio.wait([upgrade], timeout=0.6)
        assert not done, "it waits for the other node"
    await upgrade
    assert await tables(impatient) == TABLES
    await impatient.close()


async def test_nodes_that_start_at_once_on_an_empty_database_all_start(
    empty_url: URL, tmp_path: Path
) -> None:
    """One migrates, notes the key and says that Redis has nothing to forget; the others wait."""
    keyring.create(tmp_path / "keyring")
    words = (empty_url.render_as_string(hide_password=False), str(tmp_path / "keyring"))
    pipe = asyncio.subprocess.PIPE
    nodes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", NODE, *words), stdin=pipe, stdout=pipe, stderr=pipe
        )
        for _ in range(3)
    ]
    for node in nodes:
        assert node.stdout is not None
        assert await node.stdout.readline() == b"ready\n"
    results = await asyncio.gather(*(node.communicate(b"go\n") for node in nodes))
    assert [errors.decode() for _, errors in results] == ["", "", ""]
    assert sorted(out for out, _ in results) == [b"filled before\n", b"filled before\n", b"new\n"]
