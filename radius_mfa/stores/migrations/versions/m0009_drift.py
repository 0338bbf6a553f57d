"""By how much the clock of a device was ahead when it was resynced."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column; no clock is known to be off."""
    op.add_column(
        "device", sa.Column("drift_steps", sa.Integer, nullable=False, server_default="0")
    )


def downgrade() -> None:
    """Drop it: devices whose clocks are off are refused then."""
    with op.batch_alter_table("device") as batch:
        batch.drop_column("drift_steps")
