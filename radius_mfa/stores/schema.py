"""The database schema: brought up to date at start, refused where it is ahead of this program."""

from importlib import resources
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from radius_mfa.errors import ConfigurationError
from radius_mfa.stores.records import Database, open_engine

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0011"
"""The newest migration that this program brings."""

MIGRATION_SECONDS = 300.0
"""How long one statement of a migration may take, and how long a node waits for another's."""

_ALONE = {
    # any number of our own: one node migrates, the others wait
    "postgresql": ("SELECT pg_advisory_xact_lock(7261646975)",),
    # a table is changed by rebuilding it, and dropping the old one must not cascade; this can be
    # switched outside a transaction alone, and Python's driver begins none for a table by itself
    "sqlite": ("PRAGMA foreign_keys=OFF", "BEGIN IMMEDIATE"),
}


async def upgrade(database: Database) -> None:
    """Bring the schema up to date, wholly or not at all.

    Raises ConfigurationError for a database that a newer release has migrated.
    """
    async with database.session() as session:
        connection = await session.connection()
        if await connection.run_sync(_revision) == HEAD:
            return
    url = database.engine.url
    patient = Database(open_engine(url, pool_size=1, timeout_seconds=MIGRATION_SECONDS))
    try:
        await _migrate(patient)
    finally:
        await patient.close()


async def _migrate(database: Database) -> None:
    async with database.session() as session:
        connection = await session.connection()
        for statement in _ALONE[connection.dialect.name]:
            await session.execute(text(statement))
        await connection.run_sync(_upgrade)
        await session.commit()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - a fifth of a second that only a migration needs
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    revision = _revision(connection)
    config = alembic_config()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise ConfigurationError(
            f"the database is at migration {revision}, which this release does not know",
            "a newer release has migrated it: run that one, or restore the backup from before",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def alembic_config() -> "Config":
    """Return Alembic's configuration over the migrations that the package brings."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    location = str(resources.files("radius_mfa.stores") / "migrations")
    config.set_main_option("script_location", location.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
