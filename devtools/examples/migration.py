"""Create example."""

import sqlalchemy as sa
from alembic import op

from app.migrations.row_security import protect

revision = "0001_example"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and its indexes."""
    op.create_table(
        "example",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text()),
        sa.Column("completed", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("idempotency_hash", sa.LargeBinary()),
    )
    op.create_index("example_user_id", "example", ["user_id"])
    op.create_index("example_completed", "example", ["completed"])
    op.create_index("example_user_id_completed", "example", ["user_id", "completed"])
    op.create_index("example_user_id_id", "example", ["user_id", "id"], unique=True)
    op.create_index(
        "example_idempotency_key",
        "example",
        ["user_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    protect("example")


def downgrade() -> None:
    """Drop the table, with its policy and grants."""
    op.drop_table("example")
