"""Where mails to a user go."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the address; of users of directories it is learned when they log in next."""
    op.add_column("mfa_user", sa.Column("mail", sa.String(254)))


def downgrade() -> None:
    """Drop it again."""
    with op.batch_alter_table("mfa_user") as batch:
        batch.drop_column("mail")
