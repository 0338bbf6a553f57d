"""What each client was seen to send."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "client_seen",
        sa.Column("client", sa.String(63), primary_key=True),
        sa.Column("nas_identifier", sa.String(253), primary_key=True),
        sa.Column("method", sa.String(16), primary_key=True),
        sa.Column("first_seen", MOMENT, nullable=False),
        sa.Column("last_seen", MOMENT, nullable=False),
        sa.Column("last_unsigned", MOMENT),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("signed", sa.BigInteger, nullable=False),
        sa.Column("proxied", sa.BigInteger, nullable=False),
        sa.Column("resent", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("client_seen")
