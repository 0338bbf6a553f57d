"""Mails that wait to be sent."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

NAME = sa.String(253)
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the queue, and note of each user which end of a period they were reminded of."""
    op.add_column("mfa_user", sa.Column("reminded_of", MOMENT))
    op.create_table(
        "mail",
        sa.Column("mail_id", sa.String(16), primary_key=True),
        sa.Column("user", NAME, sa.ForeignKey("mfa_user.name", ondelete="CASCADE"), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("once", sa.String(320), unique=True),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("queued_at", MOMENT, nullable=False),
        sa.Column("due_at", MOMENT),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("fate", sa.String(16), nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("note", sa.String(255), nullable=False),
    )
    op.create_index("ix_mail_user", "mail", ["user"])
    op.create_index("ix_mail_due_at", "mail", ["due_at"])
    op.create_index("ix_mail_ended_at", "mail", ["ended_at"])


def downgrade() -> None:
    """Drop the queue, and the mails in it."""
    op.drop_table("mail")
    with op.batch_alter_table("mfa_user") as batch:
        batch.drop_column("reminded_of")
