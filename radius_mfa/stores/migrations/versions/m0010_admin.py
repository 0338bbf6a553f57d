"""Roles in the admin portal."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "admin",
        sa.Column(
            "user",
            sa.String(253),
            sa.ForeignKey("mfa_user.name", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("one_time_until", MOMENT),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("admin")
