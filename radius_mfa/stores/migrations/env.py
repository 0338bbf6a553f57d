"""Runs migrations over the connection that ``radius_mfa.stores.schema`` hands in."""

from alembic import context

from radius_mfa.stores.records import Record

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Record.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
)
with context.begin_transaction():
    context.run_migrations()
