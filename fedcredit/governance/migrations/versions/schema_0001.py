"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "alarms",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("institution", sa.String(length=128), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("suspends", sa.Boolean(), nullable=False),
        sa.Column("raised_by", sa.String(length=128), nullable=False),
        sa.Column("released", sa.Float(), nullable=True),
        sa.Column("released_by", sa.String(length=128), nullable=True),
        sa.Column("released_why", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alarms")),
    )
    op.create_index(op.f("ix_alarms_institution"), "alarms", ["institution"], unique=False)
    op.create_table(
        "audit_entries",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_entries")),
    )
    op.create_table(
        "audit_nodes",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "position", name=op.f("pk_audit_nodes")),
    )
    op.create_table(
        "audit_openings",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("subjects", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_openings")),
    )
    op.create_table(
        "checkpoints",
        sa.Column("origin", sa.String(length=200), nullable=False),
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("origin", "size", "root", name=op.f("pk_checkpoints")),
    )
    op.create_table(
        "consent_tokens",
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_consent_tokens")),
    )
    op.create_table(
        "consents",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("jti", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("subject", sa.String(length=18), nullable=False),
        sa.Column("institution", sa.String(length=128), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("kid", sa.String(length=64), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("max_uses", sa.Integer(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.Column("registered", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_consents")),
        sa.UniqueConstraint("jti", name=op.f("uq_consents_jti")),
        sa.UniqueConstraint("digest", name=op.f("uq_consents_digest")),
    )
    op.create_index(op.f("ix_consents_institution"), "consents", ["institution"], unique=False)
    op.create_index(op.f("ix_consents_subject"), "consents", ["subject"], unique=False)
    op.create_table(
        "contributions",
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("field", sa.String(length=128), nullable=False),
        sa.Column("measure", sa.String(length=16), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("model", "field", "measure", name=op.f("pk_contributions")),
    )
    op.create_table(
        "counters",
        sa.Column("institution", sa.String(length=128), nullable=False),
        sa.Column("what", sa.String(length=200), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False),
        sa.Column("questions", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("institution", "what", "period", name=op.f("pk_counters")),
    )
    op.create_table(
        "institutions",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("assessment", sa.Text(), nullable=False),
        sa.Column("assessment_digest", sa.LargeBinary(), nullable=True),
        sa.Column("assessed", sa.Float(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.Column("purposes", sa.Text(), nullable=False),
        sa.Column("suspended", sa.Float(), nullable=True),
        sa.Column("suspended_why", sa.Text(), nullable=True),
        sa.Column("suspended_by", sa.String(length=128), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_institutions")),
    )
    op.create_table(
        "keys",
        sa.Column("kid", sa.String(length=64), nullable=False),
        sa.Column("owner_kind", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("valid_from", sa.Float(), nullable=False),
        sa.Column("valid_to", sa.Float(), nullable=True),
        sa.Column("added", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_keys")),
    )
    op.create_index(op.f("ix_keys_owner_kind_owner"), "keys", ["owner_kind", "owner"], unique=False)
    op.create_table(
        "questions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("institution", sa.String(length=128), nullable=False),
        sa.Column("purpose", sa.String(length=64), nullable=False),
        sa.Column("use", sa.String(length=16), nullable=False),
        sa.Column("subject_of_use", sa.String(length=200), nullable=False),
        sa.Column("subjects", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("entry", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_questions")),
    )
    op.create_index(op.f("ix_questions_institution"), "questions", ["institution"], unique=False)
    op.create_index(op.f("ix_questions_time"), "questions", ["time"], unique=False)
    op.create_table(
        "requests",
        sa.Column("institution", sa.String(length=128), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("institution", "request", name=op.f("pk_requests")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "revocations",
        sa.Column("jti", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=18), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_revocations")),
    )
    op.create_table(
        "searches",
        sa.Column("institution", sa.String(length=128), nullable=False),
        sa.Column("subject", sa.String(length=18), nullable=False),
        sa.Column("predicate", sa.String(length=200), nullable=False),
        sa.Column("argument", sa.String(length=64), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint(
            "institution", "subject", "predicate", "argument", name=op.f("pk_searches")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "subject_counters",
        sa.Column("institution", sa.String(length=128), nullable=False),
        sa.Column("subject", sa.String(length=18), nullable=False),
        sa.Column("what", sa.String(length=200), nullable=False),
        sa.Column("period", sa.BigInteger(), nullable=False),
        sa.Column("questions", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "institution", "subject", "what", "period", name=op.f("pk_subject_counters")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "walks",
        sa.Column("institution", sa.String(length=128), nullable=False),
        sa.Column("direction", sa.String(length=8), nullable=False),
        sa.Column("subject", sa.String(length=18), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("institution", "direction", name=op.f("pk_walks")),
    )
    op.create_table(
        "question_fields",
        sa.Column("question", sa.Integer(), nullable=False),
        sa.Column("field", sa.String(length=128), nullable=False),
        sa.ForeignKeyConstraint(
            ["question"], ["questions.id"], name=op.f("fk_question_fields_question")
        ),
        sa.PrimaryKeyConstraint("question", "field", name=op.f("pk_question_fields")),
    )
