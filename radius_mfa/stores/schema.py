"""The database schema: brought up to date at start, refused where it is ahead of this program."""

from importlib import resources
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from radius_mfa.errors import ConfigurationError
from radius_mfa.stores.records import Database

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0001"
"""The newest migration that this program brings."""

_ADVISORY_LOCK = 7_261_646_975  # any number of our own: one node migrates, the others wait


async def upgrade(database: Database) -> None:
    """Bring the schema up to date.

    Raises ConfigurationError for a database that a newer release has migrated.
    """
    async with database.session() as session:
        connection = await session.connection()
        if await connection.run_sync(_revision) == HEAD:
            return
        if connection.dialect.name == "postgresql":
            await session.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
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
    config.set_main_option(
        "script_location", str(resources.files("radius_mfa.stores") / "migrations")
    )
    config.set_main_option("path_separator", "os")
    return config
