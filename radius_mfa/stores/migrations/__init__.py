"""Alembic migrations of the durable records."""
