"""Tables of a party's governance database, the same on SQLite and PostgreSQL.

Times are seconds since the epoch (UTC). JSON stands in text columns in canonical form.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

__all__ = [
    "ALARMS",
    "AUDIT_ENTRIES",
    "AUDIT_NODES",
    "AUDIT_OPENINGS",
    "CHECKPOINTS",
    "CONSENTS",
    "CONSENT_TOKENS",
    "CONTRIBUTIONS",
    "COUNTERS",
    "INSTITUTIONS",
    "KEYS",
    "METADATA",
    "QUESTIONS",
    "QUESTION_FIELDS",
    "REQUESTS",
    "REVOCATIONS",
    "SEARCHES",
    "SUBJECT_COUNTERS",
    "WALKS",
]

#: Constraint names must be the same on every database, so that migrations can name them.
METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: Public keys of subjects and institutions; a rotated key stays, with the end of its validity.
KEYS = Table(
    "keys",
    METADATA,
    Column("kid", String(64), primary_key=True),
    Column("owner_kind", String(16), nullable=False),
    Column("owner", String(128), nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("status", String(16), nullable=False),
    Column("valid_from", Float, nullable=False),
    Column("valid_to", Float),
    Column("added", Float, nullable=False),
    Index(None, "owner_kind", "owner"),
)

#: Consents that were presented and checked; narrow, as questions read and count thousands.
CONSENTS = Table(
    "consents",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("jti", String(64), nullable=False, unique=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("subject", String(18), nullable=False),
    Column("institution", String(128), nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("scope", Text, nullable=False),
    Column("kid", String(64), nullable=False),
    Column("not_before", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("max_uses", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column("registered", Float, nullable=False),
    Index(None, "subject"),
    Index(None, "institution"),
)
#: Their signed texts, which are evidence and which no rule reads again.
CONSENT_TOKENS = Table(
    "consent_tokens",
    METADATA,
    Column("digest", LargeBinary, primary_key=True),
    Column("token", Text, nullable=False),
)
#: Requests for which consents were used: each is answered once.
REQUESTS = Table(
    "requests",
    METADATA,
    Column("institution", String(128), primary_key=True),
    Column("request", LargeBinary, primary_key=True),
    Column("time", Float, nullable=False),
    sqlite_with_rowid=False,
)
#: Withdrawals, also of consents that were never presented here.
REVOCATIONS = Table(
    "revocations",
    METADATA,
    Column("jti", String(64), primary_key=True),
    Column("subject", String(18), nullable=False),
    Column("time", Float, nullable=False),
    Column("token", Text, nullable=False),
)

INSTITUTIONS = Table(
    "institutions",
    METADATA,
    Column("name", String(128), primary_key=True),
    Column("assessment", Text, nullable=False),
    Column("assessment_digest", LargeBinary),
    Column("assessed", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("purposes", Text, nullable=False),
    Column("suspended", Float),
    Column("suspended_why", Text),
    Column("suspended_by", String(128)),
)
#: How much was asked: one row per institution, thing counted and day, hour or minute; ``what``
#: says which ("day:questions", "minute:subjects", "day:field:annual_paid"), ``period`` is their
#: number since the epoch, ``questions`` the count.
COUNTERS = Table(
    "counters",
    METADATA,
    Column("institution", String(128), primary_key=True),
    Column("what", String(200), primary_key=True),
    Column("period", BigInteger, primary_key=True),
    Column("questions", BigInteger, nullable=False),
)
#: The same per enterprise; only of the current day and the one before.
SUBJECT_COUNTERS = Table(
    "subject_counters",
    METADATA,
    Column("institution", String(128), primary_key=True),
    Column("subject", String(18), primary_key=True),
    Column("what", String(200), primary_key=True),
    Column("period", BigInteger, primary_key=True),
    Column("questions", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
#: Arguments (threshold, tolerance, declaration) with which a predicate was asked, and when last.
SEARCHES = Table(
    "searches",
    METADATA,
    Column("institution", String(128), primary_key=True),
    Column("subject", String(18), primary_key=True),
    Column("predicate", String(200), primary_key=True),
    Column("argument", String(64), primary_key=True),
    Column("time", Float, nullable=False),
    sqlite_with_rowid=False,
)
#: How many questions in a row went up, or down, in the order of the codes.
WALKS = Table(
    "walks",
    METADATA,
    Column("institution", String(128), primary_key=True),
    Column("direction", String(8), primary_key=True),
    Column("subject", String(18), nullable=False),
    Column("length", BigInteger, nullable=False),
)
#: What the rules noticed, and every suspension with its end; rows are never deleted.
ALARMS = Table(
    "alarms",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("time", Float, nullable=False),
    Column("institution", String(128), nullable=False),
    Column("code", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    Column("suspends", Boolean, nullable=False),
    Column("raised_by", String(128), nullable=False),
    Column("released", Float),
    Column("released_by", String(128)),
    Column("released_why", Text),
    Index(None, "institution"),
)

#: Leaves of the audit log in order, numbered from 0 without gaps.
AUDIT_ENTRIES = Table(
    "audit_entries",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("time", Float, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("entry", LargeBinary, nullable=False),
)
#: Hashes of complete subtrees: ``level`` 0 are the leaves.
AUDIT_NODES = Table(
    "audit_nodes",
    METADATA,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)
#: Salts that open an entry's commitments; deleting one makes the entry anonymous for good.
AUDIT_OPENINGS = Table(
    "audit_openings",
    METADATA,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("salt", LargeBinary, nullable=False),
    Column("subjects", Text, nullable=False),
)
#: Signed tree heads: the own ones that were given out, and those of other parties as witness.
CHECKPOINTS = Table(
    "checkpoints",
    METADATA,
    Column("origin", String(200), primary_key=True),
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("root", LargeBinary, primary_key=True),
    Column("note", Text, nullable=False),
    Column("time", Float, nullable=False),
)

#: What was asked and what became of it; the source of the usage reports.
QUESTIONS = Table(
    "questions",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("time", Float, nullable=False),
    Column("institution", String(128), nullable=False),
    Column("purpose", String(64), nullable=False),
    Column("use", String(16), nullable=False),
    Column("subject_of_use", String(200), nullable=False),
    Column("subjects", Integer, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("entry", BigInteger, nullable=False),
    Index(None, "time"),
    Index(None, "institution"),
)
QUESTION_FIELDS = Table(
    "question_fields",
    METADATA,
    Column("question", Integer, ForeignKey("questions.id"), primary_key=True),
    Column("field", String(128), primary_key=True),
)
#: What each of the party's fields contributes to a model, as the platform reports it.
CONTRIBUTIONS = Table(
    "contributions",
    METADATA,
    Column("model", String(200), primary_key=True),
    Column("field", String(128), primary_key=True),
    Column("measure", String(16), primary_key=True),
    Column("share", Float, nullable=False),
    Column("time", Float, nullable=False),
)
