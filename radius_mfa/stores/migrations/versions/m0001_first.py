"""Users, local passwords, devices, facts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NAME = sa.String(253)
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables of the first release."""
    op.create_table(
        "mfa_user",
        sa.Column("name", NAME, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("suspended_at", MOMENT),
        sa.Column("created_at", MOMENT, nullable=False),
    )
    op.create_table(
        "local_user",
        sa.Column(
            "name", NAME, sa.ForeignKey("mfa_user.name", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("password_hash", sa.String(255), nullable=False),
        sa.Column("password_changed_at", MOMENT, nullable=False),
    )
    op.create_table(
        "device",
        sa.Column("device_id", sa.String(36), primary_key=True),
        sa.Column("user", NAME, sa.ForeignKey("mfa_user.name", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("algorithm", sa.String(8), nullable=False),
        sa.Column("digits", sa.Integer, nullable=False),
        sa.Column("time_step_seconds", sa.Integer, nullable=False),
        sa.Column("key_version", sa.Integer, nullable=False),
        sa.Column("seed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("confirmed_at", MOMENT),
        sa.Column("confirmed_step", sa.BigInteger),
        sa.UniqueConstraint("user", "name"),
    )
    op.create_index("ix_device_user", "device", ["user"])
    op.create_table(
        "fact",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("value", sa.String(255), nullable=False),
    )


def downgrade() -> None:
    """Drop the tables of the first release."""
    for table in ("fact", "device", "local_user", "mfa_user"):
        op.drop_table(table)
