"""Users of other directories: which one, and what people call them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add where a user is from; all that there are so far are local."""
    op.add_column("mfa_user", sa.Column("directory", sa.String(32)))
    op.add_column("mfa_user", sa.Column("user_name", sa.String(253)))
    op.create_index("ix_mfa_user_user_name", "mfa_user", ["user_name"])


def downgrade() -> None:
    """Drop it again; users of other directories keep their keys."""
    op.drop_index("ix_mfa_user_user_name", "mfa_user")
    with op.batch_alter_table("mfa_user") as table:
        table.drop_column("user_name")
        table.drop_column("directory")
