"""Groups of users that are kept here."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "user_group",
        sa.Column(
            "user",
            sa.String(253),
            sa.ForeignKey("mfa_user.name", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("name", sa.String(128), primary_key=True),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("user_group")
