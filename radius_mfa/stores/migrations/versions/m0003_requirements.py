"""What is required of each user, recovery codes, and the audit trail."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

NAME = sa.String(253)
MOMENT = sa.DateTime(timezone=True)

FACTS: dict[str, sa.types.TypeEngine[Any]] = {
    "required_from": MOMENT,
    "enrol_by": MOMENT,
    "exempt_until": MOMENT,
    "exempt_reason": sa.String(255),
    "factor_suspended_at": MOMENT,
}

REFUSE = {
    "sqlite": tuple(
        f"CREATE TRIGGER audit_no_{what.lower()} BEFORE {what} ON audit"
        " BEGIN SELECT RAISE(ABORT, 'the audit trail is only appended to'); END"
        for what in ("UPDATE", "DELETE")
    ),
    "postgresql": (
        """CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the audit trail is only appended to'; END $$""",
        """CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit
        FOR EACH ROW EXECUTE FUNCTION audit_append_only()""",
    ),
}
"""Whoever owns the database can drop these; the chain of hashes is what shows a change."""


def upgrade() -> None:
    """Add the facts of the requirement to users; make the other two tables."""
    for name, kind in FACTS.items():
        op.add_column("mfa_user", sa.Column(name, kind))
    op.create_table(
        "recovery_code",
        sa.Column("code_id", sa.String(36), primary_key=True),
        sa.Column("user", NAME, sa.ForeignKey("mfa_user.name", ondelete="CASCADE"), nullable=False),
        sa.Column("key_version", sa.Integer, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("used_at", MOMENT),
        sa.Column("used_by", sa.String(64)),
    )
    op.create_index("ix_recovery_code_user", "recovery_code", ["user"])
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("who", sa.String(255), nullable=False),
        sa.Column("origin", sa.String(255), nullable=False),
        sa.Column("act", sa.String(64), nullable=False),
        sa.Column("subject", NAME, nullable=False),
        sa.Column("called", NAME, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    for statement in REFUSE[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    """Drop what this migration brought, the audit trail too."""
    op.drop_table("audit")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_append_only()")
    op.drop_table("recovery_code")
    with op.batch_alter_table("mfa_user") as batch:
        for name in FACTS:
            batch.drop_column(name)
