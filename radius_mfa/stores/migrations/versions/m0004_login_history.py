"""The history of logins: single ones, counts by the hour, and everybody's last one."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

EVENT_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # there it is the row's own number
MOMENT = sa.DateTime(timezone=True)
NAME = sa.String(259)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "login_event",
        sa.Column("event_id", EVENT_ID, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("result", sa.String(16), nullable=False),
        sa.Column("user", NAME, nullable=False),
        sa.Column("called", NAME, nullable=False),
        sa.Column("typed", NAME, nullable=False),
        sa.Column("directory", sa.String(32), nullable=False),
        sa.Column("client", sa.String(63), nullable=False),
        sa.Column("nas_identifier", NAME, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("station", NAME, nullable=False),
        sa.Column("method", sa.String(32), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("hint", NAME, nullable=False),
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("node", NAME, nullable=False),
        sa.Column("left_out", sa.Integer, nullable=False),
    )
    op.create_index("ix_login_event_user", "login_event", ["user", "event_id"])
    op.create_index("ix_login_event_request_id", "login_event", ["request_id"])
    op.create_table(
        "login_count",
        sa.Column("hour", MOMENT, primary_key=True),
        sa.Column("client", sa.String(63), primary_key=True),
        sa.Column("result", sa.String(16), primary_key=True),
        sa.Column("reason", sa.String(64), primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "last_login",
        sa.Column("user", NAME, primary_key=True),
        sa.Column("event_id", sa.BigInteger, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("client", sa.String(63), nullable=False),
        sa.Column("nas_identifier", NAME, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("station", NAME, nullable=False),
        sa.Column("method", sa.String(32), nullable=False),
    )


def downgrade() -> None:
    """Drop the history."""
    for table in ("last_login", "login_count", "login_event"):
        op.drop_table(table)
